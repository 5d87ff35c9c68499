"""Provide what every other room needs: errors, files, labels, colors, memory and devices."""
