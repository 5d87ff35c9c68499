"""Make images of the formats that the tests predict on."""

import hashlib

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ORIENTATION = [0.6, 0.8, 0, 0, 0, -1]


def labels_of(path):
    return np.asarray(nibabel.load(path).dataobj)


def dicom(pixels, **tags):
    """Make a DICOM image [rows, columns] with the data of a patient."""
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


def directory(path):
    """Write the index of a medium."""
    content = pydicom.Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    content.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    content.FileSetID, content.DirectoryRecordSequence = "DISC", []
    return save(content, path)


def case_of(content, is_series=False):
    """Return the name of a DICOM case: a hash of the UID of its instance or series."""
    uid = content.SeriesInstanceUID if is_series else content.SOPInstanceUID
    return f"case-{hashlib.sha256(uid.encode()).hexdigest()[:10]}"


def series(image, folder, order=None, **tags):
    """Write the slices of a NIfTI stack as an MR series, displayed as the array."""
    values = np.asarray(image.dataobj)
    sizes = image.header.get_zooms()
    uids = {key: pydicom.uid.generate_uid() for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    for n in order or range(values.shape[2]):
        content = dicom(
            values[..., n].T,
            Modality="MR",
            SOPClassUID="1.2.840.10008.5.1.4.1.1.4",
            **uids,
            PositionReferenceIndicator="",
            ImageOrientationPatient=[0.6, 0.8, 0, 0, 0, -1],
            ImagePositionPatient=[-0.8 * n * sizes[2], 0.6 * n * sizes[2], 0],
            PixelSpacing=[sizes[1], sizes[0]],
            SliceThickness=8,
            InstanceNumber=(n * 7) % 50 + 1,
            BitsStored=16,
            HighBit=15,
            **tags,
        )
        content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID
        save(content, folder / f"IM{(n * 7) % 50:03d}.dcm")
    return folder


def sequence(**tags):
    item = Dataset()
    for key, value in tags.items():
        setattr(item, key, value)
    return pydicom.Sequence([item])


def enhanced(image, phases=1, apart=False, slopes=(1,)):
    """Make a multi-frame image of the shuffled slices of a NIfTI stack; ``apart``: frames share no geometry."""
    values, sizes = np.asarray(image.dataobj), [float(v) for v in image.header.get_zooms()]
    planes = [(z, phase) for phase in range(phases) for z in range(values.shape[2])]
    planes = [planes[n] for n in np.random.default_rng(0).permutation(len(planes))]
    measures = sequence(PixelSpacing=[sizes[1], sizes[0]], SliceThickness=8.0, SpacingBetweenSlices=sizes[2])
    common = {
        "PixelMeasuresSequence": measures,
        "PlaneOrientationSequence": sequence(ImageOrientationPatient=ORIENTATION),
    }
    groups, frames = [], []
    for n, (z, phase) in enumerate(planes):
        group = Dataset()
        place = [-0.8 * z * sizes[2], 0.6 * z * sizes[2], 0]
        group.PlanePositionSequence = sequence(ImagePositionPatient=place)
        group.FrameContentSequence = sequence(TemporalPositionIndex=phase + 1, DimensionIndexValues=[z + 1, phase + 1])
        slope = slopes[n % len(slopes)]
        group.PixelValueTransformationSequence = sequence(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")
        for key, value in common.items() if apart else ():
            setattr(group, key, value)
        groups.append(group)
        frames.append((values[..., z].T // slope) * (1 if phase == 0 else 0.5))
    pixels = np.stack(frames).astype(np.uint16)
    content = dicom(pixels[0], Modality="MR", SOPClassUID=ENHANCED_MR, PixelSpacing=None, BitsStored=16, HighBit=15)
    content.file_meta.MediaStorageSOPClassUID = ENHANCED_MR
    content.FrameOfReferenceUID, content.PositionReferenceIndicator = pydicom.uid.generate_uid(), ""
    content.NumberOfFrames, content.PixelData = len(frames), pixels.tobytes()
    content.PerFrameFunctionalGroupsSequence = pydicom.Sequence(groups)
    shared = Dataset()
    for key, value in {} if apart else common.items():
        setattr(shared, key, value)
    content.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    return content, planes


def pictures(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 48), np.uint8)).save(folder / f"case{n:02d}.png")
    return folder
