"""Read images of every format, and write label maps on their grids."""
