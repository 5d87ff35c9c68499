"""Turn a classifier of patches into a network for whole images, as the lecture shows."""
