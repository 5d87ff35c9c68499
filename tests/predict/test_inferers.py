"""Segment images of any size by runs with the inferers of the papers."""

import inferer_runs
import nibabel
import numpy as np
import pytest
import torch
from images import labels_of

from medpos.core.errors import InputError
from medpos.predict import inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.loading import load_image
from medpos.predict.model import Model


@pytest.fixture
def run_of(request, tmp_path):
    """Return a function that makes a run with an inferer."""

    def make(name):
        run = request.getfixturevalue("trained_heart" if name == "votes" else "trained")
        return getattr(inferer_runs, name)(run, tmp_path / "runs" / name)

    return make


@pytest.fixture
def given(tmp_path, xray, stack):
    """Return a function that writes images of two sizes; one volume has a single slice."""

    def write(name):
        whole = np.asarray(stack[1].dataobj) if name == "votes" else xray[1][..., None]
        affine = stack[1].affine if name == "votes" else np.eye(4)
        for part, values in (("a", whole[:70, :61]), ("b", whole[8:58, :90, :1])):
            (tmp_path / "given").mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / f"given/{part}.nii.gz")
        return tmp_path / "given"

    return write


@pytest.mark.parametrize("name", ["tiles", "binary", "votes", "whole"])
def test_sizes_may_differ(name, run_of, given, predict):
    model = Model(run_of(name))
    images = given(name)
    summary, out = predict(Ensemble([model]), images, probabilities=True)
    assert (summary.done, summary.failed) == (2, [])
    for case in ("a", "b"):
        image = nibabel.load(images / f"{case}.nii.gz")
        found = labels_of(out / f"{case}.nii.gz")
        assert found.shape == image.shape
        loaded = load_image(inputs.identify_case([images / f"{case}.nii.gz"]), model.requirements)
        with torch.no_grad():
            logits = model.inferer(model.prepare(model.decode(loaded.values))[None], model.network)
        wanted = logits.argmax(1)[0].numpy().reshape(loaded.values.shape)
        np.testing.assert_array_equal(found, loaded.orientation.undo(wanted))
        assert np.unique(found).size > 1
        probabilities = np.asarray(nibabel.load(out / f"{case}_probabilities.nii.gz").dataobj)
        np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-5)
        assert probabilities.shape[-1] == (2 if name == "binary" else 4)


@pytest.mark.parametrize(
    ("name", "shape", "slices"),
    [("tiles", (1, 220, 220), 1), ("binary", (1, 48, 48), 1), ("votes", (3, 24, 24), 3), ("whole", None, 1)],
)
def test_what_the_network_sees(name, shape, slices, run_of):
    model = Model(run_of(name))
    assert (model.input_shape, model.slices) == (shape, slices)


def test_one_size_of_the_chain_is_known(trained, tmp_path):
    network = {"_target_": "medpos.networks.SmallCNN", "in_channels": 1, "out_channels": 4}
    made = inferer_runs.made_from(trained, tmp_path / "run", network, {"_target_": "SimpleInferer"}, resized=True)
    assert Model(made).input_shape == (1, 32, 32)


@pytest.mark.parametrize("name", ["tiles", "binary", "votes"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.torture
def test_other_backends_take_windows(name, backend, run_of, given):
    pytest.importorskip(backend)
    run, images = run_of(name), given(name)
    values = np.asarray(nibabel.load(images / "a.nii.gz").dataobj, np.float32)
    found, wanted = ((m := Model(run, backend=kind)).probabilities(m.decode(values)) for kind in (backend, "torch"))
    assert (found.argmax(0) == wanted.argmax(0)).float().mean() > 0.97  # drawn weights have near ties


def test_other_backends_refuse_whole_images(run_of):
    run = run_of("whole")
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(
            InputError,
            match=f"--backend {backend}: expected .* images of one size.*leave --backend out",
        ):
            Model(run, backend=backend)


def test_channels_that_do_not_fit(trained_heart, tmp_path):
    network = {"_target_": "medpos.networks.USegNet", "width": 1 / 16, "in_channels": 5}
    inferer = {"_target_": "medpos.inferers.VotingInferer", "size": 24, "step": 12}
    made = inferer_runs.made_from(trained_heart, tmp_path / "run", network, inferer)
    with pytest.raises(InputError, match="expected 5 input channels for its network, got 3 from images of image"):
        Model(made)


def test_flip_and_members(run_of, given, predict):
    """Mirror the votes for the mirrored image back, and average the models."""
    model = Model(run_of("votes"))
    images = given("votes")
    values = np.asarray(nibabel.load(images / "a.nii.gz").dataobj, np.float32)
    decoded = model.decode(values)
    both = Ensemble([model, model], tta=("flip",))
    wanted = (model.probabilities(decoded) + model.probabilities(decoded.flip(1)).flip(1)) / 2
    torch.testing.assert_close(both.probabilities(both.decode(values)), wanted)
