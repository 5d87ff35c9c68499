"""Segmenting new images with trained runs: ``python -m medpos predict``.

The way of a case: ``inputs`` (which files are one case) -> ``readers``, ``dicom`` (grey values and geometry) ->
``orientation`` (as in training) -> ``model`` (the run's own chain and network, back to the image's grid) ->
``measurements`` and ``outputs``. ``cohort`` leads one case after another along it.
"""
