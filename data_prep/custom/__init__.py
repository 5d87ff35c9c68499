"""Prepare custom data: a folder of images, an nnU-Net data set or a Decathlon task."""
