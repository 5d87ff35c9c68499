import json
from pathlib import Path

import numpy as np
import pytest
import raw
from PIL import Image
from running import leave_to_torture
from scipy.ndimage import binary_dilation, label

from data_prep.datasets import cells, nuclei
from data_prep.phantoms import write
from data_prep.phantoms.cells import arrange
from data_prep.phantoms.nuclei import LOOKS, draw, fluorescence, stained
from data_prep.phantoms.shapes import MIN_OBJECT_PIXELS, BlobScene, case_generator
from data_prep.verify import check
from medpos.core.errors import InputError

READERS = {"nuclei": nuclei, "cells": cells}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Write seven nuclei phantoms, one of each look, and four frames of cells."""
    root = tmp_path_factory.mktemp("microscopy")
    write("nuclei", root / "nuclei", len(LOOKS), seed=1)
    write("cells", root / "cells", 4, seed=1)
    return {kind: root / kind for kind in READERS}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def without_marker(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in raw.tree(folder).items() if name != "PHANTOM.json"}


@pytest.mark.parametrize("kind", leave_to_torture(list(READERS), [*READERS][1:]))
def test_same_bytes_for_any_number_of_workers_and_cases(kind, sources, tmp_path):
    write(kind, tmp_path / "pool", cases=2, seed=1, workers=2)
    write(kind, tmp_path / "other", cases=2, seed=2)
    pool, other = without_marker(tmp_path / "pool"), without_marker(tmp_path / "other")
    assert pool.items() < without_marker(sources[kind]).items()
    images = {digest for name, digest in pool.items() if "/images/" in name or name.startswith(("01/", "02/"))}
    assert len(images) == {"nuclei": 2, "cells": 4}[kind]
    assert not images & set(other.values())


@pytest.mark.parametrize("kind", READERS)
def test_the_reader_of_the_real_data_accepts_phantoms(kind, sources, tmp_path):
    READERS[kind].prepare(sources[kind], tmp_path / "out")
    assert check(tmp_path / "out")[1] == []
    assert json.loads((tmp_path / "out/dataset.json").read_text())["phantom"] is True
    for case in READERS[kind].find_cases(sources[kind])[1 if kind == "cells" else slice(None)]:
        volume = READERS[kind].read_case(case)
        assert volume.details["objects"] >= 5
        assert np.bincount(volume.instances.ravel()).min() >= MIN_OBJECT_PIXELS
        assert volume.details.get("overlap_pixels", 0) == volume.details.get("unlabelled_cells", 0) == 0


def test_nuclei_are_stored_as_in_the_download(sources):
    folders = [path for path in sources["nuclei"].iterdir() if path.is_dir()]
    assert len(folders) == len(LOOKS)
    for folder in folders:
        assert len(folder.name) == 64
        image = Image.open(folder / "images" / f"{folder.name}.png")
        assert image.mode == "RGBA"
        assert np.asarray(image)[..., 3].min() == 255
        for mask in (folder / "masks").iterdir():
            assert (Image.open(mask).size, Image.open(mask).mode) == (image.size, "L")
            assert set(np.unique(pixels(mask))) == {0, 255}
    assert len({Image.open(next((folder / "images").iterdir())).size for folder in folders}) >= 4


@pytest.fixture(scope="module")
def drawn():
    """Draw two images of each look: (colors, numbers, look)."""
    return [(*draw(case_generator(3, 2, index), look), look) for index, look in enumerate(LOOKS * 2)]


def test_looks(drawn):
    for colors, numbers, look in drawn:
        inside, outside = colors[numbers > 0].astype(float), colors[numbers == 0].astype(float)
        assert (inside.mean() > outside.mean()) == (look.paint is fluorescence)
        gray = (colors == colors[..., :1]).all()
        assert gray == (look.paint is not stained)
        if not gray:  # hematoxylin takes more red than blue
            assert inside[:, 2].mean() - inside[:, 0].mean() > 20 > abs(outside[:, 2].mean() - outside[:, 0].mean())


def test_nuclei_touch_and_differ_in_brightness(drawn):
    for colors, numbers, look in drawn:
        objects = np.unique(numbers[numbers > 0])
        assert label(numbers > 0)[1] < 0.9 * len(objects)
        if look.paint is fluorescence:
            means = [colors[numbers == number].mean() for number in objects]
            assert np.percentile(means, 90) > 1.5 * np.percentile(means, 10)


def test_no_threshold_finds_the_nuclei(drawn):
    best = []
    for colors, numbers, _ in drawn:
        gray, inside = colors.mean(-1), numbers > 0
        found = [side for level in range(0, 256, 3) for side in (gray > level, gray < level)]
        best.append(max(2 * (side & inside).sum() / (side.sum() + inside.sum()) for side in found))
    assert 0.6 < np.mean(best) < 0.95


def test_cells_are_stored_as_in_the_download(sources):
    root = sources["cells"]
    for sequence in ("01", "02"):
        names = [sorted(path.name for path in (root / f"{sequence}{sub}").glob("*.tif")) for sub in ("", "_GT/SEG")]
        assert names == [[f"t00{time}.tif" for time in range(4)], ["man_seg000.tif", "man_seg002.tif"]]
        assert (
            len(list((root / f"{sequence}_ST/SEG").iterdir()))
            == len(list((root / f"{sequence}_GT/TRA").iterdir()))
            == 4
        )
        image, gold = pixels(root / sequence / "t002.tif"), pixels(root / f"{sequence}_GT/SEG/man_seg002.tif")
        assert (image.dtype, gold.dtype, image.shape, gold.shape) == (np.uint8, np.uint16, (520, 696), (520, 696))
        silver = pixels(root / f"{sequence}_ST/SEG/man_seg002.tif")
        assert not (silver[gold == 0]).any()
        assert 0.9 < 2 * ((silver > 0) & (gold > 0)).sum() / ((silver > 0).sum() + (gold > 0).sum()) < 0.99


def test_cells_have_a_halo_and_an_inside_like_the_ground(sources):
    for sequence in ("01", "02"):
        image, gold = (
            pixels(sources["cells"] / sequence / path) for path in ("t000.tif", f"../{sequence}_GT/SEG/man_seg000.tif")
        )
        halo = binary_dilation(gold > 0, iterations=4) & (gold == 0)
        inside, outside = (
            np.histogram(image[area], 64, (0, 256), density=True)[0] * 4 for area in (gold > 0, gold == 0)
        )
        assert image[halo].mean() > image[gold == 0].mean() + 15
        assert np.minimum(inside, outside).sum() > 0.4


def test_cells_move_slowly():
    for sequence in (1, 2):
        first, next_, later = (arrange(case_generator(1, 3, sequence), frame).instances() for frame in (0, 1, 60))

        def same(other, first=first):
            return (other[first > 0] == first[first > 0]).mean()

        assert 0.9 < same(next_) < 1
        assert same(later) < 0.75


def test_a_scene_gives_each_pixel_to_the_nearer_blob():
    scene = BlobScene((20, 30))
    for x in (9, 18):
        scene.add(np.array([x, 10]), (6.0, 6.0), 0.0, np.zeros((2, 1)))
    rows, columns = np.indices((20, 30))
    left, right = np.hypot(columns - 9, rows - 10) / 6, np.hypot(columns - 18, rows - 10) / 6
    expected = np.where(right < left, 2, 1) * (np.minimum(left, right) < 1)
    assert np.array_equal(scene.instances(), expected)
    assert scene.instances(0.3).max() == 0  # 9 pixels are too few


@pytest.mark.parametrize(("kind", "cases"), [("nuclei", 1000), ("cells", 1001)])
def test_too_many_are_refused(kind, cases, tmp_path):
    with pytest.raises(InputError, match=f"cases: expected 1 to {cases - 1} {kind} phantoms"):
        write(kind, tmp_path, cases)
