"""Compare trainings and tests on a GPU with a bare loop and with stock MONAI: one command, under 4 minutes.

    python -m benchmarks.gpu [--dataset_dir FOLDER] [--rows loading epoch profile compile command robustness]
    python -m benchmarks.gpu --rows figure2 [--acdc_dir FOLDER]    # some minutes more

The bare loop trains on tensors that are on the device already, in bf16 and channels last. Stock MONAI trains with
CacheDataset, DataLoader and SupervisedTrainer in float32, with the same transforms and batches. Without a folder the
images are phantoms, as many as JSRT has. On the CPU everything is small, to see that it runs.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.inferers import SimpleInferer
from monai.transforms import Compose

from benchmarks.bundles import ROOT, bundle
from data_prep.datasets import acdc, jsrt
from data_prep.phantoms import write
from medpos.core.device import has_fast_bf16, memory_format
from medpos.core.memory import release_freed_memory
from medpos.data import BatchLoader

# On a GPU as the issue of JSRT asks; on the CPU, to see that everything runs.
SIZES = {
    "cuda": {"bundle": "jsrt_pe", "cases": 247, "image_size": 256, "batch_size": 20, "epochs": 10, "max_epochs": 100},
    "cpu": {"bundle": "jsrt_small_pe", "cases": 8, "image_size": 32, "batch_size": 2, "epochs": 2, "max_epochs": 1},
}
NEVER = 10**6  # epochs between two validations
Settings = dict[str, Any]


def synchronize(device: torch.device) -> float:
    """Wait for the device and return the time in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(task: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a task takes, with what it started on the device."""
    started = synchronize(device)
    task()
    return synchronize(device) - started


def epoch_seconds(engine: Engine, device: torch.device) -> list[float]:
    """Run a trainer and return the seconds of each epoch but the first, which warms up."""
    ends: list[float] = []
    first = Events.EPOCH_STARTED(once=1)
    handles = [
        engine.add_event_handler(event, lambda _: ends.append(synchronize(device)))
        for event in (first, Events.EPOCH_COMPLETED)
    ]
    engine.run()
    for handle in handles:
        handle.remove()
    return [after - before for before, after in itertools.pairwise(ends[1:])]


class Trainer:
    """Train by a bundle: the whole trainer with its handlers, and epochs as the bundle has them."""

    def __init__(self, settings: Settings, **overrides: Any) -> None:
        release_freed_memory()
        self.parser = bundle(settings["bundle"], **settings["keys"], **overrides, run_name=f"run{time.time_ns()}")
        for step in self.parser.get("run")[:2]:
            self.evaluate(step)
        self.evaluate("$@run_folder.record(dict(), @device, @seed)")
        self.engine = self.parser.get_parsed_content("train::trainer")
        self.device = torch.device(self.parser.get_parsed_content("device"))

    def evaluate(self, step: str) -> None:
        """Evaluate an expression of an entry point."""
        self.parser.update({"step": step})
        self.parser.get_parsed_content("step")

    def epoch(self) -> float:
        """Return the mean seconds of an epoch."""
        return mean(epoch_seconds(self.engine, self.device))


class BareLoop:
    """Train on all training images on the device, by hand."""

    def __init__(self, parser: ConfigParser, epochs: int) -> None:
        self.device = torch.device(parser.get_parsed_content("device"))
        dataset = parser.get_parsed_content("train::dataset")
        items = [dataset[n] for n in range(len(dataset))]
        self.images, self.labels = (torch.stack([item[key] for item in items]) for key in ("image", "label"))
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        self.network, self.batch_size = parser.get_parsed_content("network"), parser.get_parsed_content("batch_size")
        self.optimizer = parser.get_parsed_content("train::optimizer")
        self.loss, self.epochs = parser.get_parsed_content("train::loss"), epochs

    def step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_fast_bf16(self.device)):
            logits = self.network(images.contiguous(memory_format=memory_format(self.device)))
        self.loss(logits.float(), labels).backward()
        self.optimizer.step()

    def run(self) -> None:
        self.network.train()
        for order in torch.randperm(len(self.images), device=self.device).split(self.batch_size):
            self.step(self.images[order], self.labels[order])

    def epoch(self) -> float:
        """Return the mean seconds of an epoch, after one that warms up."""
        self.run()
        return seconds_of(lambda: [self.run() for _ in range(self.epochs - 1)], self.device) / (self.epochs - 1)


class Stock:
    """Train the same network by MONAI's own parts in float32."""

    def __init__(self, parser: ConfigParser, epochs: int) -> None:
        self.device = torch.device(parser.get_parsed_content("device"))
        chain = Compose([parser.get_parsed_content(key) for key in ("decode", "train::preprocessing")]).flatten()
        files = [
            {key: case[key] for key in ("image", "label")} for case in parser.get_parsed_content("train::dataset").data
        ]
        network = parser.get_parsed_content("network_def").to(self.device, memory_format=torch.contiguous_format)
        self.engine = SupervisedTrainer(
            device=self.device,
            max_epochs=epochs,
            train_data_loader=DataLoader(
                CacheDataset(files, chain, progress=False),
                batch_size=parser.get_parsed_content("batch_size"),
                shuffle=True,
            ),
            network=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=1e-3),
            loss_function=torch.nn.CrossEntropyLoss(),
            inferer=SimpleInferer(),
            optim_set_to_none=True,
            decollate=False,
        )

    def epoch(self) -> float:
        """Return the mean seconds of an epoch."""
        return mean(epoch_seconds(self.engine, self.device))


