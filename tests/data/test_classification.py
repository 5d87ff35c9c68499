"""Test ImageNet's folders and crops, and the accuracy of classes."""

import json

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose
from PIL import Image

from medpos.core.errors import InputError
from medpos.core.labels import Label
from medpos.data.classification import ClassifiedImages, ImageClasses
from medpos.data.conditions import CLEAN, Condition
from medpos.data.sampler import EpochSampler
from medpos.data.training_data import TrainingData
from medpos.handlers.classification import ClassTable, TopK
from medpos.runs.folder import RunFolder
from medpos.runs.task import is_classification
from medpos.transforms import RandResizedCrop, ResizeShortSide


@pytest.fixture
def folder(tmp_path):
    """Write two classes of four images: wide red ones and high green ones, one of them gray and one with a palette."""
    for part in ("train", "val"):
        for name, color, size in (("n2", (0, 200, 0), (30, 41)), ("n1", (200, 0, 0), (52, 36))):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(4 if part == "train" else 1):
                Image.new("RGB", size, color).save(tmp_path / part / name / f"{number}.JPEG")
    Image.new("L", (33, 33), 50).save(tmp_path / "train/n1/0.JPEG")
    Image.new("P", (33, 33), 0).save(tmp_path / "train/n2/3.png")
    return tmp_path


def same(item):
    return item


class TestImageClasses:
    def test_classes_are_the_sorted_folders(self, folder):
        source = ImageClasses(folder)
        assert [(label.index, label.name) for label in source.labels] == [(0, "n1"), (1, "n2")]
        cases = source.cases("training")
        assert [case["label"] for case in cases] == [0] * 4 + [1] * 5
        assert cases[5]["case"] == "train/n2/1.JPEG"
        assert cases[5]["image"] == str(folder / "train/n2/1.JPEG")
        assert [case["case"] for case in source.cases("validation")] == ["val/n1/0.JPEG", "val/n2/0.JPEG"]
        assert source.cases("test") == source.cases("validation")
        assert not source.phantom

    def test_fewer_images(self, folder):
        source = ImageClasses(folder)
        few = source.cases("training", 3, seed=1)
        assert few == source.cases("training", 3, seed=1)
        assert len({case["case"] for case in few}) == 3
        assert few != source.cases("training", 3, seed=2)
        for number in (0, 10, "3"):
            with pytest.raises(InputError, match=r"train_cases: expected 1 to 9 .*, got"):
                source.cases("training", number)

    def test_hash_depends_on_names_and_classes(self, folder):
        first = ImageClasses(folder).sha256
        assert ImageClasses(folder).sha256 == first
        (folder / "val/n1/0.JPEG").rename(folder / "val/n1/9.JPEG")
        other = ImageClasses(folder).sha256
        assert other != first
        (folder / "PHANTOM.json").write_text("{}")
        assert ImageClasses(folder).sha256 not in (first, other)
        assert ImageClasses(folder).phantom

    def test_training_data_round_trip(self, folder, tmp_path):
        data = ImageClasses(folder).training_data
        data.write(tmp_path)
        assert TrainingData.read(tmp_path / "data.json") == data
        assert (data.channels, data.intensity["high"]) == (("red", "green", "blue"), 255)

    def test_refusals(self, folder, tmp_path):
        with pytest.raises(
            InputError, match="expected a folder with train and val, found none; give another dataset_dir"
        ):
            ImageClasses(tmp_path / "nowhere")
        (folder / "val/n3").mkdir()
        with pytest.raises(InputError, match="n3: expected a class of train"):
            ImageClasses(folder)


class TestClassifiedImages:
    def test_colors_and_columns_first(self, tmp_path, folder):
        item = ClassifiedImages(ImageClasses(folder).cases("training"), same, same)[5]
        assert item["image"].shape == (3, 30, 41)
        torch.testing.assert_close(item["image"].mean((1, 2)), torch.tensor([0.0, 200, 0]), atol=5, rtol=0)
        pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        [item] = ClassifiedImages([{"image": str(tmp_path / "a.png"), "label": 0, "case": "a"}], same, same)
        assert torch.equal(item["image"][1], torch.from_numpy(pixels[:, :, 1].T.copy()).float())

    def test_gray_images_and_palettes_have_three_channels(self, folder):
        data = ClassifiedImages(ImageClasses(folder).cases("training"), same, same)
        assert data[0]["image"].shape == data[8]["image"].shape == (3, 33, 33)

    def test_randomness_depends_only_on_seed_epoch_and_item(self, folder):
        Image.effect_noise((50, 50), 90).save(folder / "train/n1/1.JPEG")
        cases = ImageClasses(folder).cases("training")
        data = ClassifiedImages(cases, same, Compose([RandResizedCrop(8)]), seed=3)
        first = data[1]["image"]
        assert torch.equal(ClassifiedImages(cases, same, Compose([RandResizedCrop(8)]), seed=3)[1]["image"], first)
        assert not torch.equal(ClassifiedImages(cases, same, Compose([RandResizedCrop(8)]), 4)[1]["image"], first)
        EpochSampler(data).set_epoch(1)
        assert not torch.equal(data[1]["image"], first)

    def test_conditions(self, folder):
        cases = ImageClasses(folder).cases("validation")
        data = ClassifiedImages(cases, same, same).under([CLEAN, Condition("gaussian_blur", 2), Condition(shift_x=3)])
        found = [(item["case"], item["degradation"], item["severity"], item["shift_x"]) for item in data]
        assert found[2:] == [(c["case"], *rest) for rest in (("gaussian_blur", 2, 0), ("none", 0, 3)) for c in cases]

    def test_a_broken_file_is_named(self, folder):
        (folder / "train/n1/2.JPEG").write_text("no image")
        data = ClassifiedImages(ImageClasses(folder).cases("training"), same, same)
        with pytest.raises(InputError, match=r"2.JPEG: can't be read as an image \(cannot .*\); unpack it again"):
            data[2]


