"""The configurations of an exported bundle, from the one that its run left."""

import re
from collections.abc import Iterable
from typing import Any

from medpos.bundle.tracking import without
from medpos.core.config import names, referred, step, texts
from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData

Config = dict[str, Any]

# Of MONAI's dictionary transforms: these hold a value for each key.
_PER_KEY = frozenset({"dtype", "mode", "padding_mode", "align_corners", "anti_aliasing", "anti_aliasing_sigma"})
_CHAIN = ("network_def", "network", "decode", "standardise", "inferer")
# They name places of the machine that trained, or the data that stay there.
_PLACES = frozenset({"data_folder", "dataset_dir", "runs_dir", "run_folder", "data_sha256"})


def inference(template: Config, run: Config, data: TrainingData, about: Config) -> Config:
    """``inference.json``: the run's network and chain, for images without labels and without the training data.

    Args:
        template: the wiring, ``inference.yaml`` of the fragments.
        run: the run's configuration.
        data: what it was trained on.
        about: ``is_flat``, ``is_absolute``, and ``size``, the side of the network's images in px.

    Raises:
        InputError: the chain reads the training data.
    """
    own = {key: run[key] for key in _CHAIN}
    own["decode"], own["standardise"] = image_only(run["decode"], run), image_only(run["standardise"], run)
    if steps := {**_steps(own["decode"], run), **_steps(own["standardise"], run)}:
        own["steps"] = steps
    own["network_def"] = _of_known_size(run["network_def"], about["size"])
    # An overlay may have put another inferer around the chain's.
    tested = run.get("evaluator", {}).get("inferer", "@inferer")
    # The template has its own of some.
    used = referred([*own.values(), tested], run, {"source", "device", "bundle_root", *own})
    own |= {key: run[key] for key in sorted(used) if key not in template}
    own["evaluator"] = {**template["evaluator"], "inferer": tested}
    if places := sorted(_PLACES & (own.keys() | names(own.values()))):
        raise InputError(
            f"bundle {run['bundle_name']}: its chain reads {', '.join(places)}, which an export can't hold; write the "
            "values into the bundle and train again"
        )
    name = run["bundle_name"]
    config = {**template, "_desc_": f"Exported from a run of {name} by 'python -m medpos export'.", "bundle_name": name}
    config["amp"] = run.get("amp", True)
    # MONAI reads "#" in any text as a separator.
    labels = [{**label.to_json(), "colour": label.color.lstrip("#")} for label in data.labels]
    config["source"] = {**template["source"], **data.to_json(), "labels": labels}
    config["read_image"] = {**template["read_image"], "is_flat": about["is_flat"], "is_absolute": about["is_absolute"]}
    config |= own
    config["imports"] = [*template["imports"], *_imports(run["imports"], own, template["imports"])]
    return config


def _imports(lines: Iterable[str], own: Config, known: Iterable[str]) -> list[str]:
    """Those of a run's imports that expressions of its chain need, and the template lacks."""
    expressions = " ".join(texts(own.values()))
    aliases = {line: line.rpartition(" ")[2] for line in lines if line not in set(known)}
    return [line for line, name in aliases.items() if re.search(rf"\b{re.escape(name)}\.", expressions)]


def image_only(chain: Config, run: Config) -> Config:
    """A chain of dictionary transforms for ``image`` and ``label``, without the label and without reading files.

    MONAI's metadata are kept on, so that the way back to the image's grid travels with it. Steps that have a name are
    left by their names; :func:`_steps` has their content.
    """
    return {**chain, "transforms": [_image_only(part) for part in chain["transforms"] if _keeps_image(step(run, part))]}


def _steps(chain: Config, run: Config) -> Config:
    """The content of the named steps of a chain, for the image alone."""
    named = [part for part in chain["transforms"] if step(run, part) is not part]
    return {part.removeprefix("@steps::"): _image_only(step(run, part)) for part in named}


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


def _of_known_size(network: Config, size: int) -> Config:
    """A mean mask has no size before it has weights, and MONAI's loader passes over weights of another shape."""
    if str(network.get("_target_")).endswith("MeanMask"):
        return {**network, "size": [size, size]}
    return network


def train(run: Config, data: TrainingData) -> Config:
    """``train.json``: the run's own configuration; the data have to be given, as ``dataset_dir``."""
    own = {
        "_desc_": f"The training of this bundle. It needs --dataset_dir, a prepared folder of {data.name}.",
        "bundle_root": ".",
        "dataset_dir": f"$@bundle_root + '/data/{data.name}'",
        "runs_dir": "$@bundle_root + '/runs'",
        "run_name": "",
        "resume": False,
        "checkpoint": "",
        "device": "$'cuda' if torch.cuda.is_available() else 'cpu'",
        "data_folder": "@dataset_dir",
        "data_sha256": "$@source.sha256",
    }
    return {key: own.get(key, value) for key, value in without(run).items()}


def evaluate(run: Config) -> Config:
    """``evaluate.json``, laid over ``train.json``: the exported weights on the test split."""
    return {
        "_desc_": "Use: --config_file \"['configs/train.json','configs/evaluate.json']\"",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "run": run["evaluate"],
        "training": run["run"],
    }
