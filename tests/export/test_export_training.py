"""Train an exported bundle further as MONAI Label does: on lists of images and label maps, by overrides."""

import json
import shutil
import sys

import monai
import monai.bundle
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from running import ALL, BUNDLES, ROOT, kept_state, refusal, run_bundle

from medpos.core.errors import InputError
from medpos.data import DataFolder
from medpos.data.training_data import TrainingData
from medpos.export import export
from medpos.export.training import find_images
from medpos.predict.labeled import LabeledImages, LabeledSource
from medpos.predict.model import Model


def pairs(prepared, kind, folder, split="training", turned=False, picture=False):
    """Copy cases of a prepared folder under other names, and return the list that MONAI Label would give."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for n, case in enumerate(DataFolder(prepared[kind]).cases(split)):
        item = {}
        for key in ("image", "label"):
            image = nibabel.load(case[key])
            image = image.as_reoriented(np.array([[1, 1], [0, -1], [2, 1]])) if turned else image
            path = folder / f"{split}-{n}-{key}.{'png' if picture else 'nii.gz'}"
            if picture:
                values = np.asarray(image.dataobj)[..., 0].T
                Image.fromarray(values.astype(np.uint8 if key == "label" else np.uint16)).save(path)
            else:
                nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine), path)
            item[key] = str(path)
        found.append(item)
    return found


def train(bundle, training, validation, **overrides):
    """Run the training as MONAI Label's BundleTrainTask does, in this process."""
    config = ConfigParser()
    config.read_config(bundle / "configs/train.json")
    given = {
        "bundle_root": str(bundle),
        "train#trainer#max_epochs": 1,
        "train#dataset#data": training,
        "device": "cpu",
        "train#handlers": config.get("train#handlers"),
        **({} if validation is None else {"validate#dataset#data": validation}),
        **{key.replace("__", "#"): value for key, value in overrides.items()},
    }
    with kept_state():
        monai.bundle.run(
            run_id="run",
            init_id=None,
            final_id=None,
            meta_file=str(bundle / "configs/metadata.json"),
            config_file=str(bundle / "configs/train.json"),
            **given,
        )
        assert monai.data.get_track_meta(), "MONAI Label segments in the process that trained"
    [folder] = (bundle / "runs").glob("*/*")
    return folder


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.fixture
def copied(chest_bundle, tmp_path):
    """Return a copy of the exported chest bundle to train."""
    return shutil.copytree(chest_bundle, tmp_path / "chest")


@pytest.mark.parametrize(("turned", "picture"), [(False, False), (True, False), (False, True)])
def test_a_list_of_files_trains_from_the_exported_weights(copied, prepared, tmp_path, turned, picture):
    before = weights(copied / "models/model.pt")
    training, validation = (
        pairs(prepared, "jsrt", tmp_path / "files", split, turned, picture) for split in ("training", "validation")
    )
    folder = train(copied, training, validation, lr=1e-9)
    after = weights(copied / "models/model.pt")
    assert all(torch.equal(value, weights(folder / "start.pt")[key]) for key, value in before.items())
    trained = [key for key in before if key.endswith(("conv.weight", "score.weight"))]
    # The rate is so small that the weights are those of the export, and not new ones.
    assert all(torch.allclose(after[key], before[key], atol=1e-6) for key in trained)
    assert not all(torch.equal(after[key], before[key]) for key in after)
    assert (folder / "model.pt").read_bytes() == (copied / "models/model.pt").read_bytes()
    assert TrainingData.read(folder / "data.json").labels == Model(copied).data.labels
    assert json.loads((folder / "config.json").read_text())["train"]["dataset"]["data"] == training


def test_training_teaches_and_the_bundle_predicts_with_the_result(copied, prepared, tmp_path, capsys):
    training = pairs(prepared, "jsrt", tmp_path / "files")
    image = torch.rand(1, 32, 32)
    before = Model(copied, device="cpu").probabilities(image)
    folder = train(copied, training, None, train__trainer__max_epochs=2)
    assert "validating on the training cases, which flatters" in capsys.readouterr().out
    found = Model(copied, device="cpu").probabilities(image)
    assert not torch.allclose(found, before)
    # The run's folder is a run like any other.
    assert torch.equal(Model(folder, device="cpu").probabilities(image), found)
    again = export(folder, tmp_path / "again", ROOT)
    assert torch.equal(Model(again, device="cpu").probabilities(image), found)
    assert str(tmp_path) not in "".join(path.read_text() for path in again.rglob("*.json"))


def test_volumes_are_trained_by_slice(heart_bundle, prepared, tmp_path):
    bundle = shutil.copytree(heart_bundle, tmp_path / "heart")
    training = pairs(prepared, "acdc", tmp_path / "files", turned=True)
    before = weights(bundle / "models/model.pt")
    train(bundle, training[:2], training[2:3], lr=1e-9)
    after = weights(bundle / "models/model.pt")
    assert torch.allclose(after["score.weight"], before["score.weight"], atol=1e-6)


def test_an_export_has_no_fold(copied, prepared):
    """The key would be taken without an effect."""
    given = {"bundle_root": str(copied), "dataset_dir": str(prepared["jsrt"]), "fold": "2/3"}
    assert "--fold: bundle jsrt_small_pe has no such key" in refusal(copied / "configs/train.json", **given)


