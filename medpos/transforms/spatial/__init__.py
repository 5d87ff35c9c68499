"""Change the grid: crop, resize, shift, deform, and stack neighboring slices."""