def print_row(
    what: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """Print the ratio of the seconds of two tasks, measured by turns, and the seconds."""
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    _print(
        what, f"{median(ratios):.2f}", f"{median(ours):.3f} / {median(theirs):.3f}", median(ratios), at_most, at_least
    )


def _print(
    what: str, found: str, absolute: str, value: float, at_most: float | None = None, at_least: float | None = None
) -> None:
    needed = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}" if at_least is not None else ""
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    verdict = "" if not needed else "met" if met else "MISSED"
    print(f"| {what} | {found} | {absolute} | {needed} | {verdict} |", flush=True)


def compare_loading(settings: Settings, arguments: argparse.Namespace) -> None:
    """Compare the loading of an epoch's batches onto the device, item by item and as a whole."""
    parser = bundle(settings["bundle"], **settings["keys"])
    dataset, memory = (parser.get_parsed_content(key) for key in ("train::dataset", "device_memory"))
    whole = BatchLoader(dataset, memory, batch_size=settings["batch_size"])
    items = DataLoader(dataset, batch_size=settings["batch_size"])

    def load(loader: DataLoader) -> None:
        for batch in loader:
            _ = [batch[key].to(memory.device) for key in ("image", "label")]

    load(whole)  # decodes the images
    found = [[seconds_of(partial(load, loader), memory.device) for loader in (items, whole)] for _ in range(5)]
    what = f"loading {len(dataset)} images, without a network: item by item / as a whole"
    print_row(what, *map(list, zip(*found, strict=True)))


def compare_epochs(settings: Settings, arguments: argparse.Namespace) -> None:
    """Compare an epoch with the bare loop, with stock MONAI, and with one that is validated."""
    epochs = settings["epochs"]
    without = Trainer(settings, max_epochs=epochs, val_interval=NEVER)
    validated = Trainer(settings, max_epochs=2 * epochs)
    bare = BareLoop(bundle(settings["bundle"], **settings["keys"]), epochs)
    stock = Stock(bundle(settings["bundle"], **settings["keys"]), epochs)
    tasks = {"ours": without, "validated": validated, "bare": bare, "stock": stock}
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(arguments.repeats):
        for name, task in tasks.items():
            found[name].append(task.epoch())
    print_row("epoch: trainer without validation / bare loop", found["ours"], found["bare"], at_most=1.10)
    print_row("epoch: stock MONAI / ours", found["stock"], found["ours"], at_least=2.0)
    print_row("epoch: with validation / without", found["validated"], found["ours"], at_most=1.15)
    if without.device.type == "cuda":
        compare_memory(without, bare)


def compare_memory(ours: Trainer, bare: BareLoop) -> None:
    """Compare the peak of device memory with that of the bare loop, both beyond what is allocated before."""
    peaks = []
    for task in (ours.engine.run, bare.run):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        task()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    ratio = peaks[0] / peaks[1]
    absolute = " / ".join(f"{peak / 1e9:.2f} GB" for peak in peaks)
    _print(
        "peak device memory beyond weights and images: ours / bare loop", f"{ratio:.2f}", absolute, ratio, at_most=1.2
    )


