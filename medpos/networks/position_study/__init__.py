"""Segment with the networks of the position study: U-Net, small CNN and mean mask."""
