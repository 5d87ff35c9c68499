"""ImageNet's folders, its crops, and the accuracy of classes."""

import json

import numpy as np
import pytest
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import Compose
from PIL import Image

from medpos.classification import ImageFolders, RandResizedCrop, ResizeShortSide, TopK, read_rgb
from medpos.data import EpochSampler
from medpos.errors import InputError
from medpos.networks import SUNetClassifier
from medpos.runs import RunFolder


@pytest.fixture
def folder(tmp_path):
    """Two classes, four images each: wide red ones, high green ones, one of them grey and one a palette."""
    for name, colour, size in (("n2", (0, 200, 0), (30, 41)), ("n1", (200, 0, 0), (52, 36))):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", size, colour).save(tmp_path / "train" / name / f"{number}.JPEG")
    Image.new("L", (33, 33), 50).save(tmp_path / "train/n1/0.JPEG")
    Image.new("P", (33, 33), 0).save(tmp_path / "train/n2/3.png")
    return tmp_path / "train"


def same(item):
    return item


class TestImageFolders:
    def test_classes_are_the_sorted_folders(self, folder):
        data = ImageFolders(folder, same)
        assert data.classes == ["n1", "n2"]
        assert [item["label"] for item in data] == [0] * 4 + [1] * 5
        assert data[5]["case"] == "n2/1.JPEG"
        assert data[5]["image"].shape == (3, 30, 41)
        assert data[0]["image"].shape == (3, 33, 33)
        torch.testing.assert_close(data[5]["image"].mean((1, 2)), torch.tensor([0, 200, 0]) / 255, atol=0.02, rtol=0)

    def test_columns_come_first(self, tmp_path):
        pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
        Image.fromarray(pixels).save(tmp_path / "a.png")
        assert torch.equal(read_rgb(tmp_path / "a.png")[1] * 255, torch.from_numpy(pixels[:, :, 1].T.copy()).float())

    def test_random_by_seed_epoch_and_item_alone(self, folder):
        data = ImageFolders(folder, Compose([RandResizedCrop(8)]), seed=3)
        Image.effect_noise((50, 50), 90).save(folder / "n1/1.JPEG")
        first = data[1]["image"]
        assert torch.equal(ImageFolders(folder, Compose([RandResizedCrop(8)]), seed=3)[1]["image"], first)
        EpochSampler(data).set_epoch(1)
        assert not torch.equal(data[1]["image"], first)

    def test_refusals(self, folder, tmp_path):
        with pytest.raises(InputError, match="there is no such folder"):
            ImageFolders(tmp_path / "val", same)
        with pytest.raises(InputError, match="holds no folder"):
            ImageFolders(folder / "n1", same)
        (folder / "n1/2.JPEG").write_text("no image")
        with pytest.raises(InputError, match=r"2.JPEG: can't be read as an image"):
            ImageFolders(folder, same)[2]
        (folder / "n3").mkdir()
        with pytest.raises(InputError, match="n3: holds no image"):
            ImageFolders(folder, same)


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
            # Neighbours in the middle are 1/40 of the part's side apart.
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

    def test_what_never_fits_is_cut_in_the_middle(self):
        ramp = torch.arange(100.0).reshape(1, 100, 1).expand(1, 100, 6)
        crop = RandResizedCrop(4, area=(1, 1)).set_random_state(0)
        found = crop({"image": ramp})["image"]
        assert found.mean().item() == pytest.approx(49.5, abs=0.01)  # 8 of 100 columns
        assert (found.max() - found.min()).item() == pytest.approx(6, abs=0.5)


def evaluated(metric, scores, labels):
    batch = [{"image": torch.zeros(1), "label": n, "case": str(i)} for i, n in enumerate(labels)]
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=torch.utils.data.DataLoader(batch, batch_size=3),
        network=torch.nn.Identity(),
        inferer=lambda inputs, network: torch.tensor([scores.pop(0) for _ in inputs]),
        key_val_metric={"top1": metric},
    )
    evaluator.run()
    return evaluator.state.metrics


class TestTopK:
    def test_shares_and_files(self, tmp_path):
        run = RunFolder(tmp_path, "bundle", "a").create()
        run.results.mkdir(parents=True)
        falling = [6.0, 5, 4, 3, 2, 1]  # class n has rank n + 1
        metrics = evaluated(TopK(run, list("abcdef"), "b"), [falling] * 5, [0, 4, 5, 1, 0])
        assert (metrics["top1"], metrics["top5"]) == pytest.approx((2 / 5, 4 / 5))
        lines = (run.results / "predictions.csv").read_text().splitlines()
        assert lines[:3] == ["case,class,predicted,rank", "0,a,a,1", "1,e,a,5"]
        assert json.loads((run.results / "summary.json").read_text()) == {
            "bundle": "b",
            "images": 5,
            "top1": 0.4,
            "top5": 0.8,
        }

    def test_equal_or_broken_scores_are_no_success(self):
        nan = float("nan")
        metrics = evaluated(TopK(), [[1.0] * 6, [nan] * 6, [0.0, 2, 1, 0, 0, 0]], [0, 0, 1])
        assert (metrics["top1"], metrics["top5"]) == pytest.approx((1 / 3, 1 / 3))


def test_a_classifier_learns_its_folders(folder):
    """One whole iteration and evaluation with MONAI's engines."""
    torch.manual_seed(0)
    data = ImageFolders(folder, Compose([RandResizedCrop(32)]))
    network = SUNetClassifier(out_channels=2, variant="64", width=1 / 32)
    before = network.linear.weight.clone()
    loader = torch.utils.data.DataLoader(data, batch_size=9)
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=5e-4),
        loss_function=torch.nn.CrossEntropyLoss(),
        decollate=False,
    ).run()
    assert not torch.equal(network.linear.weight, before)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"), val_data_loader=loader, network=network, key_val_metric={"top1": TopK()}
    )
    evaluator.run()
    assert evaluator.state.metrics["top5"] == 1
