"""Segment with encoder-decoder networks: U-Net 2015, UNet++, SegNet, U-SegNet and relatives."""
