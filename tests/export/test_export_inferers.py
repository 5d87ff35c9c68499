"""Export runs with the inferers of the papers."""

import json

import inferer_runs
import monai.bundle
import numpy as np
import pytest
import torch
from monai.bundle import verify_net_in_out
from running import CRF, ROOT, kept_state, run_here

from medpos.core.errors import InputError
from medpos.data.folder import DataFolder
from medpos.export import export
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model

WANTED = {
    "tiles": (["image"], ["background", "right_lung", "left_lung", "heart"], [220, 220], [36, 36]),
    "binary": (["image"], ["heart"], [48, 48], [48, 48]),
    "votes": (["slice z-1", "slice z", "slice z+1"], None, [24, 24], [24, 24]),
}


@pytest.mark.parametrize("name", WANTED)
def test_bundle(name, trained, trained_heart, first_image, tmp_path):
    kind, source = ("acdc", trained_heart) if name == "votes" else ("jsrt", trained)
    run = getattr(inferer_runs, name)(source, tmp_path / "run")
    bundle = export(run, tmp_path / "bundle", ROOT)
    meta = bundle / "configs/metadata.json"
    described = json.loads(meta.read_text())["network_data_format"]
    taken, given = described["inputs"]["image"], described["outputs"]["pred"]
    inputs_, outputs, size_in, size_out = WANTED[name]
    assert list(taken["channel_def"].values()) == inputs_
    assert outputs is None or list(given["channel_def"].values()) == outputs
    assert (taken["spatial_shape"], given["spatial_shape"]) == (size_in, size_out)
    with kept_state():
        verify_net_in_out("network_def", str(meta), str(bundle / "configs/inference.json"), device="cpu")
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(first_image(kind)),
            output_dir=str(tmp_path / "there"),
        )
    sources = inputs.find_cases([str(first_image(kind))], tmp_path)
    cohort.predict_cases(Ensemble([Model(run)]), sources, tmp_path / "here", cohort.Options(overlays=False))
    [file] = (tmp_path / "there").glob("*.nii.gz")
    assert file.read_bytes() == (tmp_path / "here" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("voc_deeplab_largefov", {"image_size": 65, "window": 65}),
        pytest.param("voc_sunet64", {"image_size": 64, "short_side": 64}, marks=pytest.mark.torture),
    ],
)
def test_photographs_in_published_colours(name, sizes, secondary, tmp_path):
    """Use the publisher's means and deviations, with a CRF or with images of several sizes."""
    options = {"dataset_dir": str(secondary["voc"]), "runs_dir": str(tmp_path / "runs"), "batch_size": 2, **sizes}
    options |= CRF if "deeplab" in name else {}
    run = run_here(name, max_epochs=1, network_def__width=1 / 16, **options)
    bundle = export(run, tmp_path / "bundle", ROOT)
    [image, *_] = [case["image"] for case in DataFolder(secondary["voc"]).cases("test")]
    with kept_state():
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=image,
            output_dir=str(tmp_path / "there"),
        )
    model = Model(run)
    cohort.predict_cases(
        Ensemble([model]), inputs.find_cases([image], tmp_path), tmp_path / "here", cohort.Options(overlays=False)
    )
    [file] = (tmp_path / "there").glob("*.nii.gz")
    assert file.read_bytes() == (tmp_path / "here" / file.name).read_bytes()
    decoded = model.decode(np.full((65, 65, 1, 3), 100, np.float32))
    assert model.prepare(decoded).ne(decoded).all()
    assert torch.equal(decoded, torch.full_like(decoded, 100 / 255))


def test_whole_images_are_refused(trained, tmp_path):
    run = inferer_runs.whole(trained, tmp_path / "run")
    with pytest.raises(InputError, match="expected a run whose network gets images of one size"):
        export(run, tmp_path / "bundle", ROOT)