class Profile:
    """Measure where the time of an engine goes: the seconds between two events, the device waited for at each."""

    def __init__(self, engine: Engine, device: torch.device, ends: dict[Any, str]) -> None:
        self.device, self.seconds = device, dict.fromkeys(ends.values(), 0.0)
        self.last = 0.0
        for event, name in ends.items():
            engine.add_event_handler(event, self.mark, name)

    def mark(self, engine: Engine, name: str) -> None:
        """Count the time since the event before for the part that ends here."""
        now = synchronize(self.device)
        self.seconds[name] += now - self.last
        self.last = now

    def start(self) -> None:
        """Begin to measure anew."""
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        self.last = synchronize(self.device)


TRAINING_PARTS: dict[Any, str] = {
    Events.GET_BATCH_STARTED: "handlers and loop",
    Events.GET_BATCH_COMPLETED: "batch",
    IterationEvents.FORWARD_COMPLETED: "forward",
    IterationEvents.LOSS_COMPLETED: "loss",
    IterationEvents.BACKWARD_COMPLETED: "backward",
    IterationEvents.MODEL_COMPLETED: "optimizer",
}
VALIDATION_PARTS: dict[Any, str] = {
    Events.GET_BATCH_STARTED: "metrics, handlers and loop",
    Events.GET_BATCH_COMPLETED: "batch",
    IterationEvents.FORWARD_COMPLETED: "forward",
    IterationEvents.MODEL_COMPLETED: "labels",
    Events.COMPLETED: "metrics, handlers and loop",
}


def profile_epochs(settings: Settings, arguments: argparse.Namespace) -> None:
    """Print where the time of an epoch of training and of validation goes."""
    epochs = settings["epochs"]
    task = Trainer(settings, max_epochs=epochs + 1)
    evaluator = task.parser.get_parsed_content("validate::evaluator")
    training = Profile(task.engine, task.device, TRAINING_PARTS)
    validation = Profile(evaluator, task.device, VALIDATION_PARTS)
    task.engine.add_event_handler(Events.EPOCH_STARTED(once=2), lambda _: (training.start(), validation.start()))
    evaluator.add_event_handler(Events.STARTED, lambda _: training.mark(task.engine, "handlers and loop"))
    evaluator.add_event_handler(Events.STARTED, lambda _: setattr(validation, "last", training.last))
    evaluator.add_event_handler(Events.COMPLETED, lambda _: setattr(training, "last", validation.last))
    task.engine.run()
    for what, found in (("training", training), ("validation", validation)):
        whole = sum(found.seconds.values())
        for name, seconds in found.seconds.items():
            _print(f"{what}: {name}", f"{seconds / whole:.0%}", f"{seconds / epochs:.4f}", 0.0)


def compare_compiled(settings: Settings, arguments: argparse.Namespace) -> None:
    """Compare an epoch of stock MONAI with ours under torch.compile."""
    ours = Trainer(settings, max_epochs=settings["epochs"], val_interval=NEVER, compile=True)
    stock = Stock(bundle(settings["bundle"], **settings["keys"]), settings["epochs"])
    warm_up = seconds_of(ours.epoch, ours.device)
    found = [(stock.epoch(), ours.epoch()) for _ in range(arguments.repeats)]
    what = f"epoch: stock MONAI / ours with --compile True (first run of {settings['epochs']} epochs: {warm_up:.0f} s)"
    print_row(what, [one for one, _ in found], [other for _, other in found], at_least=2.3)


