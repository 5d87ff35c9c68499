"""The study: planned runs, their statistics and their report."""
