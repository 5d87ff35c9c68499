"""Images of the formats that the tests predict on."""

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid


def labels_of(path):
    return np.asarray(nibabel.load(path).dataobj)


def dicom(pixels, **tags):
    """A DICOM image of rows x columns with a patient in it."""
    content = pydicom.Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = generate_uid()
    content.StudyInstanceUID, content.SeriesInstanceUID = generate_uid(), generate_uid()
    content.PatientName, content.PatientID, content.PatientBirthDate = "Zimmermann^Erika", "ID4711", "19500101"
    content.PatientSex, content.StudyID, content.AccessionNumber = "F", "1", "1"
    content.StudyDate = content.StudyTime = content.ReferringPhysicianName = ""
    content.Modality, content.SeriesNumber, content.InstanceNumber = "CR", 1, 1
    content.Rows, content.Columns = pixels.shape
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated, content.BitsStored, content.HighBit, content.PixelRepresentation = 16, 12, 11, 0
    content.PixelSpacing = [2.8, 2.8]
    content.PixelData = np.ascontiguousarray(pixels, np.uint16).tobytes()
    for key, value in tags.items():
        if value is None:
            delattr(content, key)
        else:
            setattr(content, key, value)
    return content


def save(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save_as(path, enforce_file_format=True)
    return path
