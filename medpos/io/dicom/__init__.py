"""DICOM: which files are one image (``series``), reading it (``planes``, ``volume``), and a SEG that refers to it.

Nothing of a patient leaves this package but in the SEG, whose patient module DICOM wants equal to its source's.
"""

from medpos.io.dicom.series import MODALITIES, Group, group, is_dicom
from medpos.io.dicom.volume import read

__all__ = ["MODALITIES", "Group", "group", "is_dicom", "read"]
