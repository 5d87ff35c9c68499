"""Record the environment of a run, and find what differs when it is resumed."""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from medpos.core.device import describe_processor

_PACKAGES = ("medpos", "monai", "torch", "numpy", "pytorch-ignite", "nibabel", "scipy")
# Facts about the device that the bits of a result depend on.
_DECISIVE = ("type", "name", "processor", "instruction_set", "threads", "processes")


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
        "device": {
            "type": device.type,
            "name": name,
            **describe_processor(),
            "threads": torch.get_num_threads(),
            "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
            "cores": os.cpu_count(),
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "commit": commit(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def continue_environments(earlier: Sequence[dict[str, Any]], now: dict[str, Any]) -> list[dict[str, Any]]:
    """Add the environment of a call that resumes a run to those of the calls before.

    Args:
        earlier: environments of the calls before, as :func:`environment` gives them; empty for a new run.
        now: environment of this call.

    Returns:
        All environments. The last one has the key ``changed`` if anything that the bits of a result depend on has been
        different from the first call, in this call or an earlier one.
    """
    changes = dict.fromkeys(earlier[-1].get("changed", []) if earlier else [])
    changes |= dict.fromkeys(_find_changes(earlier[0], now) if earlier else [])
    return [*earlier, {**now, "changed": list(changes)} if changes else now]


def _find_changes(first: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List the decisive facts that differ; a fact that an earlier version didn't record is left out."""
    before, after = _decisive_facts(first), _decisive_facts(now)
    return [
        f"{name} was {before[name]}, is {after[name]}"
        for name in after
        if None not in (before.get(name), after[name]) and before[name] != after[name]
    ]


def _decisive_facts(facts: dict[str, Any]) -> dict[str, Any]:
    parts = [facts.get(key) for key in ("device", "packages")]
    device, packages = ({} if not isinstance(part, dict) else part for part in parts)
    own = {f"device {name}" if name in ("type", "name") else name: device.get(name) for name in _DECISIVE}
    return {**own, "commit": facts.get("commit"), **{name: packages.get(name) for name in _PACKAGES}}


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
