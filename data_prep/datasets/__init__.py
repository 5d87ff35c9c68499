"""Read the published downloads, one module a data set."""
