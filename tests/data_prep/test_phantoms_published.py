import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from running import leave_to_torture
from scipy.ndimage import binary_dilation, distance_transform_edt
from typer.testing import CliRunner

from data_prep.__main__ import app
from data_prep.phantoms import KINDS, MAX_CASES, write
from data_prep.phantoms.brain import draw as draw_brain
from data_prep.phantoms.retina import draw as draw_retina
from data_prep.phantoms.shapes import case_generator
from data_prep.phantoms.street import draw as draw_street
from data_prep.verify import check

CASES = {"ibsr": 2, "drive": 4, "camvid": 4}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write the raw folder of each kind."""
    root = tmp_path_factory.mktemp("published")
    for kind, cases in CASES.items():
        write(kind, root / kind, cases=cases, seed=1)
    return {kind: root / kind for kind in CASES}


@pytest.fixture(scope="module")
def brain():
    return draw_brain(case_generator(5, 2, 0))


@pytest.fixture(scope="module")
def retinas():
    return [draw_retina(case_generator(5, 3, index)) for index in range(4)]


@pytest.fixture(scope="module")
def streets():
    return [draw_street(case_generator(5, 4, index)) for index in range(6)]


def digests(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "PHANTOM.json")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", leave_to_torture(list(CASES), [*CASES][1:]))
def test_a_case_is_the_same_in_any_number_of_cases(kind, folders, tmp_path):
    write(kind, tmp_path / "one", cases=1, seed=1)
    one, all_of_them = digests(tmp_path / "one"), digests(folders[kind])
    assert one.items() < all_of_them.items()
    pictures = [digest for name, digest in all_of_them.items() if "mask" not in name and not name.endswith(".hdr")]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize(("kind", "source"), [("ibsr", "IBSR_02"), ("drive", "01_test"), ("camvid", "0006R0_f00060")])
def test_phantoms_are_prepared_by_the_command_line(kind, source, folders, tmp_path):
    for _ in range(2):
        made = CliRunner().invoke(app, [kind, "--source", str(folders[kind]), "--out", str(tmp_path / "out")])
        assert made.exit_code == 0
    assert "unchanged: " in made.stdout
    sound = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert (sound.exit_code, sound.stdout.startswith("ok: ")) == (0, True)
    manifest = json.loads((tmp_path / "out/dataset.json").read_text())
    assert manifest["phantom"] is True
    assert sum(len(manifest[part]) for part in ("training", "validation", "test")) == CASES[kind]
    assert manifest["training"]
    path = tmp_path / f"out/images/{source}.nii.gz"
    path.write_bytes(path.read_bytes()[:-5])
    assert any(f"{source}.nii.gz: expected a complete gzip" in problem for problem in check(tmp_path / "out")[1])


def test_as_many_phantoms_as_the_data_set_has(tmp_path, monkeypatch):
    written = []
    monkeypatch.setitem(KINDS, "ibsr", lambda out, seed, index: written.append(index))
    result = CliRunner().invoke(app, ["phantoms", "--kind", "ibsr", "--out", str(tmp_path / "out")])
    assert (result.exit_code, len(written)) == (0, MAX_CASES["ibsr"])


def test_ibsr_files_are_as_in_both_downloads(folders):
    odd, even = folders["ibsr"] / "IBSR_01", folders["ibsr"] / "IBSR_02"
    inside = {path.relative_to(odd).as_posix() for path in odd.rglob("*.*")}
    kinds = {"ana_strip": "images", "segTRI_ana": "segmentation", "segTRI_fill_ana": "segmentation"}
    assert inside == {f"{kinds[k]}/analyze/IBSR_01_{k}{end}" for k in kinds for end in (".hdr", ".img")}
    assert {path.name for path in even.iterdir()} == {f"IBSR_02_{kind}.nii.gz" for kind in kinds}
    pair = nib.load(odd / "images/analyze/IBSR_01_ana_strip.hdr")
    assert (odd / "images/analyze/IBSR_01_ana_strip.hdr").read_bytes()[:4] == b"\0\0\1\x5c"  # 348, big-endian
    assert (pair.shape, pair.get_data_dtype().newbyteorder("=")) == ((256, 128, 256), np.int16)
    image = nib.load(even / "IBSR_02_ana_strip.nii.gz")
    assert image.shape == (256, 128, 256, 1)
    assert image.header.get_zooms()[1] == 1.5
    assert 0.8 < image.header.get_zooms()[0] == image.header.get_zooms()[2] <= 1.0


def test_brain_anatomy(brain):
    image, tissue, filled, spacing = brain
    csf, gray, white = (np.count_nonzero(tissue == k) * np.prod(spacing) / 1000 for k in (1, 2, 3))
    assert 4 < csf < 80  # ml
    assert 500 < gray < 1000
    assert 350 < white < 750
    assert not any(np.take(image, end, axis).any() for axis in range(3) for end in (0, -1))
    means = [image[tissue == k].mean() for k in (1, 2, 3)]
    assert means[0] < 0.6 * means[1] < 0.6 * means[2]
    assert not image[filled == 0].any()  # without the skull
    assert set(np.unique(filled[tissue != filled])) == {1}
    # Gray matter covers white matter: of the voxels that touch the outside, few are white.
    rim = binary_dilation(filled[:, :, 128] == 0) & (filled[:, :, 128] > 0)
    assert np.mean(tissue[:, :, 128][rim] == 3) < 0.05
    # The cortex is a thin sheet, and it is folded: much longer than an ellipse's rim.
    cortex = tissue[:, :, 150] == 2
    depth = distance_transform_edt(cortex, (spacing[0], spacing[1]))
    assert np.percentile(depth[cortex], 95) < 6
    edge = np.count_nonzero(binary_dilation(tissue[:, :, 150] == 3) & cortex)
    assert edge > 2.5 * np.count_nonzero(binary_dilation(filled[:, :, 150] == 0) & (filled[:, :, 150] > 0))


def test_brain_noise_and_partial_volume(brain):
    image, tissue, _, _ = brain
    gray, white = (np.sort(image[tissue == k]) for k in (2, 3))
    threshold = 0.5 * (np.median(gray) + np.median(white))
    wrong = np.mean(gray > threshold) + np.mean(white < threshold)
    assert 0.05 < wrong < 0.5


def test_drive_files_are_as_in_the_download(folders):
    root = folders["drive"]
    names = {path.relative_to(root).as_posix() for path in root.rglob("*.*")} - {"PHANTOM.json"}
    expected = {f"test/2nd_manual/{n}_manual2.gif" for n in ("01", "02")}
    for part, numbers in (("training", ("21", "22")), ("test", ("01", "02"))):
        for n in numbers:
            expected |= {f"{part}/images/{n}_{part}.tif", f"{part}/1st_manual/{n}_manual1.gif"}
            expected |= {f"{part}/mask/{n}_{part}_mask.gif"}
    assert names == expected
    with Image.open(root / "training/images/21_training.tif") as photograph:
        assert (photograph.format, photograph.mode, photograph.size) == ("TIFF", "RGB", (565, 584))
    for name in ("1st_manual/21_manual1.gif", "mask/21_training_mask.gif"):
        with Image.open(root / "training" / name) as mask:
            assert (mask.format, mask.size) == ("GIF", (565, 584))
            assert set(np.unique(np.asarray(mask.convert("L")))) == {0, 255}


def test_retina_anatomy(retinas):
    for photograph, share, view in retinas:
        vessels = share > 0.5
        assert 0.04 < vessels.sum() / view.sum() < 0.16
        assert not vessels[~view].any()
        assert view.mean() == pytest.approx(np.pi * 268**2 / (565 * 584), rel=0.01)
        assert photograph[~view].mean() < 10
        green = photograph[..., 1].astype(float)
        beside = binary_dilation(vessels, iterations=4) & ~binary_dilation(vessels, iterations=2) & view
        assert green[vessels].mean() < 0.9 * green[beside].mean()
        disc = np.unravel_index(np.argmax(np.where(view, green, 0)), green.shape)
        width = distance_transform_edt(vessels)
        rows, columns = np.indices(vessels.shape)
        far = np.hypot(rows - disc[0], columns - disc[1])
        near, away = (width[vessels & zone].max() for zone in (far < 120, far > 320))
        assert near > 1.3 * away  # they grow thinner
        assert abs(disc[1] - 282) > 90  # the disc is beside the middle


def test_camvid_files_are_as_in_the_tutorial(folders):
    root = folders["camvid"]
    names = {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    find_by_stem = {"train": ("0001TP_000000", "0006R0_f00060"), "test": ("0001TP_000030",), "val": ("0016E5_00090",)}
    assert names == {f"{f}{end}/{stem}.png" for f in find_by_stem for stem in find_by_stem[f] for end in ("", "annot")}
    with Image.open(root / "train/0001TP_000000.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (480, 360))
    with Image.open(root / "trainannot/0001TP_000000.png") as classes:
        assert (classes.mode, classes.size) == ("L", (480, 360))


def test_street_scenes(streets):
    shares = np.array([np.bincount(classes.ravel(), minlength=12) / classes.size for _, classes in streets])
    assert shares.shape == (6, 12)  # no other value
    assert (shares > 0).any(0).all()
    assert (shares[:, [0, 1, 3]] > 0.03).all()  # sky, buildings and road in every picture
    for _, classes in streets:
        rows = [np.argwhere(classes == k)[:, 0].mean() for k in (0, 1, 3)]
        assert rows == sorted(rows)  # from top to bottom
        rim = np.concatenate([classes[0], classes[-1], classes[:, 0], classes[:, -1]])
        assert set(rim) == {11}
    touching = {(int(a), int(b)) for _, c in streets for a, b in zip(c[:, :-1].ravel(), c[:, 1:].ravel(), strict=True)}
    assert {(2, 0), (2, 1), (8, 3), (5, 1)} <= touching  # pole before sky and house, car on road, tree before house
    assert streets[0][0].shape == (360, 480, 3)
