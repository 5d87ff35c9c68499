"""Read custom data: a folder of images, nnU-Net's raw data, a Decathlon task."""