class TestCrops:
    def test_short_side(self):
        image = torch.rand(1, 90, 61, generator=torch.Generator().manual_seed(0))
        found = ResizeShortSide(20)({"image": image})["image"]
        assert found.shape == (1, 29, 20)
        pillow = Image.fromarray(image[0].numpy().T).resize((29, 20), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(found[0].numpy().T, np.array(pillow), atol=1e-5)

    def test_area_shape_and_place(self):
        x, y = torch.meshgrid(torch.arange(400.0), torch.arange(300.0), indexing="ij")
        crop, item, areas, logs = RandResizedCrop(40).set_random_state(0), {"image": torch.stack([x, y])}, [], []
        for _ in range(300):
            found = crop(item)["image"]
            assert found.shape == (2, 40, 40)
            # Neighbors in the middle are 1/40 of the part's side apart.
            sides = [
                (found[axis].movedim(axis, 0)[-5, 0] - found[axis].movedim(axis, 0)[5, 0]).item() / 30 * 40
                for axis in (0, 1)
            ]
            areas.append(sides[0] * sides[1] / 120_000)
            logs.append(np.log(sides[0] / sides[1]))
        assert min(areas) > 0.075
        assert max(areas) > 0.85
        assert np.mean(areas) == pytest.approx(self.mean_of_those_that_fit(), abs=0.04)
        assert np.abs(logs).max() < np.log(4 / 3) + 0.06
        assert np.mean(logs) == pytest.approx(0, abs=0.04)

    def mean_of_those_that_fit(self):
        rng = np.random.default_rng(0)
        area, aspect = rng.uniform(0.08, 1, 100_000), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 100_000))
        sides = np.sqrt(area * 120_000 * aspect), np.sqrt(area * 120_000 / aspect)
        return area[(sides[0] <= 400) & (sides[1] <= 300)].mean()

    def test_a_crop_that_never_fits_is_taken_from_the_center(self):
        ramp = torch.arange(100.0).reshape(1, 100, 1).expand(1, 100, 6)
        crop = RandResizedCrop(4, area=(1, 1)).set_random_state(0)
        found = crop({"image": ramp})["image"]
        assert found.mean().item() == pytest.approx(49.5, abs=0.01)  # 8 of 100 columns
        assert (found.max() - found.min()).item() == pytest.approx(6, abs=0.5)


LABELS = [Label(n, name, "#000000") for n, name in enumerate("abcdef")]
FALLING = [6.0, 5, 4, 3, 2, 1]  # class n has rank n + 1


def evaluated(scores, labels, conditions=(CLEAN,), handlers=()):
    batch = [
        {"image": torch.zeros(1), "label": n, "case": str(i), **condition.to_item()}
        for condition in conditions
        for i, n in enumerate(labels)
    ]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(batch, batch_size=3),
        network=torch.nn.Identity(),
        inferer=lambda inputs, network: torch.tensor([scores.pop(0) for _ in inputs]),
        key_val_metric={"top1": TopK(LABELS)},
        val_handlers=handlers,
    )
    evaluator.run()
    return evaluator.state.metrics


class Source:
    name, phantom = "imagenet", True


class TestTopK:
    def test_shares_and_files(self, tmp_path, caplog):
        run = RunFolder(tmp_path, "bundle", "a").create()
        run.results.mkdir(parents=True)
        labels, conditions = [0, 4, 5, 1, 0], [CLEAN, Condition("shot_noise", 3, shift_x=8)]
        scores = [FALLING] * 5 + [FALLING[::-1]] * 5
        with caplog.at_level("INFO"):
            metrics = evaluated(scores, labels, conditions, [ClassTable(run, Source(), "b")])
        assert (metrics["top1"], metrics["top5"]) == pytest.approx((3 / 10, 7 / 10))
        lines = (run.results / "predictions.csv").read_text().splitlines()
        assert lines[0] == "case,degradation,severity,shift,class,predicted,rank"
        assert lines[1:3] == ["0,none,0,0,a,a,1", "1,none,0,0,e,a,5"]
        assert lines[6] == "0,shot_noise,3,x+8,a,f,6"
        clean = {"degradation": "none", "severity": 0, "shift": "0", "images": 5, "top1": 0.4, "top5": 0.8}
        noisy = {"degradation": "shot_noise", "severity": 3, "shift": "x+8", "images": 5, "top1": 0.2, "top5": 0.6}
        assert json.loads((run.results / "summary.json").read_text()) == {
            "bundle": "b",
            "data": "imagenet",
            "phantom": True,
            "split": "validation",
            "conditions": [clean, noisy],
        }
        assert "shot_noise 3, shift x+8 px: top-1 0.200, top-5 0.600 of 5 images\nPHANTOM DATA" in caplog.text

    def test_equal_or_nonfinite_scores_count_as_wrong(self):
        nan = float("nan")
        metrics = evaluated([[1.0] * 6, [nan] * 6, [0.0, 2, 1, 0, 0, 0]], [0, 0, 1])
        assert (metrics["top1"], metrics["top5"]) == pytest.approx((1 / 3, 1 / 3))


def test_classification_bundles_are_recognized_by_their_key_metric():
    assert is_classification({"key_metric": {"top1": {}}})
    assert not any(map(is_classification, ({}, {"key_metric": {"mean_dice": {}}}, {"key_metric": None})))
