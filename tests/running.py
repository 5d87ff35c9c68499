"""Run bundles in the tests: in a process of its own, as a user does, or in this one, which saves the start-up."""

import contextlib
import importlib.util
import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import monai
import monai.bundle
import pytest

from medpos.bundle.fragments import load_recipes
from medpos.core.config import expand_steps

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
ALL = sorted(load_recipes(BUNDLES / "src"))
PATCH = "jsrt_patch"  # the lecture's
NAMES = [name for name in ALL if name.split("_")[0] in ("jsrt", "acdc") and name != PATCH]  # the position study's
CLASSIFIERS = [name for name in ALL if name.startswith("imagenet")]  # of whole images
SECONDARY = [name for name in ALL if name not in [*NAMES, *CLASSIFIERS]]
# The CRF is compiled where it is installed; without it the DeepLab bundles run with none.
CRF = {} if importlib.util.find_spec("pydensecrf") else {"crf_iterations": 0}
# One thread: on images this small more cost time, above all where the machine is busy.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
# Of the fixture ``trained``: enough for every organ to be predicted, whatever the seed and the rounding.
TRAINED_EPOCHS = 8
# Of metrics.csv; other programs read it by these names.
COLUMNS = (
    "case,subject,split,degradation,severity,shift,organ,dice,iou,sensitivity,precision,hd95_mm,assd_mm,"
    "surface_dice,specificity,accuracy,npv"
)


def config_file(name, *overlays):
    """Return a bundle's file, or the list of it and its overlays, as MONAI's command line takes it."""
    files = [
        str(BUNDLES / f"{part}.json") if part in (*ALL, "multi_gpu", "crf") else str(part) for part in (name, *overlays)
    ]
    return files[0] if len(files) == 1 else files


def command(name, *overlays, entry="run", **overrides):
    """Return the arguments of ``python``; overrides are keywords with ``__`` for ``#``."""
    arguments = ["-m", "monai.bundle", "run", entry, "--config_file", str(config_file(name, *overlays))]
    for key, value in overrides.items():
        arguments += [f"--{key.replace('__', '#')}", str(value)]
    return arguments


def start(*args, cwd, launcher=(sys.executable,), **kwargs):
    """Start a run in a process of its own."""
    environment = {**ENVIRONMENT, **kwargs.pop("environment", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*launcher, *command(*args, **kwargs)], cwd=cwd, env=environment, **pipes)


def run_bundle(*args, **kwargs):
    """Run to the end in a process of its own."""
    process = start(*args, **kwargs)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def load_docs_script(name):
    """Import a script of docs/src."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / f"docs/src/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PEAK = """
import sys
from pathlib import Path
from medpos.core.memory import release_freed_memory

def peak(function):
    release_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")
    function()
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""


def measure_peaks(script, *arguments):
    """Run a script, in which ``peak(function)`` is the peak memory in bytes, and return the numbers that it prints."""
    command = [sys.executable, "-c", PEAK + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return list(map(int, done.stdout.split()))


def leave_to_torture(values, chosen):
    """Return parameters of a test; make test leaves the chosen ones to make torture."""
    return [pytest.param(value, marks=pytest.mark.torture) if value in chosen else value for value in values]


@contextlib.contextmanager
def kept_state():
    """Restore what a run changes in its process: log handlers, error display, search path, MONAI's switches."""
    root, hook, path = logging.getLogger(), sys.excepthook, list(sys.path)
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:], sys.excepthook, sys.path[:] = handlers, hook, path
        root.setLevel(level)
        monai.data.set_track_meta(True)
        monai.utils.set_determinism(seed=None)


def run_here(name, *overlays, entry="run", **overrides):
    """Run in this process; returns the newest run folder of the bundle."""
    overrides = {key.replace("__", "#"): value for key, value in overrides.items()}
    with kept_state():
        monai.bundle.run(run_id=entry, config_file=config_file(name, *overlays), logging_file=False, **overrides)
    return newest(overrides["runs_dir"])


def newest(runs_dir):
    """Return the newest run folder of any bundle."""
    return max(Path(runs_dir).glob("*/*/"), key=lambda folder: folder.stat().st_mtime_ns)


def refusal(*args, **kwargs):
    """Return the message of a run that must be refused: one line, no traceback, as the process would show it."""
    shown = io.StringIO()
    with kept_state():
        overrides = {key.replace("__", "#"): value for key, value in kwargs.items() if key != "entry"}
        try:
            file = config_file(*args)
            monai.bundle.run(run_id=kwargs.get("entry", "run"), config_file=file, logging_file=False, **overrides)
        except Exception:
            with contextlib.redirect_stderr(shown):
                sys.excepthook(*sys.exc_info())
        else:
            raise AssertionError("was not refused")
    message = shown.getvalue()
    assert message.startswith("error: "), message
    assert message.count("\n") == 1, message
    assert message.endswith("\n")
    return message


def at(config, path):
    """Return the value at a path such as ``train::loss``; a named step of a chain is found by its name."""
    for key in path.split("::"):
        config = config[int(key) if isinstance(config, list) else key]
    return config


def targets(config, path):
    """List the classes of a chain's steps in order; for a chain inside it, its reference."""
    parts = expand_steps(at(config, path), config)["transforms"]
    return [part["_target_"] if isinstance(part, dict) else part for part in parts]


def parser(name, **overrides):
    """Parse the configuration of a bundle, to build parts of it without a run."""
    config = monai.bundle.ConfigParser()
    config.read_config(config_file(name))
    config.update({key.replace("__", "#"): value for key, value in overrides.items()})
    return config
