"""The configurations of an exported bundle, from the one that its run left."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from medpos.bundle.tracking import without
from medpos.core.errors import InputError
from medpos.data.training_data import TrainingData

Config = dict[str, Any]

# Of MONAI's dictionary transforms: these hold a value for each key.
_PER_KEY = frozenset({"dtype", "mode", "padding_mode", "align_corners", "anti_aliasing", "anti_aliasing_sigma"})
_CHAIN = ("network_def", "network", "decode", "standardise", "inferer")
# They name places of the machine that trained, or the data that stay there.
_PLACES = frozenset({"data_folder", "dataset_dir", "runs_dir", "run_folder", "data_sha256"})
_REFERENCE = re.compile(r"@([A-Za-z_]\w*)")


def inference(template: Config, run: Config, data: TrainingData, about: Config) -> Config:
    """``inference.json``: the run's network and chain, for images without labels and without the training data.

    Args:
        template: the wiring, ``inference.json`` of the fragments.
        run: the run's configuration.
        data: what it was trained on.
        about: ``is_flat``, ``is_absolute``, and ``size``, the side of the network's images in px.

    Raises:
        InputError: the chain reads the training data.
    """
    own = {key: run[key] for key in _CHAIN}
    own["decode"], own["standardise"] = image_only(run["decode"]), image_only(run["standardise"])
    own["network_def"] = _of_known_size(run["network_def"], about["size"])
    # An overlay may have put another inferer around the chain's.
    tested = run.get("evaluator", {}).get("inferer", "@inferer")
    used = _referred([*own.values(), tested], run)
    own |= {key: run[key] for key in sorted(used) if key not in template and key not in own}
    own["evaluator"] = {**template["evaluator"], "inferer": tested}
    if places := sorted(_PLACES & (own.keys() | _names(own.values()))):
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
    first, *rest = template["preprocessing"]["transforms"]
    load = {**first, "is_flat": about["is_flat"], "is_absolute": about["is_absolute"]}
    config["preprocessing"] = {**template["preprocessing"], "transforms": [load, *rest]}
    config |= own
    config["imports"] = [*template["imports"], *_imports(run["imports"], own, template["imports"])]
    return {**config, "known_keys": [*config, "known_keys"]}


def _imports(lines: Iterable[str], own: Config, known: Iterable[str]) -> list[str]:
    """Those of a run's imports that expressions of its chain need, and the template lacks."""
    texts = " ".join(_texts(own.values()))
    names = {line: line.rpartition(" ")[2] for line in lines if line not in set(known)}
    return [line for line, name in names.items() if re.search(rf"\b{re.escape(name)}\.", texts)]


def image_only(chain: Config) -> Config:
    """A chain of dictionary transforms for ``image`` and ``label``, without the label and without reading files.

    MONAI's metadata are kept on, so that the way back to the image's grid travels with it.
    """
    return {**chain, "transforms": [_image_only(step) for step in chain["transforms"] if _keeps_image(step)]}


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


def _names(values: Iterable[Any]) -> set[str]:
    """Top-level keys that are referred to anywhere inside."""
    return {name for text in _texts(values) for name in _REFERENCE.findall(text)}


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """All texts anywhere inside."""
    stack = list(values)
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict | list):
            stack.extend(node.values() if isinstance(node, dict) else node)


def _referred(values: Iterable[Any], run: Config) -> set[str]:
    """The same, and what those refer to in turn."""
    elsewhere = {"source", "device", "bundle_root"}  # the template has its own
    found: set[str] = set()
    new = (_names(values) & run.keys()) - elsewhere
    while new:
        found |= new
        new = (_names(run[key] for key in new) & run.keys()) - elsewhere - found
    return found


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
        # Under another name: what nothing refers to is taken for a mistyped override.
        "training": run["run"],
        "known_keys": [*run["known_keys"], "training"],
    }
