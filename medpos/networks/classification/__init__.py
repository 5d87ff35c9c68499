"""Classify images with the networks that the papers compare with; segmentation networks begin with their weights."""
