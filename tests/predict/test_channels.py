"""Segment images of several channels, in one file or one file each, and compare with the run's own results."""

import json

import custom_raw
import monai
import nibabel
import numpy as np
import pytest
import running
from images import labels_of
from PIL import Image

from data_prep.custom import folder, nnunet
from data_prep.custom.common import Options
from medpos.bundle import new_bundle
from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData
from medpos.export import export
from medpos.io import readers
from medpos.predict import inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.runs.cases import load_cases

CHANNELS = ("T2", "ADC")


def trained_on(data, root, **options):
    source = running.BUNDLES / "src"
    [*_, bundle] = new_bundle.write("mine", data, "small", [new_bundle.POSITION], source, root / "bundles")
    options = {"image_size": 32, "max_epochs": 2, "runs_dir": str(root / "runs"), "run_name": "a", **options}
    return running.run_here(bundle, **options)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Make an nnU-Net raw folder of two channels."""
    return custom_raw.nnunet(tmp_path_factory.mktemp("raw") / "Dataset001_X", 6, CHANNELS)


@pytest.fixture(scope="module")
def prostates(raw, tmp_path_factory):
    """Prepare the raw folder, and train a run on it."""
    root = tmp_path_factory.mktemp("prostates")
    nnunet.prepare(raw, root / "data", Options())
    return root / "data", trained_on(root / "data", root)


@pytest.fixture(scope="module")
def ensemble(prostates):
    return Ensemble([Model(prostates[1])])


def segment(predict, ensemble, *given, **options):
    """Segment with the channels of the run, as the command line does."""
    return predict(ensemble, *given, channels=ensemble.models[0].data.channels, **options)


def test_nnunet_files_and_a_file_of_all_channels_agree_with_the_run(ensemble, prostates, raw, predict, tmp_path):
    data, run = prostates
    assert ensemble.models[0].data.channels == CHANNELS
    summary, out = segment(predict, ensemble, raw / "imagesTr", probabilities=True)
    assert (summary.done, summary.failed) == (6, [])
    whole, other = segment(predict, ensemble, data / "images", out=tmp_path / "whole")
    assert (whole.done, whole.failed) == (6, [])
    for n in range(6):
        single, joined = nibabel.load(out / f"s{n}.nii.gz"), nibabel.load(other / f"s{n}.nii.gz")
        assert single.shape == joined.shape == (20, 24, 2)
        assert np.allclose(single.affine, nibabel.load(raw / f"imagesTr/s{n}_0000.nii.gz").affine)
        assert (np.asarray(single.dataobj) == np.asarray(joined.dataobj)).all()
        assert labels_of(out / f"s{n}_probabilities.nii.gz").shape == (20, 24, 2, 3)
        assert (out / f"overlays/s{n}.png").is_file()
    for case in load_cases(run / "cases.npz"):
        values = np.asarray(nibabel.load(data / f"images/{case.case}.nii.gz").dataobj, np.float32)
        found = ensemble.probabilities(ensemble.decode(values)).argmax(dim=0)
        assert (found.numpy() == case.prediction).all()


def bad_channels(raw, place):
    """Write cases with one error each, and a good one."""
    place.mkdir()

    def copy(name, number, to, values=None, affine=None):
        image = nibabel.load(raw / f"imagesTr/{name}_{number:04d}.nii.gz")
        values = np.asarray(image.dataobj) if values is None else values
        nibabel.save(nibabel.Nifti1Image(values, image.affine if affine is None else affine), place / f"{to}.nii.gz")

    copy("s0", 0, "good_0000")
    copy("s0", 1, "good_0001")
    copy("s0", 0, "lone_0000")
    copy("s0", 1, "second_0001")
    copy("s0", 0, "plain")
    for number in range(3):
        copy("s0", number % 2, f"three_{number:04d}")
    copy("s0", 0, "small_0000")
    copy("s0", 1, "small_0001", np.arange(1000.0).reshape(10, 50, 2))
    copy("s0", 0, "moved_0000")
    copy("s0", 1, "moved_0001", affine=np.diag([1.5, 1.5, 9.0, 1.0]))
    copy("s0", 0, "many", np.random.default_rng(0).normal(size=(20, 24, 2, 3)))
    copy("s0", 0, "mask_0000")
    copy("s0", 1, "mask_0001", custom_raw.label_volume(0))
    return place


def test_what_is_wrong_with_channels_is_said(ensemble, raw, predict, tmp_path):
    summary, _ = segment(predict, ensemble, bad_channels(raw, tmp_path / "in"))
    assert summary.done == 1
    wanted = {
        "lone_0000.nii.gz: expected lone_0001.nii.gz for channel 1 (ADC), got no such file",
        "second_0001.nii.gz: expected second_0000.nii.gz for channel 0 (T2), got no such file",
        "plain.nii.gz: expected 2 channels (T2, ADC), got one channel; give a file of each",
        "three_0002.nii.gz: expected 2 channels (T2, ADC), got one file too many",
        "small_0001.nii.gz: expected 20 x 24 x 2, the size of small_0000.nii.gz, got 10 x 50 x 2",
        "moved_0001.nii.gz: expected the affine of moved_0000.nii.gz",
        "many.nii.gz: expected 2 channels (T2, ADC), got 3 channels",
        "mask_0001.nii.gz: expected an image, got a label map or mask",
    }
    assert len(summary.failed) == len(wanted)
    for words in wanted:
        assert any(words in line for line in summary.failed), (words, summary.failed)


def test_colours_are_channels(predict, tmp_path):
    for n in range(6):
        custom_raw.picture(tmp_path / f"images/c{n}.png", custom_raw.noise(n, (20, 24, 3)))
        custom_raw.picture(tmp_path / f"labels/c{n}.png", custom_raw.square(n))
    channels = custom_raw.RED_GREEN_BLUE
    folder.prepare(tmp_path / "images", tmp_path / "labels", ["255=cell"], channels, tmp_path / "data", Options())
    ensemble = Ensemble([Model(trained_on(tmp_path / "data", tmp_path))])
    for n, name in enumerate(("split_0000", "split_0001", "split_0002")):
        custom_raw.picture(tmp_path / f"images/{name}.png", custom_raw.noise(0, (20, 24, 3))[..., n])
    summary, out = segment(predict, ensemble, tmp_path / "images")
    assert (summary.done, summary.failed) == (7, [])
    with Image.open(out / "c0.png") as one, Image.open(out / "split.png") as other:
        assert one.size == (24, 20)
        assert (np.asarray(one) == np.asarray(other)).all()


def test_a_network_of_one_channel_takes_no_more(chest, predict, tmp_path):
    custom_raw.volume(tmp_path / "in/a.nii.gz", custom_raw.noise(0, (20, 24, 1, 2), np.int16))
    summary, _ = predict(chest, tmp_path / "in")
    assert "a.nii.gz: expected an image or a volume, got 4 axes (20 x 24 x 1 x 2);" in summary.failed[0]
    assert readers.read_volume(tmp_path / "in/a.nii.gz", multichannel=True).values.shape == (20, 24, 1, 2)
    assert len(inputs.find_cases([str(tmp_path / "in")], tmp_path / "out", CHANNELS)) == 1


def test_a_run_that_does_not_know_its_channels_asks_for_its_data(prostates, tmp_path):
    import json
    import shutil

    data, run = prostates
    copy = shutil.copytree(run, tmp_path / "run")
    described = json.loads((copy / "data.json").read_text())
    del described["channels"]
    (copy / "data.json").write_text(json.dumps(described))
    assert TrainingData.read(copy / "data.json").channels == ("image",)
    with pytest.raises(
        InputError, match=r"expected 4 input channels for its network, got 3 from images of image; .* --dataset-dir"
    ):
        Model(copy)
    assert Model(copy, data).data.channels == CHANNELS


def test_an_export_of_such_a_run_gives_the_same_files(ensemble, raw, predict, prostates, tmp_path):
    bundle = export(prostates[1], tmp_path / "exported", running.ROOT)
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
    assert list(channels.values())[:2] == list(CHANNELS)
    _, wanted = segment(predict, ensemble, raw / "imagesTr")
    with running.kept_state():
        monai.bundle.run(
            config_file=str(bundle / "configs/inference.json"),
            logging_file=False,
            bundle_root=str(bundle),
            dataset_dir=str(raw / "imagesTr"),
            output_dir=str(tmp_path / "found"),
        )
    files = sorted(path.name for path in (tmp_path / "found").iterdir())
    assert files == sorted(path.name for path in wanted.glob("*.nii.gz"))
    for name in files:
        assert (tmp_path / "found" / name).read_bytes() == (wanted / name).read_bytes()
