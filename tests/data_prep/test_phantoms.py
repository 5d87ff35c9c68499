import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation

from data_prep.phantoms import write
from data_prep.phantoms.chest import draw as draw_chest
from data_prep.phantoms.heart import GROUPS
from data_prep.phantoms.heart import draw as draw_heart
from data_prep.phantoms.shapes import case_generator
from medpos.core.errors import InputError

ORGANS = ("heart", "left lung", "right lung", "left clavicle", "right clavicle")


@pytest.fixture(scope="module")
def jsrt(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms") / "jsrt"
    write("jsrt", out, cases=2, seed=1)
    return out


@pytest.fixture(scope="module")
def acdc(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantoms") / "acdc"
    write("acdc", out, cases=2, seed=1)
    return out


@pytest.fixture(scope="module")
def chests():
    """Draw six chests: gray values at 256 x 256 px and masks at 512 x 512 px."""
    drawn = [draw_chest(case_generator(5, 0, index), nodule=True) for index in range(6)]
    return [(gray.reshape(256, 8, 256, 8).mean((1, 3)), masks) for gray, masks in drawn]


@pytest.fixture(scope="module")
def hearts():
    """Draw phases and spacing of one person of each group."""
    return {group: draw_heart(case_generator(5, 1, index), group) for index, group in enumerate(GROUPS)}


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "PHANTOM.json")
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def center(mask):
    """Compute the mean (row, column) of a mask."""
    return np.argwhere(mask).mean(0)


def overlap(a, b):
    """Compute the shared area of two histograms, 0 to 1."""
    edges = np.linspace(0, 4096, 33)
    return np.minimum(*(np.histogram(v, edges)[0] / v.size for v in (a, b))).sum()


@pytest.mark.parametrize("kind", ["jsrt", "acdc"])
def test_same_bytes_for_any_number_of_workers_and_cases(kind, tmp_path, request):
    alone = digests(request.getfixturevalue(kind))
    write(kind, tmp_path / "pool", cases=3, seed=1, workers=2)
    pool = digests(tmp_path / "pool")
    assert alone.items() < pool.items()
    assert len(set(pool.values())) == len(pool)  # no two masks, no two images equal


def test_another_seed_gives_other_phantoms(jsrt, tmp_path):
    write("jsrt", tmp_path / "other", cases=1, seed=2)
    assert not set(digests(jsrt).values()) & set(digests(tmp_path / "other").values())


@pytest.mark.parametrize("kind", ["jsrt", "acdc"])
def test_the_folder_says_that_it_holds_phantoms(kind, request):
    marker = json.loads((request.getfixturevalue(kind) / "PHANTOM.json").read_text())
    assert marker.keys() == {"kind", "cases", "seed", "note"}
    assert (marker["kind"], marker["cases"], marker["seed"]) == (kind, 2, 1)


def test_jsrt_files_are_as_in_the_download(jsrt):
    assert sorted(path.name for path in (jsrt / "All247images").iterdir()) == ["JPCLN001.IMG", "JPCLN002.IMG"]
    for number, fold in ((1, "fold1"), (2, "fold2")):
        image = jsrt / "All247images" / f"JPCLN00{number}.IMG"
        assert image.stat().st_size == 2048 * 2048 * 2
        stored = np.fromfile(image, ">u2").reshape(2048, 2048)
        assert stored.max() <= 4095  # in the wrong byte order it would exceed 12 bits
        assert stored.std() > 300
        for organ in ORGANS:
            with Image.open(jsrt / "scratch" / fold / "masks" / organ / f"JPCLN00{number}.gif") as mask:
                assert (mask.format, mask.size) == ("GIF", (1024, 1024))
                assert mask.mode in {"L", "P"}
                assert set(np.unique(np.asarray(mask.convert("L")))) == {0, 255}
                assert set(np.unique(np.asarray(mask))) == {0, 255}


def test_jsrt_high_is_dark(jsrt):
    stored = np.fromfile(jsrt / "All247images/JPCLN001.IMG", ">u2").reshape(1024, 2, 1024, 2).mean((1, 3))
    masks = jsrt / "scratch/fold1/masks"
    lung, heart = (np.asarray(Image.open(masks / o / "JPCLN001.gif")) > 0 for o in ("left lung", "heart"))
    assert stored[lung].mean() > stored[heart].mean() + 500


def test_the_first_154_have_a_nodule(tmp_path, monkeypatch):
    drawn = []
    small = np.zeros((4, 4), np.float32)
    monkeypatch.setattr("data_prep.phantoms.chest.draw", lambda rng, nodule: (drawn.append(nodule) or small, {}))
    write("jsrt", tmp_path / "all", cases=247)
    names = sorted(path.name for path in (tmp_path / "all/All247images").iterdir())
    ends = [names[k].removesuffix(".IMG") for k in (0, 153, 154, -1)]
    assert ends == ["JPCLN001", "JPCLN154", "JPCNN001", "JPCNN093"]
    assert drawn == [True] * 154 + [False] * 93


def test_chest_anatomy(chests):
    for _, masks in chests:
        right, left, heart = (masks[organ] for organ in ("right lung", "left lung", "heart"))
        assert center(right)[1] < center(heart)[1] < center(left)[1]
        assert center(heart)[0] > max(center(right)[0], center(left)[0])  # low in the chest
        hilum = 0.5 * (np.argwhere(right)[:, 1].max() + np.argwhere(left)[:, 1].min())
        assert center(heart)[1] > hilum  # to the patient's left of the middle
        width = np.ptp(np.argwhere(heart)[:, 1]) / np.ptp(np.argwhere(right | left)[:, 1])
        assert 0.3 < width < 0.75  # cardiothoracic ratio
        assert not (right & left).any()
        assert dice(heart, right | left) < 0.1
        for side in ("right", "left"):
            assert (masks[f"{side} clavicle"] & masks[f"{side} lung"]).any()
            assert 0.06 < masks[f"{side} lung"].mean() < 0.24


def test_chest_gray_values_do_not_tell_the_organ(chests):
    right_left, lung_air, heart_belly = [], [], []
    for gray, masks in chests:
        right, left, heart = (masks[o][::2, ::2] for o in ("right lung", "left lung", "heart"))
        lungs = right | left
        belly = np.argwhere(lungs)[:, 0].max() + 4
        right_left.append(overlap(gray[right], gray[left]))
        outside = np.concatenate([gray[8:24, 12:40], gray[8:24, 216:244]])  # above the shoulders
        lung_air.append((gray[lungs], outside.ravel()))
        heart_belly.append(overlap(gray[heart], gray[belly:250, 60:196]))
    assert np.mean(right_left) > 0.7
    # Exposure differs from film to film, so it is the films together that a network has to tell apart.
    assert overlap(*(np.concatenate(values) for values in zip(*lung_air, strict=True))) > 0.4
    assert np.mean(heart_belly) > 0.3


@pytest.mark.parametrize("organ", ["right lung", "left lung", "heart"])
def test_chests_differ_as_people_do(chests, organ):
    scores = [dice(a[organ], b[organ]) for i, (_, a) in enumerate(chests) for _, b in chests[:i]]
    assert max(scores) < 0.98
    assert 0.4 < np.mean(scores) < 0.93


def test_acdc_files_are_as_in_the_download(acdc):
    assert sorted(path.name for path in acdc.iterdir()) == ["PHANTOM.json", "patient001", "patient002"]
    for patient, group in (("patient001", "NOR"), ("patient002", "MINF")):
        folder = acdc / patient
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert info["Group"] == group
        assert int(info["ED"]) < int(info["ES"]) < int(info["NbFrame"])
        find_by_stem = [f"{patient}_frame{int(info[phase]):02d}" for phase in ("ED", "ES")]
        names = {"Info.cfg"} | {f"{stem}{end}" for stem in find_by_stem for end in (".nii.gz", "_gt.nii.gz")}
        assert {path.name for path in folder.iterdir()} == names
        for stem in find_by_stem:
            image, labels = (nib.load(folder / f"{stem}{end}") for end in (".nii.gz", "_gt.nii.gz"))
            assert image.get_data_dtype() == np.int16
            assert labels.get_data_dtype() == np.uint8
            assert image.shape == labels.shape
            assert 6 <= image.shape[2] <= 12
            assert all(1.3 <= size <= 1.7 for size in image.header.get_zooms()[:2])
            assert 5 <= image.header.get_zooms()[2] <= 10
            np.testing.assert_array_equal(image.affine, labels.affine)
            assert image.header.get_xyzt_units() == ("mm", "sec")
            assert set(np.unique(np.asarray(labels.dataobj))) == {0, 1, 2, 3}


def volume_ml(stack, label, spacing):
    return np.count_nonzero(stack == label) * np.prod(spacing) / 1000


def test_heart_anatomy(hearts):
    for phases, _ in hearts.values():
        for _, labels in phases.values():
            assert center((labels == 1).any(2))[0] < center((labels == 3).any(2))[0]  # RV on the left as shown
            cavity, wall, rv = ((labels == k) for k in (3, 2, 1))
            middle = int(np.argmax(cavity.sum((0, 1))))
            around = binary_dilation(cavity[..., middle]) & ~cavity[..., middle]
            assert wall[..., middle][around].all()  # the LV lies in its ring
            assert (binary_dilation(rv[..., middle], iterations=2) & wall[..., middle]).any()
            slices = [np.flatnonzero(organ.any((0, 1))) for organ in (rv, wall)]
            assert slices[0].max() <= slices[1].max()  # the RV ends first
            area = wall.sum((0, 1)) + cavity.sum((0, 1))
            assert area[slices[1].max()] < 0.7 * area.max()  # it tapers
            assert np.abs(center(cavity.any(2)) / labels.shape[:2] - 0.5).max() < 0.2


def test_hearts_contract(hearts):
    for phases, spacing in hearts.values():
        (_, ed), (_, es) = phases["ED"], phases["ES"]
        for cavity in (1, 3):
            assert volume_ml(es, cavity, spacing) < 0.9 * volume_ml(ed, cavity, spacing)
        assert volume_ml(es, 2, spacing) == pytest.approx(volume_ml(ed, 2, spacing), rel=0.25)  # muscle keeps its mass


def test_groups_differ(hearts):
    def at_ed(group, label):
        phases, spacing = hearts[group]
        return volume_ml(phases["ED"][1], label, spacing)

    assert at_ed("DCM", 3) > 1.5 * at_ed("NOR", 3)
    assert at_ed("HCM", 2) / at_ed("HCM", 3) > 1.3 * at_ed("NOR", 2) / at_ed("NOR", 3)
    assert at_ed("RV", 1) / at_ed("RV", 3) > 1.1 * at_ed("NOR", 1) / at_ed("NOR", 3)
    (_, ed), (_, es) = (hearts["MINF"][0][phase] for phase in ("ED", "ES"))
    assert 1 - np.count_nonzero(es == 3) / np.count_nonzero(ed == 3) < 0.55  # ejection fraction


def test_heart_gray_values_do_not_tell_the_organ(hearts):
    blood_blood, blood_rest = [], []
    for phases, _ in hearts.values():
        image, labels = phases["ED"]
        gray = image * (3000 / np.percentile(image, 99.5))
        blood_blood.append(overlap(gray[labels == 1], gray[labels == 3]))
        low, high = np.percentile(gray[labels == 3], (10, 90))
        alike = (gray >= low) & (gray <= high)
        blood_rest.append(np.count_nonzero(alike & (labels == 0)) / np.count_nonzero(alike & (labels > 0)))
    assert np.mean(blood_blood) > 0.6
    assert min(blood_rest) > 2  # most of what is as bright as blood isn't the heart's


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "mammogram", "cases": 1},
            "kind: expected one of jsrt, acdc, nuclei, cells, ibsr, .*, got 'mammogram'",
        ),
        ({"kind": "jsrt", "cases": 0}, "cases: expected 1 to 247 jsrt phantoms, got 0"),
        ({"kind": "jsrt", "cases": 248}, "cases: expected 1 to 247 jsrt phantoms, got 248"),
        ({"kind": "acdc", "cases": 1000}, "1 to 999"),
        ({"kind": "acdc", "cases": 1, "seed": -1}, "seed: expected 0 or more, got -1"),
        ({"kind": "acdc", "cases": 1, "workers": 0}, "workers: expected 1 or more processes, got 0"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(arguments, message, tmp_path):
    with pytest.raises(InputError, match=message):
        write(out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_phantoms_are_not_mixed_with_anything_else(jsrt, tmp_path):
    before = digests(jsrt)
    for arguments in (("acdc", 2, 1), ("jsrt", 2, 9), ("jsrt", 1, 1)):
        with pytest.raises(InputError, match="found 2 jsrt phantoms of seed 1"):
            write(arguments[0], jsrt, arguments[1], seed=arguments[2])
    assert digests(jsrt) == before
    (tmp_path / "patient001").mkdir()
    with pytest.raises(InputError, match="expected phantoms, found other files"):
        write("acdc", tmp_path, 1)
    (tmp_path / "PHANTOM.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        write("acdc", tmp_path, 1)
    with pytest.raises(InputError, match="expected a folder, got a file"):
        write("acdc", tmp_path / "PHANTOM.json", 1)
