"""Read DICOM in every transfer syntax that can be written here, without a package under the GPL."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medpos.core.errors import InputError
from medpos.io import dicom
from medpos.io.dicom import pixels
from medpos.io.dicom.pixels import decode_by_gdcm

PUBLISHED = Path(pydicom.__file__).parent / "data/test_files"
SHAPE = (33, 20)


def values_of(bits, signed, seed=0):
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    dtype = np.dtype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")
    values = np.random.default_rng(seed).integers(low, high, SHAPE).astype(dtype)
    values[0, :2] = low, high - 1
    return values


def plain(values, bits, **tags):
    content = pydicom.Dataset()
    content.file_meta = pydicom.dataset.FileMetaDataset()
    content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content.SOPClassUID, content.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", generate_uid()
    content.PatientName, content.Modality = "Zimmermann^Erika", "CR"
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.Rows, content.Columns = values.shape
    content.BitsAllocated, content.BitsStored, content.HighBit = 8 * values.itemsize, bits, bits - 1
    content.PixelRepresentation = int(values.dtype.kind == "i")
    content.PixelData = values.tobytes()
    for key, value in tags.items():
        setattr(content, key, value)
    return content


def compress_by_gdcm(values, folder, compressor):
    """Return the frame that GDCM writes, and its transfer syntax."""
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(folder / "gdcm.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(values))
    written = pydicom.dcmread(folder / "gdcm.dcm")
    return next(generate_frames(written.PixelData, number_of_frames=1)), written.file_meta.TransferSyntaxUID


def encode(content, values, syntax, folder):
    if syntax in (RLELossless, JPEGLSLossless):
        content.compress(syntax, generate_instance_uid=False)
    elif syntax in ("JPEG", "JPEG2000"):
        frame, uid = compress_by_gdcm(values, folder, syntax)
        content.PixelData = encapsulate([frame])
        content["PixelData"].is_undefined_length = True
        content.file_meta.TransferSyntaxUID = uid
    else:
        if syntax == ExplicitVRBigEndian:
            content.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
            content["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
        content.file_meta.TransferSyntaxUID = syntax
    path = folder / "a.dcm"
    content.save_as(path, enforce_file_format=True)
    return path


SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    RLELossless,
    JPEGLSLossless,
    "JPEG",
    "JPEG2000",
]


@pytest.mark.parametrize(
    ("syntax", "bits", "signed"),
    [
        (syntax, bits, signed)
        for syntax in SYNTAXES
        for bits, signed in ((8, False), (12, False), (16, False), (16, True))
        if (syntax, bits) != ("JPEG", 8)  # which SimpleITK doesn't write
    ],
)
def test_values_are_those_of_the_uncompressed_file(tmp_path, syntax, bits, signed):
    values = values_of(bits, signed)
    for tags in ({}, {"RescaleSlope": 0.5, "RescaleIntercept": -7}):
        content = plain(values, bits, **tags)
        expected = dicom.read_dicom([encode(content, values, ExplicitVRLittleEndian, tmp_path)])
        found = dicom.read_dicom([encode(plain(values, bits, **tags), values, syntax, tmp_path)])
        assert np.array_equal(found.values, expected.values)
        assert np.array_equal(expected.values[..., 0].T, values * tags.get("RescaleSlope", 1.0) - (7 if tags else 0))
        assert (found.gray_range, found.gray_notes) == (expected.gray_range, expected.gray_notes)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "693_J2KI.dcm",
        "JPEGLSNearLossless_16.dcm",
    ],
)
def test_gdcm_and_pydicom_agree(name):
    content = pydicom.dcmread(PUBLISHED / name)
    assert np.array_equal(decode_by_gdcm(content, 0), content.pixel_array)


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_jpeg_extended_of_12_bits(name):
    direct = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(PUBLISHED / name)))[0]
    scan = dicom.read_dicom([PUBLISHED / name])
    assert np.array_equal(scan.values[..., 0].T, direct)
    assert direct.max() > 255


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("syntax", ["JPEG", "JPEG2000", JPEGLSLossless, RLELossless])
def test_the_lowest_values_are_white_in_every_syntax(tmp_path, monkeypatch, syntax, bits, signed):
    monkeypatch.setattr(pixels, "_needs_gdcm", lambda content: content.file_meta.TransferSyntaxUID in pixels._BY_GDCM)
    values = values_of(16, signed) >> (16 - bits)
    content = plain(values, bits, PhotometricInterpretation="MONOCHROME1")
    scan = dicom.read_dicom([encode(content, values, syntax, tmp_path)])
    assert np.array_equal(scan.values[..., 0].T, sum(scan.gray_range) - values)


def test_the_lowest_values_are_white_in_jpeg_extended(tmp_path):
    content = pydicom.dcmread(PUBLISHED / "JPGExtended.dcm")
    dark = dicom.read_dicom([PUBLISHED / "JPGExtended.dcm"])
    content.PhotometricInterpretation = "MONOCHROME1"
    content.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    scan = dicom.read_dicom([tmp_path / "a.dcm"])
    assert np.array_equal(scan.values, np.float32(sum(dark.gray_range)) - dark.values)


def test_jpeg_lossless_of_any_predictor(tmp_path):
    values = values_of(12, False)
    content = plain(values, 12)
    content.PixelData = encapsulate([compress_by_gdcm(values, tmp_path, "JPEG")[0]])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = JPEGLossless  # of which selection value 1 is one
    content.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert np.array_equal(dicom.read_dicom([tmp_path / "a.dcm"]).values[..., 0].T, values)


@pytest.mark.parametrize("number", [201, 202, 203])
def test_high_throughput_jpeg_2000_is_refused_by_its_name(tmp_path, number):
    content = plain(values_of(12, False), 12)
    content.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2.4.{number}"
    content.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError) as caught:
        dicom.read_dicom([tmp_path / "a.dcm"])
    assert len(str(caught.value).splitlines()) == 1
    assert "High-Throughput JPEG 2000" in str(caught.value)
    assert "convert it to an uncompressed one" in str(caught.value)


def test_frames_of_jpeg_lossless_in_any_order(tmp_path):
    frames = [values_of(16, False, seed) for seed in (1, 2, 3)]
    content = plain(frames[0], 16, NumberOfFrames=3)
    content.PixelData = encapsulate([compress_by_gdcm(frame, tmp_path, "JPEG")[0] for frame in frames])
    content.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    for index in (2, 0, 1):
        assert np.array_equal(decode_by_gdcm(content, index), frames[index])


@pytest.mark.parametrize("lost", [2, 400])
def test_a_truncated_stream_is_refused_without_the_patients_name(tmp_path, lost, capfd):
    values = values_of(16, False)
    frame, uid = compress_by_gdcm(values, tmp_path, "JPEG")
    content = plain(values, 16)
    content.PixelData = encapsulate([frame[:-lost]])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = uid
    content.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="file 1: expected pixels that can be decoded") as caught:
        dicom.read_dicom([tmp_path / "a.dcm"])
    assert "Zimmermann" not in str(caught.value)
    assert "Zimmermann" not in "".join(capfd.readouterr())
