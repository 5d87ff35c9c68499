"""Append position channels, and probe what a network makes of them."""
