"""Provide what every other package needs: errors, files, labels, colors, memory and devices."""
