"""Lift a function of tensors to a transform of items, with or without randomness."""
