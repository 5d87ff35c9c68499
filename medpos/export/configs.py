"""Derive ``inference.json`` of an exported bundle from the configuration of its run."""

import re
from collections.abc import Iterable
from typing import Any

from medpos.core.config import as_literal, find_references, find_step, find_texts, follow_references
from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData

Config = dict[str, Any]

# Arguments of MONAI's dictionary transforms that hold a value for each key.
_PER_KEY = frozenset({"dtype", "mode", "padding_mode", "align_corners", "anti_aliasing", "anti_aliasing_sigma"})
_CHAIN = ("network_def", "network", "decode", "standardise", "inferer")
# Keys that name folders of the machine that trained, or data that remain there.
_PLACES = frozenset({"data_folder", "dataset_dir", "runs_dir", "run_folder", "data_sha256"})


def inference_config(template: Config, run: Config, data: TrainingData, about: Config) -> Config:
    """Build ``inference.json``: the run's network and preprocessing, for images without labels and training data.

    Args:
        template: content of the fragment ``inference.yaml``.
        run: resolved configuration of the run.
        data: description of the training data.
        about: ``is_flat`` and ``is_absolute`` of the model, ``size``, the side of the network's images in pixels, and
            ``position``, the step that the network takes over (None: none).

    Raises:
        InputError: the preprocessing reads the training data.
    """
    own = {key: run[key] for key in _CHAIN}
    own["decode"], own["standardise"] = image_only(run["decode"], run), image_only(run["standardise"], run)
    if steps := {**_named_steps(own["decode"], run), **_named_steps(own["standardise"], run)}:
        own["steps"] = steps
    own["network_def"] = _with_size(run["network_def"], about["size"])
    if about["position"] is not None:
        own["network_def"] = add_position(own["network_def"], about["position"], data)
        own["standardise"]["transforms"].remove(about["position"])
    # An overlay may have replaced the inferer.
    tested = run.get("evaluator", {}).get("inferer", "@inferer")
    # Keys that the template defines itself are left out.
    used = follow_references([*own.values(), tested], run, {"source", "device", "bundle_root", *own})
    own |= {key: run[key] for key in sorted(used) if key not in template}
    own["evaluator"] = {**template["evaluator"], "inferer": tested}
    if places := sorted(_PLACES & (own.keys() | find_references(own.values()))):
        raise InputError(
            f"bundle {run['bundle_name']}: expected preprocessing without the training data, got references to "
            f"{', '.join(places)}, which an export can't contain; write the values into the bundle and train again"
        )
    name = run["bundle_name"]
    config = {**template, "_desc_": f"Exported from a run of {name} by 'python -m medpos export'.", "bundle_name": name}
    config["amp"] = run.get("amp", True)
    config["source"] = {**template["source"], **describe_source(data)}
    config["read_image"] = {**template["read_image"], "is_flat": about["is_flat"], "is_absolute": about["is_absolute"]}
    config |= own
    config["imports"] = [*template["imports"], *_imports(run["imports"], own, template["imports"])]
    return config


def describe_source(data: TrainingData) -> Config:
    """Return the arguments of :meth:`TrainingData.of_json` for a configuration."""
    # MONAI reads "#" in any text as a separator.
    labels = [{**label.to_json(), "colour": label.color.lstrip("#")} for label in data.labels]
    described: Config = as_literal({**data.to_json(), "labels": labels})
    return described


def _imports(lines: Iterable[str], own: Config, known: Iterable[str]) -> list[str]:
    """Return the run's imports that its preprocessing uses and the template lacks."""
    expressions = " ".join(find_texts(own.values()))
    aliases = {line: line.rpartition(" ")[2] for line in lines if line not in set(known)}
    return [line for line, name in aliases.items() if re.search(rf"\b{re.escape(name)}\.", expressions)]


def image_only(chain: Config, run: Config) -> Config:
    """Reduce dictionary transforms for ``image`` and ``label`` to the image, without reading files.

    The transforms keep MONAI's metadata, which hold what is needed to return to the image's grid. Named steps stay
    references; :func:`_named_steps` returns their content.

    Args:
        chain: configuration of a ``Compose``.
        run: resolved configuration of the run, with the named steps.
    """
    return {
        **chain,
        "transforms": [_image_only(part) for part in chain["transforms"] if _keeps_image(find_step(run, part))],
    }


def _named_steps(chain: Config, run: Config) -> Config:
    """Return the named steps of a chain, reduced to the image."""
    named = [part for part in chain["transforms"] if find_step(run, part) is not part]
    return {part.removeprefix("@steps::"): _image_only(find_step(run, part)) for part in named}


def _keeps_image(step: Any) -> bool:
    if not isinstance(step, dict):
        return True
    keys = step.get("keys", "image")
    reads = str(step.get("_target_")).endswith("LoadImaged")
    return not reads and (keys == "image" or "image" in list(keys))


def _image_only(step: Any) -> Any:
    if not isinstance(step, dict) or not isinstance(step.get("keys"), list):
        return step
    place, count = step["keys"].index("image"), len(step["keys"])
    one = {
        key: value[place] if key in _PER_KEY and isinstance(value, list) and len(value) == count else value
        for key, value in step.items()
        if key not in ("track_meta", "_desc_")
    }
    return {**one, "keys": "image"}


def _with_size(network: Config, size: int) -> Config:
    """Set the size of a mean mask, as MONAI's loader skips weights of another shape."""
    if str(network.get("_target_")).endswith("MeanMask"):
        return {**network, "size": [size, size]}
    return network


def find_position(run: Config) -> Any:
    """Return the step that appends position channels, as it stands in ``standardise``; None unless it is the last.

    Args:
        run: resolved configuration of the run.
    """
    last = next(reversed(run["standardise"]["transforms"]), None)
    step = find_step(run, last)
    appends = isinstance(step, dict) and str(step.get("_target_")).endswith("PositionChannels")
    return last if appends and step.get("keys", "image") == "image" else None


def add_position(network: Config, position: Any, data: TrainingData) -> Config:
    """Let a network append its position channels itself; that of a bundle trained further does already.

    Args:
        network: ``network_def`` of the run.
        position: step that appends the channels, or a reference to it.
        data: description of the training data.
    """
    if str(network.get("_target_")).endswith("AppendPosition"):
        return network
    return {
        "_desc_": "takes the image's own channels, and appends those of its position",
        "_target_": "medpos.networks.AppendPosition",
        "network": network,
        "position": position,
        "in_channels": len(data.channels),
    }
