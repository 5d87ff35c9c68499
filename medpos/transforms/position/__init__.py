"""Append position channels, and alter them to probe a trained network."""
