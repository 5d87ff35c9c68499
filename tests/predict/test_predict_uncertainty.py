"""Uncertainty of predictions: softmax, test-time augmentation, members, dropout."""

import csv
import math

import inferer_runs
import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medpos.core.errors import InputError
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

MEASURES = {
    "lower limit of area": "mm2",
    "upper limit of area": "mm2",
    "entropy": "",
    "entropy at the outline": "",
    "outline in doubt by": "mm",
}


def rows_of(out):
    with (out / "measurements.csv").open(encoding="utf-8") as stream:
        return {(row["structure"], row["measure"]): row for row in csv.DictReader(stream)}


def values_of(path):
    return np.asarray(nibabel.load(path).dataobj)


def test_one_prediction_has_an_entropy_and_sizes_with_an_interval(chest, predict, xray):
    path, _ = xray
    name = path.name.removesuffix(".nii.gz")
    summary, out = predict(chest, path, uncertainty=True, probabilities=True)
    assert summary.failed == []
    assert not (out / f"{name}_information.nii.gz").exists()
    image = nibabel.load(path)
    entropy = nibabel.load(out / f"{name}_entropy.nii.gz")
    assert entropy.shape == image.shape
    np.testing.assert_array_equal(entropy.affine, image.affine)
    assert entropy.get_data_dtype() == np.float32
    labels, found = values_of(out / path.name), values_of(out / f"{name}_entropy.nii.gz")
    probabilities = values_of(out / f"{name}_probabilities.nii.gz")
    assert found.min() >= 0
    assert found.max() <= 1
    rows = rows_of(out)
    pixel = float(np.prod(image.header.get_zooms()[:2]))
    for index, label in enumerate(chest.labels[1:], 1):
        assert {m: rows[label.name, m]["unit"] for m in MEASURES} == MEASURES
        low, high, mean, edge, doubt = (float(rows[label.name, measure]["value"]) for measure in MEASURES)
        assert low == pytest.approx(pixel * (probabilities[..., index] >= 0.95).sum(), rel=1e-5)
        assert high == pytest.approx(pixel * (probabilities[..., index] >= 0.05).sum(), rel=1e-5)
        assert low <= float(rows[label.name, "area"]["value"]) <= high
        assert mean == pytest.approx(found[labels == index].mean(), rel=1e-4)
        assert edge > mean  # a network is less sure at outlines than inside
        assert doubt > 0


@pytest.mark.parametrize(
    ("tta", "members", "count"), [(("shift",), 1, 5), (("flip", "noise"), 1, 4), ((), 2, 2), (("flip",), 2, 4)]
)
def test_several_predictions_disagree_where_the_entropy_is(chest, predict, xray, tta, members, count):
    path, _ = xray
    name = path.name.removesuffix(".nii.gz")
    ensemble = Ensemble(chest.models * members, tta)
    assert ensemble.count == count
    _, out = predict(ensemble, path, uncertainty=True)
    entropy, information = (values_of(out / f"{name}_{map}.nii.gz") for map in ("entropy", "information"))
    assert (information <= entropy + 1e-6).all()
    if tta:
        assert information.max() > 1e-3
    else:
        np.testing.assert_allclose(information, 0, atol=1e-6)  # the same run twice


def test_shifts_and_noise_hardly_change_a_label_map(chest, predict, xray, tmp_path):
    path, _ = xray
    plain = values_of(predict(chest, path, out=tmp_path / "a")[1] / path.name)
    changed = values_of(predict(Ensemble(chest.models, ("noise",)), path, out=tmp_path / "b")[1] / path.name)
    assert (plain == changed).mean() > 0.95


@pytest.fixture
def with_dropout(trained, tmp_path):
    return Model(inferer_runs.tiles(trained, tmp_path / "tiles"), device="cpu")


def test_dropout_is_switched_on_for_its_passes_alone(with_dropout, xray):
    _, values = xray
    decoded = with_dropout.decode(values[..., None])
    before = with_dropout.probabilities(decoded)
    first, again, second = (with_dropout.sample(decoded, number) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, before)
    assert torch.equal(with_dropout.probabilities(decoded), before)
    ensemble = Ensemble([with_dropout], dropout=2)
    assert ensemble.count == 2
    torch.testing.assert_close(ensemble.probabilities([decoded]), (first + second) / 2)
    assert len(ensemble.segment([decoded]).uncertainty()) == 2


def test_a_network_without_dropout_is_refused(chest):
    with pytest.raises(InputError, match="--dropout: expected a network with dropout layers"):
        Ensemble(chest.models, dropout=3)


def test_a_picture_gets_maps_of_its_size(chest, predict, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (50, 40)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    summary, out = predict(chest, tmp_path / "a.png", uncertainty=True, force=True)
    assert summary.failed == []
    assert values_of(out / "a_entropy.nii.gz").shape == (40, 50, 1)
    assert rows_of(out)["heart", "lower limit of area"]["unit"] == "pixels"


def test_an_organ_that_is_not_found_has_no_outline(chest, predict, tmp_path, monkeypatch):
    nothing = torch.eye(4)[0][:, None, None].expand(4, 32, 32)
    monkeypatch.setattr(Model, "probabilities", lambda model, *given: nothing)
    values = np.random.default_rng(0).integers(0, 255, (50, 40)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    _, out = predict(chest, tmp_path / "a.png", uncertainty=True, force=True)
    found = {measure: rows_of(out)["heart", measure]["value"] for measure in MEASURES}
    assert found == {**dict.fromkeys(MEASURES, ""), "lower limit of area": "0", "upper limit of area": "0"}
    assert math.isclose(values_of(out / "a_entropy.nii.gz").max(), 0, abs_tol=1e-6)


def test_other_sources_do_not_mix_in_a_folder(chest, predict, xray):
    path, _ = xray
    predict(chest, path, uncertainty=True)
    for ensemble, options, named in (
        (chest, {}, "no --uncertainty"),
        (Ensemble(chest.models, ("noise",)), {"uncertainty": True}, "--tta noise"),
    ):
        with pytest.raises(InputError, match=f"got .*{named}.*choose another --out"):
            predict(ensemble, path, **options)
