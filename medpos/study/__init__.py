"""Studies: many models under many conditions, their statistics, and what they say about a claim.

``declaration`` reads a study's file, ``models`` says which trained model is which, ``plan`` finds what is left to do,
``jobs`` does one of it, ``engines`` many, ``run`` all; ``grid`` takes the tables in, ``paired``, ``statistics``,
``verdict`` and ``results`` make of them what people read.
"""
