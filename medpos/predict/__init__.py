"""Segmenting new images with trained runs: ``python -m medpos predict``.

The way of a case: ``inputs`` (which files are one case) -> ``readers``, ``dicom``, ``channels`` (grey values and
geometry) -> ``orientation`` (as in training) -> ``model`` (the run's own chain and network, back to the image's grid)
-> ``measurements`` and ``outputs``. ``case`` leads one case along it; ``cohort`` many, on one of the ``engines``;
``records`` keeps what is done.
"""
