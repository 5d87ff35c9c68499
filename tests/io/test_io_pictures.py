import numpy as np
import pytest
from PIL import Image

from data_prep import pictures
from medpos.io import readers
from medpos.io.pictures.pages import UPRIGHT_NOTE

ROWS = np.add.outer(np.arange(24) * 7, np.arange(16) * 3).astype(np.uint8)
# What undoes each orientation, on [rows, columns] as stored (EXIF 2.3, table of tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def save(path, values, orientation):
    image = Image.fromarray(values)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, **({"quality": 100} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_exif_orientation(tmp_path, name, orientation):
    path = save(tmp_path / name, ROWS, orientation)
    upright = UPRIGHT[orientation](ROWS).astype(int)
    scan, prepared = readers.read_picture(path), pictures.read_image(path, 1)
    assert np.abs(scan.values[..., 0].T - upright).max() <= (2 if name == "a.jpg" else 0)
    assert np.array_equal(scan.values, prepared.data)
    assert list(prepared.notes) == scan.notes == [UPRIGHT_NOTE] * (orientation > 1)


@pytest.mark.parametrize("orientation", [2, 5, 6, 8])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_exif_orientation_of_16_bits(tmp_path, name, orientation):
    rows = ROWS.astype(np.uint16) * 13
    path = save(tmp_path / name, rows, orientation)
    assert np.array_equal(readers.read_picture(path).values[..., 0].T, UPRIGHT[orientation](rows))
    assert np.array_equal(pictures.read_image(path, 1).data[..., 0].T, UPRIGHT[orientation](rows))


@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_exif_orientation_of_label_maps(tmp_path, orientation):
    classes = ROWS // 64
    plain = pictures.read_label(save(tmp_path / "a.png", classes, orientation))
    assert np.array_equal(plain.data[..., 0].T, UPRIGHT[orientation](classes))
    image = Image.fromarray(classes)
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "p.png", exif=exif)
    assert np.array_equal(pictures.read_label(tmp_path / "p.png").data, plain.data)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_orientation_outside_the_standard_is_none(tmp_path, orientation):
    path = save(tmp_path / "a.png", ROWS, orientation)
    assert np.array_equal(readers.read_picture(path).values[..., 0].T, ROWS)