def run_command(command: Sequence[str], folder: Path) -> None:
    """Run a command of this checkout in a folder, and show its output where it fails."""
    found = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(found)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def time_command(settings: Settings, arguments: argparse.Namespace) -> None:
    """Measure a whole training, from the command to the table."""
    keys = {**settings["keys"], "max_epochs": settings["max_epochs"], "run_name": "command"}
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += ["--config_file", str(ROOT / "bundles" / f"{settings['bundle']}.json")]
    command += [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    started = time.perf_counter()
    run_command(command, ROOT)
    spent = time.perf_counter() - started
    _print(f"{settings['max_epochs']} epochs, command to table", "", f"{spent:.1f}", spent, at_most=35)


def time_robustness(settings: Settings, arguments: argparse.Namespace) -> None:
    """Measure a test under 16 conditions beyond start-up, of the model of :func:`time_command` or of a short one."""
    folder = Path(settings["keys"]["runs_dir"]) / settings["bundle"] / "command"
    if not folder.is_dir():
        time_command({**settings, "max_epochs": 2}, arguments)
    parser = bundle(settings["bundle"], **settings["keys"], run_name="command")
    device = torch.device(parser.get_parsed_content("device"))
    spent = seconds_of(lambda: parser.get_parsed_content("robustness"), device)
    images = len(parser.get_parsed_content("source").cases("test"))
    _print(f"robustness of {images} images x 16 conditions, beyond start-up", "", f"{spent:.1f}", spent, at_most=3)


def time_figure2(settings: Settings, arguments: argparse.Namespace) -> None:
    """Measure a study of 12 U-Nets on ACDC, from the command to the page."""
    folder = Path(settings["keys"]["runs_dir"]).parent
    data, small = arguments.acdc_dir, arguments.device == "cpu"
    if not data:
        write("acdc", folder / "raw-acdc", cases=6 if small else 100, workers=os.cpu_count() or 1)
        acdc.prepare(folder / "raw-acdc", folder / "acdc", workers=os.cpu_count() or 1)
        data = str(folder / "acdc")
    command = [sys.executable, "-m", "medpos", "study", "figure2", "--data", "acdc"]
    command += ["--network", "small" if small else "unet", "--seeds", "0" if small else "0,1", "--threads", "1"]
    workers = min(12, os.cpu_count() or 1)
    command += ["--workers", str(workers), "--dataset-dir", f"acdc={data}"]
    command += [] if small else ["--gpus-per-training", f"{1 / workers:.3f}"]
    sizes = {"image_size": 32, "max_epochs": 1} if small else {"image_size": 128, "max_epochs": 20, "val_interval": 4}
    command += [text for key, value in sizes.items() for text in ("--set", f"{key}={value}")]
    command += ["--runs-dir", f"{folder}/runs", "--out", f"{folder}/figure2"]
    started = time.perf_counter()
    run_command(command, folder)
    spent = time.perf_counter() - started
    _print("figure2 on ACDC, 12 U-Nets of 20 epochs at 128 px", "", f"{spent:.1f}", spent, at_most=130)


def make_data(folder: Path, cases: int, size: int) -> str:
    """Make phantoms of JSRT on all cores and prepare them."""
    workers = os.cpu_count() or 1
    write("jsrt", folder / "raw", cases=cases, workers=workers)
    jsrt.prepare(folder / "raw", folder / "raw/scratch", folder / "jsrt", size=size, workers=workers)
    return str(folder / "jsrt")


TASKS = {
    "loading": compare_loading,
    "epoch": compare_epochs,
    "profile": profile_epochs,
    "compile": compare_compiled,
    "command": time_command,
    "robustness": time_robustness,
    "figure2": time_figure2,
}


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(SIZES), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dataset_dir")
    parser.add_argument("--acdc_dir")
    parser.add_argument("--rows", nargs="+", choices=TASKS, default=list(TASKS)[:-1])
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args(given)
    settings: Settings = dict(SIZES[arguments.device])
    with tempfile.TemporaryDirectory() as work:
        data = arguments.dataset_dir or make_data(Path(work), settings["cases"], max(settings["image_size"], 128))
        settings["keys"] = {"dataset_dir": data, "runs_dir": f"{work}/runs", "device": arguments.device}
        settings["keys"] |= {key: settings[key] for key in ("image_size", "batch_size")}
        name = torch.cuda.get_device_name() if arguments.device == "cuda" else "CPU"
        print(f"torch {torch.__version__}, {name}, {settings['bundle']}, {settings['image_size']} px\n", flush=True)
        if arguments.device == "cpu":
            print("Small, to see that it runs: the numbers mean nothing, and what is needed holds for a GPU.\n")
        print("| what | ratio | seconds | needed | |\n|---|---|---|---|---|", flush=True)
        for row in arguments.rows:
            TASKS[row](settings, arguments)


if __name__ == "__main__":
    main()
