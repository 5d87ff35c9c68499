"""Compare the gray values and the geometry of every format, bit depth and dimension with SimpleITK's own reading.

SimpleITK writes each file and reads it back; ``predict`` and ``data_prep`` must find the same.
"""

import numpy as np
import pydicom
import pytest
import SimpleITK

from data_prep import pictures as prepared
from medpos.io import dicom, readers

VOLUMES = ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd", "a.hdr"]
DEPTHS = {
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
    "int32": (-(2**23), 2**23),  # what float32, in which predict computes, holds exactly
    "float32": (-1e6, 1e6),
}
SHAPES = {"2D": (40, 33), "3D": (4, 40, 33), "2D, 3 channels": (40, 33, 3), "3D, 2 channels": (4, 40, 33, 2)}
PICTURES = [
    ("a.png", "uint8", "2D"),
    ("a.png", "uint16", "2D"),
    ("a.png", "uint8", "2D, 3 channels"),
    ("a.png", "uint16", "2D, 3 channels"),
    ("a.tif", "uint8", "2D"),
    ("a.tif", "uint16", "2D"),
    ("a.tif", "int16", "2D"),
    ("a.tif", "float32", "2D"),
    ("a.tif", "uint8", "3D"),
    ("a.tif", "uint16", "3D"),
    ("a.tif", "uint8", "2D, 3 channels"),
    ("a.tif", "uint16", "2D, 3 channels"),
    ("a.bmp", "uint8", "2D"),
    ("a.bmp", "uint8", "2D, 3 channels"),
]


def make(depth, shape):
    low, high = DEPTHS[depth]
    values = np.random.default_rng(0).uniform(low, high, SHAPES[shape]).astype(depth)
    values.flat[:2] = low, high
    made = SimpleITK.GetImageFromArray(values, isVector="channels" in shape)
    rank = made.GetDimension()
    made.SetSpacing((0.5, 0.75, 2.5)[:rank])
    made.SetOrigin((10.0, -20.0, 30.0)[:rank])
    if rank == 3:
        made.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))
    return made


def values_of(direct, shape):
    """Return what SimpleITK read as [X, Y, Z(, C)]."""
    values = SimpleITK.GetArrayFromImage(direct)
    if shape.startswith("2D") and direct.GetDimension() == 2:
        values = values[None]
    return values.swapaxes(0, 2)


def affine_of(direct):
    """Return the affine to RAS+ space, from the places of four voxels."""
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    points = np.array([direct.TransformIndexToPhysicalPoint(corner) for corner in corners]) * [-1, -1, 1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = (points[1:] - points[0]).T, points[0]
    return affine


@pytest.mark.parametrize("reader", ["predict", "data_prep"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", VOLUMES)
def test_volumes(tmp_path, name, depth, shape, reader):
    SimpleITK.WriteImage(make(depth, shape), str(tmp_path / name))
    direct = SimpleITK.ReadImage(str(tmp_path / name))
    channels = int(shape[4]) if "channels" in shape else 1
    if reader == "predict":
        found = readers.read_volume(tmp_path / name, multichannel=channels > 1)
        values, spacing, affine = found.values, found.spacing_mm, found.target.affine
    else:
        found = prepared.read_image(tmp_path / name, channels)
        values, spacing, affine = found.data, found.spacing, found.affine
        assert values.dtype == depth
    assert np.array_equal(values, values_of(direct, shape))
    assert spacing[:2] == pytest.approx(direct.GetSpacing()[:2])
    if direct.GetDimension() == 3:
        assert spacing == pytest.approx(direct.GetSpacing())
        assert np.allclose(affine, affine_of(direct), atol=1e-5)


@pytest.mark.parametrize("reader", ["predict", "data_prep"])
@pytest.mark.parametrize(("name", "depth", "shape"), PICTURES)
def test_pictures(tmp_path, name, depth, shape, reader):
    SimpleITK.WriteImage(make(depth, shape), str(tmp_path / name))
    expected = values_of(SimpleITK.ReadImage(str(tmp_path / name)), shape)
    if expected.ndim == 4 and shape == "2D":  # SimpleITK reads the palette of a gray BMP
        expected = expected[..., 0]
    if reader == "predict":
        values = readers.read_picture(tmp_path / name, multichannel="channels" in shape).values
    else:
        values = prepared.read_image(tmp_path / name, 3 if "channels" in shape else 1).data
    assert np.array_equal(values, expected)


@pytest.mark.parametrize(
    ("depth", "compressor"),
    [
        (depth, compressor)
        for depth in ("uint8", "int16", "uint16")
        for compressor in ("", "JPEG", "JPEG2000")
        if (depth, compressor) != ("uint8", "JPEG")  # which SimpleITK doesn't write
    ],
)
def test_one_dicom_file(tmp_path, depth, compressor):
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.dcm"))
    if compressor:
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
    writer.Execute(make(depth, "2D"))
    direct = SimpleITK.ReadImage(str(tmp_path / "a.dcm"))
    found = dicom.read_dicom([tmp_path / "a.dcm"])
    assert np.array_equal(found.values, values_of(direct, "3D"))


@pytest.mark.parametrize("slope", [1, 0.5])
@pytest.mark.parametrize("depth", ["uint8", "int16", "uint16"])
def test_a_dicom_series(tmp_path, depth, slope):
    made = make(depth, "3D")
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    turn = made.GetDirection()
    for number in range(made.GetDepth()):
        part = made[:, :, number]
        origin = made.TransformIndexToPhysicalPoint((0, 0, number))
        for key, value in {
            "0008|0060": "MR",
            "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{number}",
            "0020|0032": "\\".join(map(str, origin)),
            "0020|0037": "\\".join(str(turn[place]) for place in (0, 3, 6, 1, 4, 7)),
        }.items():
            part.SetMetaData(key, value)
        writer.SetFileName(str(tmp_path / f"{made.GetDepth() - number}.dcm"))
        writer.Execute(part)
    for path in tmp_path.iterdir():
        content = pydicom.dcmread(path)
        content.RescaleSlope, content.RescaleIntercept = slope, -3
        content.save_as(path)
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    direct = SimpleITK.ReadImage(names)
    [group] = dicom.group_files(sorted(tmp_path.iterdir()))
    found = dicom.read_dicom(group.files)
    assert np.allclose(found.values, values_of(direct, "3D"))
    assert found.spacing_mm == pytest.approx(direct.GetSpacing())
    assert np.allclose(found.target.affine, affine_of(direct), atol=1e-5)
