"""Tell DICOM objects that are no images by their SOP class, or their modality where they lack it."""

from typing import Any

from medpos.io.dicom.files import is_index
from medpos.io.dicom.values import read_text

INDEX = "DICOMDIR"
_STORAGE = "1.2.840.10008.5.1.4.1.1."  # root of the storage classes
# Kinds by the rest of the UID, of which the longest that fits counts: PS3.4, B.5.
_KINDS = {
    "9.": "waveform",
    "11.": "PR",
    "66": "RAW",
    "66.1": "REG",
    "66.2": "FID",
    "66.3": "REG",
    "66.4": "SEG",
    "66.5": "surface SEG",
    "66.6": "tractography",
    "66.7": "SEG",
    "66.8": "SEG",
    "67": "RWV",
    "68.": "surface scan",
    "77.1.5.3": "stereometry",
    "78.": "eye measurements",
    "79.": "eye measurements",
    "80.": "eye measurements",
    "88.": "SR",
    "88.59": "KO",
    "90.": "assessment",
    "104.": "encapsulated document",
    "200.": "CT protocol",
    "201.": "MR protocol",
    "481.2": "RTDOSE",
    "481.3": "RTSTRUCT",
    "481.4": "RTRECORD",
    "481.5": "RTPLAN",
    "481.": "RT object",
    "481.1": "",  # RT image
    "481.23": "",  # enhanced RT image
    "481.24": "",
}
_MODALITIES = (
    "ANN ASMT AU DOC ECG EEG EMG EOG EPS FID HC HD KER KO LEN OAM PLAN PR REG RESP RTDOSE RTPLAN RTRECORD "
    "RTSTRUCT RWV SEG SMR SR SRF STAIN TEXTUREMAP VA"
)


def find_other_kind(header: Any) -> str:
    """Return the kind of a DICOM object that is no image; empty for an image.

    Args:
        header: data set with SOPClassUID, Modality and DirectoryRecordSequence, as far as the file has them.
    """
    if is_index(header):
        return INDEX
    uid = read_text(header, "SOPClassUID") or read_text(header.file_meta, "MediaStorageSOPClassUID")
    if uid.startswith(_STORAGE):
        rest = uid.removeprefix(_STORAGE)
        fitting = [key for key in _KINDS if rest == key or rest.startswith(key if key[-1] == "." else f"{key}.")]
        return _KINDS[max(fitting, key=len)] if fitting else ""
    modality = read_text(header, "Modality").upper()
    return modality if modality in _MODALITIES.split() else ""
