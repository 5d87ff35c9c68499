"""Segment and classify with stacked U-Nets (SUNet)."""