def test_what_is_trained_on_is_what_a_prepared_folder_gives(copied, prepared, tmp_path):
    with kept_state():
        parser = ConfigParser()
        parser.read_config(copied / "configs/train.json")
        parser["dataset_dir"] = str(prepared["jsrt"])
        own = [dict(case) for case in parser.get_parsed_content("source").cases("training")]
        decode, source = parser.get_parsed_content("decode"), parser.get_parsed_content("source")
        wanted = LabeledImages(own, decode, dict, source, True, True)
        turned, picture = (
            LabeledImages(pairs(prepared, "jsrt", tmp_path / name, **{name: True}), decode, dict, source, True, True)
            for name in ("turned", "picture")
        )
        for n in range(len(wanted)):
            for found in (turned[n], picture[n]):
                assert torch.equal(found["image"], wanted[n]["image"])
                assert torch.equal(found["label"], wanted[n]["label"])
                assert found["case"] == f"case-{n + 1}"
        torch.testing.assert_close(turned[0]["spacing_mm"], wanted[0]["spacing_mm"], rtol=1e-6, atol=0)
        assert wanted[0]["label"].unique().tolist() == [0, 1, 2, 3]


def test_a_process_of_its_own_as_in_the_model_card(copied, prepared, tmp_path):
    before = weights(copied / "models/model.pt")
    run = run_bundle(
        copied / "configs/train.json",
        cwd=tmp_path,
        bundle_root=copied,
        dataset_dir=prepared["jsrt"],
        max_epochs=1,
        run_name="again",
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert (copied / "runs/jsrt_small_pe/again/model.pt").is_file()
    assert not all(torch.equal(value, weights(copied / "models/model.pt")[key]) for key, value in before.items())


@pytest.mark.torture
def test_two_processes_train_by_the_overlay(copied, prepared, tmp_path):
    """As BundleTrainTask does for several GPUs: overrides written into a file, then torchrun with the overlay."""
    training = pairs(prepared, "jsrt", tmp_path / "files")
    config = ConfigParser()
    config.read_config(copied / "configs/train.json")
    config.set(str(copied), "bundle_root")
    config.set(1, "train#trainer#max_epochs")
    config.set(training, "train#dataset#data")
    config.set(training[:2], "validate#dataset#data")
    path = copied / "configs/monailabel_train.json"
    ConfigParser.export_config_file(config.config, str(path), indent=2)
    before = weights(copied / "models/model.pt")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    run = run_bundle(path, copied / "configs/multi_gpu_train.json", cwd=tmp_path, launcher=launcher, run_name="two")
    assert run.returncode == 0, run.stderr[-3000:]
    after = weights(copied / "models/model.pt")
    assert not all(torch.equal(value, after[key]) for key, value in before.items())
    assert list(after) == list(before)


class TestLists:
    @pytest.fixture
    def source(self, trained):
        return LabeledSource(**vars(TrainingData.read(trained / "data.json")))

    def refused(self, source, *cases):
        def whole(item):
            return item

        with pytest.raises(InputError) as error:
            LabeledImages([*cases], whole, whole, source, True, False).fill()
        return str(error.value)

    def saved(self, values, path):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        return str(path)

    def test_bad_lists_are_refused_in_one_line(self, source, tmp_path):
        image = self.saved(np.random.default_rng(0).random((9, 8, 1)).astype(np.float32), tmp_path / "a.nii.gz")
        assert "got neither; give one of them" in self.refused(source)
        assert "case 1 of the list: expected image and label, got no label" in self.refused(source, {"image": image})
        other = self.saved(np.zeros((9, 7, 1), np.uint8), tmp_path / "b.nii.gz")
        assert "b.nii.gz: expected a label map of 9 x 8 x 1 like its image, got 9 x 7 x 1" in self.refused(
            source, {"image": image, "label": other}
        )
        soft = self.saved(np.full((9, 8, 1), 0.5, np.float32), tmp_path / "c.nii.gz")
        assert "c.nii.gz: expected whole numbers as labels" in self.refused(source, {"image": image, "label": soft})
        high = self.saved(np.full((9, 8, 1), 4, np.uint8), tmp_path / "d.nii.gz")
        assert "d.nii.gz: expected labels 0 to 3, got 4" in self.refused(source, {"image": image, "label": high})

    def test_a_folder_of_other_classes_is_refused(self, source, prepared):
        other = LabeledSource(**{**vars(source), "folder": str(prepared["acdc"])})
        with pytest.raises(InputError, match="expected the classes background, right_lung"):
            other.cases("training")
        assert source.cases("training") == []


@pytest.mark.parametrize("name", [*ALL, "chest"])
def test_the_images_of_patches_are_found(name):
    """A training on patches reads its images by another data set, which gets the lists of an export."""
    wanted = {"brain_usegnet": "slices", "brain_unet": "slices", "jsrt_patch": "images"}.get(name, "dataset")
    path = BUNDLES / ("chest_example.yaml" if name == "chest" else f"{name}.json")
    section = ConfigParser.load_config_file(path)["train"]
    assert find_images(section) == wanted
    assert "data" in section[wanted]
