"""Group DICOM files into images (``series``), read them (``planes``, ``volume``), and write a SEG that refers to them.

No data of a patient leave this package except in the SEG, whose patient module must equal that of its source.
"""

from medpos.io.dicom.files import has_magic, is_dicom
from medpos.io.dicom.kinds import INDEX
from medpos.io.dicom.series import MODALITIES, Group, group_files
from medpos.io.dicom.volume import read_dicom

__all__ = ["INDEX", "MODALITIES", "Group", "group_files", "has_magic", "is_dicom", "read_dicom"]
