"""Run studies: train many models, test them under many conditions, and decide on a claim.

``declaration`` reads a study's file, ``models`` identifies trained models, ``plan`` finds the jobs that are left,
``jobs`` runs one of them, ``engines`` many, ``run`` all; ``results`` writes tables, figures and verdicts, with
``medpos.statistics``.
"""
