"""Draw overlays and figures in one style."""
