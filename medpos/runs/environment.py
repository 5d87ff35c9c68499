"""Record the environment of a run: software versions, commit, seed, device and threads."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("medpos", "monai", "torch", "numpy", "pytorch-ignite", "nibabel", "scipy")


def environment(device: torch.device | str, seed: int) -> dict[str, Any]:
    """Collect everything that a run's numbers may depend on besides its configuration.

    Args:
        device: device that the run computes on.
        seed: random seed of the run.

    Returns:
        Time and command of the start, seed, device, threads, platform, commit and package versions, ready for JSON.
    """
    device = torch.device(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": seed,
        "device": {"type": device.type, "name": name, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the running code, with ``-dirty`` for uncommitted changes; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
