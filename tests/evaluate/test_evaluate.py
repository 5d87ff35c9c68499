"""Test the command from files to files against an independent implementation."""

import csv
import json
import math

import nibabel as nib
import numpy as np
import pytest
import sklearn.metrics
from evaluate_making import AFFINE, blobs, save
from scipy import ndimage, stats
from scipy.spatial.distance import cdist
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.core.errors import InputError
from medpos.metrics import METRICS
from medpos.report import build, sources

LABELS = "1=liver,2=spleen,3=aorta"
NAMES = ("liver", "spleen", "aorta")
TURN = np.array(
    [[math.cos(0.3), -math.sin(0.3), 0, 0], [math.sin(0.3), math.cos(0.3), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
)
OBLIQUE = TURN @ AFFINE


def evaluate(*arguments):
    """Run the command; bad input raises InputError, as in the tests of other commands."""
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def read(folder):
    with (folder / "metrics.csv").open() as stream:
        return {(row["case"], row["organ"]): row for row in csv.DictReader(stream)}


def surface(mask):
    """Subtract from a mask its erosion by one pixel along every axis longer than one pixel, in pixels."""
    squeezed = np.squeeze(mask)
    inner = ndimage.binary_erosion(squeezed, ndimage.generate_binary_structure(squeezed.ndim, 1), border_value=0)
    return np.argwhere((squeezed & ~inner).reshape(mask.shape))


def independent(prediction, truth, spacing, ignored=False):
    """Compute the metrics of one organ by pairwise distances of all pixels of the surfaces."""
    hit, found, true = (prediction & truth).sum(), prediction.sum(), truth.sum()
    if not (found or true):
        return dict.fromkeys(METRICS, math.nan)
    counted = np.broadcast_to(~np.asarray(ignored), truth.shape)
    neither = (~prediction & ~truth & counted).sum()
    values = {
        "dice": 2 * hit / (found + true),
        "iou": hit / (prediction | truth).sum(),
        "sensitivity": hit / true if true else 0.0,
        "precision": hit / found if found else 0.0,
        "hd95_mm": math.inf,
        "assd_mm": math.inf,
        "surface_dice": 0.0,
        "specificity": neither / (~truth & counted).sum(),
        "accuracy": (prediction == truth)[counted].mean(),
        "npv": neither / (~prediction & counted).sum(),
    }
    if found and true:
        apart = cdist(surface(prediction) * spacing, surface(truth) * spacing)
        forth, back = apart.min(axis=1), apart.min(axis=0)
        values["hd95_mm"] = max(np.percentile(forth, 95), np.percentile(back, 95))
        both = np.concatenate([forth, back])
        values["assd_mm"], values["surface_dice"] = both.mean(), (both <= 2).mean()
    return values


GRIDS = {
    "volume": ((17, 14, 6), ".nii.gz", {}, (0.8, 1.5, 3.0)),
    "plain nii": ((12, 15, 5), ".nii", {"affine": np.diag([2.0, 2, 2, 1])}, (2, 2, 2)),
    "nifti 2": ((12, 15, 5), ".nii", {"kind": nib.Nifti2Image}, (0.8, 1.5, 3.0)),
    "micrometers": (
        (12, 15, 5),
        ".nii.gz",
        {"units": "micron", "affine": np.diag([800.0, 800, 1000, 1])},
        (0.8, 0.8, 1),
    ),
    "meters": ((12, 15, 5), ".nii.gz", {"units": "meter", "affine": np.diag([0.001, 0.002, 0.003, 1])}, (1, 2, 3)),
    "oblique": ((12, 15, 5), ".nii.gz", {"affine": OBLIQUE}, np.linalg.norm(OBLIQUE[:3, :3], axis=0)),
    "one slice": ((21, 18, 1), ".nii.gz", {}, (0.8, 1.5, 3.0)),
    "two axes": ((21, 18), ".nii.gz", {}, (0.8, 1.5)),
    "float64": ((12, 15, 5), ".nii.gz", {"dtype": np.float64}, (0.8, 1.5, 3.0)),
    "int16": ((12, 15, 5), ".nii.gz", {"dtype": np.int16}, (0.8, 1.5, 3.0)),
    "png": ((21, 18), ".png", {}, (1.0, 1.0)),
    "tiff": ((21, 18), ".tif", {}, (1.0, 1.0)),
    "bmp": ((21, 18), ".bmp", {}, (1.0, 1.0)),
    "png with --spacing": ((21, 18), ".png", {}, (0.35, 0.7)),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_metrics_are_those_of_an_independent_implementation(grid, tmp_path):
    shape, suffix, options, spacing = GRIDS[grid]
    maps = {}
    for n in range(4):
        truth, prediction = blobs(shape, n), blobs(shape, n, noise=0.03 * n)
        prediction[prediction == n] = 0  # an organ that the tool never finds
        if n == 3:
            truth[truth == 1] = prediction[prediction == 1] = 0  # an organ in neither
        maps[f"case{n}"] = (prediction, truth)
        save(tmp_path / f"tool/case{n}{suffix}", prediction, **options)
        save(tmp_path / f"truth/case{n}{suffix}", truth, **options)
    given = ["--spacing", "0.35,0.7"] if "--spacing" in grid else []
    out = tmp_path / "out"
    evaluate(tmp_path / "tool", tmp_path / "truth", "--labels", LABELS, "--out", out, "--no-report", *given)
    rows = read(out)
    assert list(rows) == [(case, name) for case in maps for name in NAMES]
    for case, (prediction, truth) in maps.items():
        for index, name in enumerate(NAMES, 1):
            expected = independent(prediction == index, truth == index, np.asarray(spacing)[: truth.ndim])
            found = {metric: float(rows[case, name][metric]) for metric in METRICS}
            assert found == pytest.approx(expected, abs=1e-6, rel=1e-6, nan_ok=True)


def pair(tmp_path, prediction=None, truth=None, name="c1.nii.gz", **options):
    save(tmp_path / "tool" / name, blobs((9, 8, 7), 0) if prediction is None else prediction, **options)
    save(tmp_path / "truth" / name, blobs((9, 8, 7), 0) if truth is None else truth)
    return tmp_path / "tool", tmp_path / "truth", "--labels", LABELS, "--out", tmp_path / "out"


def test_ignored_pixels_are_left_out(tmp_path):
    truth, prediction = blobs((9, 8, 7), 0), blobs((9, 8, 7), 1)
    ignored = np.random.default_rng(0).random(truth.shape) < 0.3
    files = pair(tmp_path, prediction, np.where(ignored, 9, truth).astype(np.uint8))
    evaluate(*files[:2], "--labels", f"{LABELS},9=ignore", *files[4:], "--no-report")
    for index, name in enumerate(NAMES, 1):
        expected = independent((prediction == index) & ~ignored, (truth == index) & ~ignored, (0.8, 1.5, 3.0), ignored)
        found = {metric: float(read(tmp_path / "out")["c1", name][metric]) for metric in METRICS}
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_confusions_of_all_cases_and_tools(tmp_path):
    for n in range(3):
        truth = blobs((9, 8, 7), n)
        ignored = np.random.default_rng(n).random(truth.shape) < 0.3
        save(tmp_path / f"truth/c{n}.nii.gz", np.where(ignored, 9, truth).astype(np.uint8))
        save(tmp_path / f"a/c{n}.nii.gz", blobs(truth.shape, n, noise=0.3))
        save(tmp_path / f"b/c{n}.nii.gz", blobs(truth.shape, n + 9))
    also = ("--also", f"b={tmp_path / 'b'}", "--no-report", "--out", tmp_path / "out")
    done = evaluate(tmp_path / "a", tmp_path / "truth", "--labels", f"{LABELS},9=ignore", *also)
    names = ("background", *NAMES)
    for tool in ("a", "b"):
        maps = [[nib.load(tmp_path / f"{kind}/c{n}.nii.gz").get_fdata() for n in range(3)] for kind in ("truth", tool)]
        truth, prediction = (np.stack(part).astype(int).ravel() for part in maps)
        wanted = sklearn.metrics.confusion_matrix(truth[truth < 9], prediction[truth < 9], labels=range(4))
        with (tmp_path / "out" / tool / "confusion.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        pairs = [(true, predicted) for true in names for predicted in names]
        assert [(row["true"], row["predicted"]) for row in rows] == pairs
        assert [int(row["pixels"]) for row in rows] == wanted.ravel().tolist()
        condition = json.loads((tmp_path / "out" / tool / "summary.json").read_text())["conditions"][0]
        iou = sklearn.metrics.jaccard_score(truth[truth < 9], prediction[truth < 9], average=None)
        assert [condition["classes"][name]["iou"] for name in names] == pytest.approx(list(iou))
        assert condition["scores"]["set"]["mean_iou"] == pytest.approx(iou.mean())
        assert condition["scores"]["set"]["global_accuracy"] == pytest.approx(np.diag(wanted).sum() / wanted.sum())
    assert done.stdout.count("classes, whole set") == 2


def test_a_run_folder_that_report_reads_with_its_cases(tmp_path):
    prediction, truth = blobs((9, 8, 7), 0, noise=0.1), blobs((9, 8, 7), 0)
    image = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    save(tmp_path / "images/c1_0000.nii.gz", image)
    done = evaluate(*pair(tmp_path, prediction, truth), "--images", tmp_path / "images")
    out = tmp_path / "out"
    assert "tool: 1 cases of 1 subjects of truth" in done.stdout
    page = (out / "report/index.html").read_text()
    assert "c1" in page
    [run] = sources.read([out]).runs
    [view] = run.evaluations[0].cases()
    assert (view.truth == truth).all()
    assert (view.prediction == prediction).all()
    assert view.image.std() > 0
    assert view.spacing_mm == pytest.approx((0.8, 1.5, 3.0))
    assert (run.model, run.data, run.seed) == ("tool", "truth", None)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["nominal_spacing"] is False
    assert summary["conditions"][0]["organs"]["liver"]["dice"]["n"] == 1
    assert build([out], tmp_path / "again").is_file()


def test_large_cases_are_measured_whole_and_shown_with_fewer_pixels(tmp_path):
    truth = np.zeros((2100, 1900), np.uint8)
    truth[100:301, 200:401] = 1
    files = pair(tmp_path, truth, truth, "c1.png")
    done = evaluate(*files, "--no-report")
    assert not (tmp_path / "out/cases.npz").exists()
    assert float(read(tmp_path / "out")["c1", "liver"]["dice"]) == 1
    assert "in pixels" in done.stderr
    evaluate(*files[:5], tmp_path / "shown")
    summary = json.loads((tmp_path / "shown/summary.json").read_text())
    assert summary["reduced_pictures"] == ["c1"]
    assert summary["nominal_spacing"] is True
    [view] = sources.read([tmp_path / "shown"]).runs[0].evaluations[0].cases()
    assert view.truth.size <= 2_000_000
    assert view.spacing_mm == (2.0, 2.0)


def tools(tmp_path, cases=8):
    for n in range(cases):
        truth = blobs((12, 15, 5), n)
        save(tmp_path / f"truth/p{n // 2}_{n % 2}.nii.gz", truth)
        for k, tool in enumerate(("a", "b", "c"), 1):
            save(
                tmp_path / f"{tool}/p{n // 2}_{n % 2}.nii.gz",
                np.where(blobs(truth.shape, n, noise=0.02 * k) > 0, truth, 0),
            )
    also = [word for tool in ("b", "c") for word in ("--also", f"{tool}={tmp_path / tool}")]
    return tmp_path / "a", tmp_path / "truth", "--labels", LABELS, "--out", tmp_path / "out", "--no-report", *also


@pytest.mark.parametrize("metric", ["dice", "hd95_mm"])
def test_tools_are_compared_in_pairs_on_the_same_cases(metric, tmp_path):
    done = evaluate(*tools(tmp_path, 16))
    assert "a - b" in done.stdout
    found = {name: read(tmp_path / "out" / name) for name in "abc"}
    with (tmp_path / "out/comparisons.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == metric]
    assert [(row["a"], row["b"]) for row in rows[::4]] == [("a", "b"), ("a", "c"), ("b", "c")]
    for row in [row for row in rows if row["organ"] == "liver"]:
        values = [np.array([float(r[metric]) for (_, o), r in found[row[k]].items() if o == "liver"]) for k in "ab"]
        difference = values[0] - values[1]
        kept = np.isfinite(difference)
        assert int(row["n"]) == kept.sum()
        assert float(row["mean_difference"]) == pytest.approx(difference[kept].mean(), abs=1e-6)
        if row["p"]:
            assert float(row["p"]) == pytest.approx(stats.wilcoxon(difference[kept]).pvalue, abs=1e-6)
        assert int(row["subjects"]) == kept.sum()


def test_subjects_are_found_in_the_names(tmp_path):
    evaluate(*tools(tmp_path), "--subject", "^(p[0-9]+)_")
    assert {row["subject"] for row in read(tmp_path / "out/a").values()} == {"p0", "p1", "p2", "p3"}
    summary = json.loads((tmp_path / "out/a/summary.json").read_text())
    assert (summary["cases"], summary["subjects"]) == (8, 4)


def test_missing_predictions_are_refused_or_measured_as_empty(tmp_path):
    files = tools(tmp_path)
    (tmp_path / "b/p1_0.nii.gz").unlink()
    (tmp_path / "b/p3_1.nii.gz").unlink()
    with pytest.raises(InputError, match=r"b: expected a prediction for each of 8 cases, got none for 2: p1_0, p3_1"):
        evaluate(*files)
    assert not (tmp_path / "out").exists()
    done = evaluate(*files, "--allow-missing")
    assert "b: 2 missing predictions" in done.stderr
    assert json.loads((tmp_path / "out/b/summary.json").read_text())["missing_predictions"] == ["p1_0", "p3_1"]
    for name in NAMES:
        before, empty = read(tmp_path / "out/a")["p1_0", name], read(tmp_path / "out/b")["p1_0", name]
        if before["dice"] != "nan":
            assert (empty["dice"], empty["hd95_mm"]) == ("0.0", "inf")


def moved(**entries):
    affine = AFFINE.copy()
    for place, value in entries.items():
        affine[tuple(map(int, place[1:]))] = value
    return affine


OTHER_GRIDS = {
    "shape": ({"prediction": blobs((9, 8, 6), 0)}, "shapes 9 x 8 x 6 and 9 x 8 x 7"),
    "transposed": ({"prediction": blobs((8, 9, 7), 0)}, "shapes"),
    "one slice": ({"prediction": blobs((9, 8), 0)}, "shapes"),
    "spacing": ({"affine": moved(_22=2.0)}, "spacings 0.8 x 1.5 x 2 mm and 0.8 x 1.5 x 3 mm"),
    "units": ({"units": "micron"}, "spacings"),
    "origin": ({"affine": moved(_03=41.0)}, "origins or directions, with corners up to 1 mm apart"),
    "flipped": ({"affine": moved(_00=0.8)}, "origins or directions"),
    "oblique": ({"affine": OBLIQUE}, "origins or directions"),
    "slice axis": ({"affine": moved(_22=-3.0)}, "origins or directions"),
}


@pytest.mark.parametrize("grid", OTHER_GRIDS)
def test_another_grid_is_refused_with_both_files(grid, tmp_path):
    options, message = OTHER_GRIDS[grid]
    with pytest.raises(InputError, match=message) as error:
        evaluate(*pair(tmp_path, **options))
    assert str(tmp_path / "tool/c1.nii.gz") in str(error.value)
    assert str(tmp_path / "truth/c1.nii.gz") in str(error.value)
    assert not (tmp_path / "out").exists()


def test_grids_that_differ_by_the_rounding_of_a_header_are_equal(tmp_path):
    evaluate(*pair(tmp_path, affine=AFFINE + 1e-4 * np.eye(4)), "--no-report")
    assert float(read(tmp_path / "out")["c1", "liver"]["dice"]) == 1


def test_every_case_that_fails_is_named(tmp_path):
    files = pair(tmp_path)
    for n in range(2, 15):
        pair(tmp_path, np.full((9, 8, 7), 7, np.uint8), name=f"c{n}.nii.gz")
    with pytest.raises(InputError, match=r"13 of 14 cases can't be measured:\n(.+\n){10}and 3 more"):
        evaluate(*files)


def test_nothing_is_overwritten(tmp_path):
    files = pair(tmp_path)
    evaluate(*files, "--no-report")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        evaluate(*files, "--no-report")


@pytest.mark.parametrize("also", ["other", "tool=other", "TOOL=other", "a/b=other", "report=other", ".=other"])
def test_names_of_tools(also, tmp_path):
    files = pair(tmp_path)
    save(tmp_path / "other/c1.nii.gz", blobs((9, 8, 7), 0))
    name, _, _ = also.rpartition("=")
    also = f"{name}={tmp_path / 'other'}" if name else tmp_path / "other"
    if not name:
        evaluate(*files, "--also", also, "--no-report")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"tool", "other", "comparisons.csv"}
    else:
        with pytest.raises(InputError, match=r"expected a (tool's name of letters|name of its own for each)"):
            evaluate(*files, "--also", also)


def test_two_files(tmp_path):
    prediction = save(tmp_path / "mine.nii.gz", blobs((9, 8, 7), 0))
    truth = save(tmp_path / "theirs.nii", blobs((9, 8, 7), 0))
    evaluate(prediction, truth, "--labels", LABELS, "--out", tmp_path / "out", "--no-report", "--name", "tool")
    assert float(read(tmp_path / "out")["theirs", "liver"]["dice"]) == 1


@pytest.mark.parametrize("grid", ["shape", "origin", "flipped", "slice axis"])
def test_other_grids_are_resampled(grid, tmp_path):
    """Expect 1 for a prediction that is the ground truth on another grid, which covers it."""
    truth = blobs((9, 8, 7), 0)
    prediction, affine = truth, AFFINE
    if grid == "shape":
        prediction, affine = np.pad(truth, 2), AFFINE @ np.array([*np.eye(4)[:, :3].T, [-2, -2, -2, 1]]).T
    elif grid == "origin":
        prediction, affine = (
            np.pad(truth, ((0, 0), (0, 0), (4, 0))),
            AFFINE @ np.array([*np.eye(4)[:, :3].T, [0, 0, -4, 1]]).T,
        )
    elif grid == "flipped":
        prediction, affine = truth[::-1], AFFINE @ np.array([[-1, 0, 0, 8], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    else:
        prediction, affine = truth.transpose(2, 1, 0), AFFINE[:, [2, 1, 0, 3]]
    files = pair(tmp_path, prediction, truth, affine=affine)
    with pytest.raises(InputError, match="got another"):
        evaluate(*files)
    done = evaluate(*files, "--resample", "--no-report")
    assert "1 predictions were resampled" in done.stderr
    assert json.loads((tmp_path / "out/summary.json").read_text())["resampled"] == ["c1"]
    dice = [float(row["dice"]) for row in read(tmp_path / "out").values()]
    assert [value for value in dice if not math.isnan(value)] == [1.0] * len(np.unique(truth[truth > 0]))


def test_a_table_of_pairs_gives_phases_and_subjects(tmp_path):
    for phase in ("ED", "ES"):
        save(tmp_path / f"truth/{phase}.nii.gz", blobs((9, 8, 7), 0))
        save(tmp_path / f"tool/{phase}_seg.nii.gz", blobs((9, 8, 7), 0))
    table = "prediction,truth,case,subject,phase\n" + "".join(
        f"{phase}_seg.nii.gz,{phase}.nii.gz,p1_{phase},p1,{phase}\n" for phase in ("ED", "ES")
    )
    (tmp_path / "pairs.csv").write_text(table)
    acdc = "1=rv_cavity,2=myocardium,3=lv_cavity"
    where = tmp_path / "tool", tmp_path / "truth", "--labels", acdc, "--out", tmp_path / "out"
    evaluate(*where, "--pairs", tmp_path / "pairs.csv")
    assert {(row["case"], row["subject"]) for row in read(tmp_path / "out").values()} == {
        ("p1_ED", "p1"),
        ("p1_ES", "p1"),
    }
    clinical = (tmp_path / "out/report/csv/clinical_cases.csv").read_text()
    assert "RV EF" in clinical


@pytest.mark.parametrize(("tool", "truth"), [(".png", ".nii.gz"), (".nii.gz", ".png"), (".nii.gz", ".nii.gz")])
def test_positions_that_cannot_be_compared_give_a_warning(tool, truth, tmp_path):
    values = blobs((9, 8), 0)
    save(tmp_path / f"tool/c1{tool}", values)
    save(tmp_path / f"truth/c1{truth}", values)
    out = tmp_path / "out"
    done = evaluate(tmp_path / "tool", tmp_path / "truth", "--labels", LABELS, "--out", out, "--no-report")
    unplaced = ["c1"] if tool != truth else []
    assert json.loads((out / "summary.json").read_text())["unplaced"] == unplaced
    assert ("by shape alone" in " ".join(done.stderr.split())) == bool(unplaced)


def test_the_thickness_of_a_single_slice_does_not_matter(tmp_path):
    values = blobs((9, 8, 1), 0)
    evaluate(*pair(tmp_path, values, values, affine=AFFINE @ np.diag([1, 1, 0.5, 1])), "--no-report")
    assert float(read(tmp_path / "out")["c1", "aorta"]["dice"]) == 1
