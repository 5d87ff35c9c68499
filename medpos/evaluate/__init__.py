"""Measure the label maps of any tool against the ground truth, on the grid of the ground truth.

``classes`` reads the classes, ``pairs`` finds the files, ``volumes`` reads them and compares their grids, ``measuring``
measures them with :mod:`medpos.metrics`, ``writing`` writes run folders and compares tools.
"""
