"""Compare the engines of ``medpos predict`` with plain float32 PyTorch (NCHW, nothing folded): speed and labels.

python -m benchmarks.backends [--run RUN --dataset_dir FOLDER [--backends torch openvino int8]]

Without a run only the speed of the U-Net is measured, which doesn't depend on weights. With a run of a U-Net, the share
of pixels with the same label as plain float32, on the images' own grid, and the difference of Dice are measured too.
OpenVINO's int8 needs training images, so it is measured with a run alone, on its test images.
"""

import argparse
import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.inferers import SimpleInferer

from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.device import memory_format
from medpos.core.memory import keep_freed_memory
from medpos.data.folder import DataFolder
from medpos.inferers import FastInferer
from medpos.metrics.overlap import overlap
from medpos.networks import UNet
from medpos.predict.backends import BACKENDS, compile_network
from medpos.predict.label_maps import compute_label_map
from medpos.predict.model import Model

SIZE = 256
BATCHES = {"1 X-ray": 1, "8 slices": 8}
FASTER, SAME, DICE = 3.0, 0.999, 0.002
INT8, INT8_FASTER, INT8_SAME, INT8_DICE = "int8", 5.0, 0.995, 0.005


class Apart:
    """Run a network in a process of its own, because the fast path changes how its process keeps memory."""

    def __init__(self, backend: str, batch: int, threads: int, clock: str) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.clock = clock
        self.process = ProcessPoolExecutor(1, spawn, Apart.build, (backend, batch, threads))
        self()  # the first run warms up

    @classmethod
    def build(cls, backend: str, batch: int, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        cls.image = torch.randn(batch, 3, SIZE, SIZE)
        cls.network, cls.inferer = UNet(in_channels=3, out_channels=4).eval(), SimpleInferer()
        if backend == "plain":
            return
        keep_freed_memory()  # as predict does
        cls.inferer = FastInferer(cls.inferer)
        network, shape = cls.network.to(memory_format=memory_format("cpu")), cls.image.shape[1:]
        cls.network = compile_network(network, backend, shape, True)

    @classmethod
    def run(cls, clock: str) -> float:
        with torch.inference_mode():
            return timed(lambda: cls.inferer(cls.image, cls.network), clock)

    def __call__(self) -> float:
        """Return the seconds of one run."""
        return self.process.submit(Apart.run, self.clock).result()


def plain_model(run: Path, folder: Path) -> Model:
    """Build the run's model with MONAI's own inferer in place of the fast path."""
    for name in ("config.json", "model.pt", "data.json"):
        shutil.copy(run / name, folder / name)
    config = json.loads((folder / "config.json").read_text())
    config["inferer"] = config["inferer"]["inferer"]
    (folder / "config.json").write_text(json.dumps(config))
    return Model(folder)


def build(run: Path, backend: str, dataset_dir: str) -> Model:
    """Build the run's model with a backend, or in int8."""
    if backend == INT8:
        return Model(run, Path(dataset_dir), backend="openvino", precision=INT8)
    return Model(run, backend=backend)


def compare_int8(run: Path, dataset_dir: str, arguments: argparse.Namespace) -> None:
    """Print how much faster the run's int8 network is than the plain one, on a test image."""
    torch.set_num_threads(arguments.threads)
    image = np.asarray(nibabel.load(DataFolder(dataset_dir).cases("test")[0]["image"]).dataobj, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        models = [plain_model(run, Path(folder)), build(run, INT8, dataset_dir)]
    decoded = models[0].decode(image)
    runs = [partial(timed, partial(model.probabilities, decoded), arguments.clock) for model in models]
    for one in runs:
        one()  # warms up
    ratios = by_turns(runs[0], runs[1], arguments.repeats)
    row(f"{run.parent.name}, a test image: plain float32 / int8", ratios, at_least=INT8_FASTER)


def predictions(model: Model, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Predict label maps on the images' own grids."""
    return [compute_label_map(model.probabilities(model.decode(image)), image.shape[:3]) for image in images]


def mean_dice(maps: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Compute the mean Dice of each organ over the cases, [classes - 1]."""
    found = [overlap(one, truth, classes)["dice"] for one, truth in zip(maps, truths, strict=True)]
    return np.nanmean(found, axis=0)


def agreement(run: Path, dataset_dir: str, backends: Sequence[str]) -> None:
    """Print how far labels and Dice agree with those of plain float32 on the test images."""
    source = DataFolder(dataset_dir)
    cases = source.cases("test")
    images = [np.asarray(nibabel.load(case["image"]).dataobj, np.float32) for case in cases]
    truths = [np.asarray(nibabel.load(case["label"]).dataobj) for case in cases]
    classes = len(source.labels)
    with tempfile.TemporaryDirectory() as folder:
        plain = predictions(plain_model(run, Path(folder)), images)
    before = mean_dice(plain, truths, classes)
    print(f"\nplain float32: Dice {before.mean():.4f} over {len(cases)} test images\n")
    print(
        "| engine | equal labels | worst image | difference of Dice | of the worst organ | |\n|---|---|---|---|---|---|"
    )
    for backend in backends:
        is_int8 = backend == INT8
        maps = predictions(build(run, backend, dataset_dir), images)
        equal = [float((one == other).mean()) for one, other in zip(maps, plain, strict=True)]
        same = np.average(equal, weights=[one.size for one in maps])
        change = mean_dice(maps, truths, classes) - before
        met = same >= (INT8_SAME if is_int8 else SAME) and abs(change).max() <= (INT8_DICE if is_int8 else DICE)
        print(
            f"| {backend} | {100 * same:.3f} % | {100 * min(equal):.3f} % | {change.mean():+.5f} | "
            f"{change[abs(change).argmax()]:+.5f} | {'met' if met else 'MISSED'} |",
            flush=True,
        )


def main() -> None:
    parser = options(__doc__, repeats=7)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=[*BACKENDS, INT8])
    parser.add_argument("--run", type=Path, help="a run folder, for the labels")
    parser.add_argument("--dataset_dir", help="the prepared folder that it was trained on")
    arguments = parser.parse_args()
    begin(arguments)
    for what, batch in BATCHES.items():
        how = (batch, arguments.threads, arguments.clock)
        for backend in (name for name in arguments.backends if name != INT8):
            plain, other = Apart("plain", *how), Apart(backend, *how)
            row(f"U-Net, {what}: plain float32 / {backend}", by_turns(plain, other, arguments.repeats), at_least=FASTER)
            plain.process.shutdown()
            other.process.shutdown()
    if arguments.run:
        if INT8 in arguments.backends:
            compare_int8(arguments.run, arguments.dataset_dir, arguments)
        agreement(arguments.run, arguments.dataset_dir, arguments.backends)


if __name__ == "__main__":
    main()
