"""Lift a function on arrays to a transform of dictionaries, with or without randomness."""
