"""Segment new images with trained runs: ``python -m medpos predict``.

A case passes through these modules: ``inputs`` (files of a case) -> :mod:`medpos.io` (gray values and geometry) ->
``loading`` and ``orientation`` (training orientation and units) -> ``model`` (the run's own preprocessing and network)
-> ``label_maps`` (the image's grid) -> ``measurements`` and ``overlays``. ``case`` takes one case through them,
``cohort`` many cases on one of the ``engines``. ``ledger`` names the cases of all calls into a folder, ``records``
keeps track of the finished ones, and ``tables`` lists their measurements.
"""
