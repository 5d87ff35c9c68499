"""Derive ``train.json`` of an exported bundle, with its overlays, from the configuration of its run.

The training goes on from the exported weights and replaces them. Its cases are lists of images and label maps of any
format, as MONAI Label gives them by overrides of ``train#dataset#data`` and ``validate#dataset#data``, or those of a
prepared folder.
"""

import copy
from typing import Any

from medpos.bundle.tracking import remove_tracking
from medpos.core.config import Config, find_step, quote
from medpos.data.training_data import TrainingData
from medpos.export.configs import add_position, describe_source

_WEIGHTS = "@bundle_root + '/models/model.pt'"
# Keys of the machine and the run that trained, and what stands for them in the export.
_PLACES = {
    "bundle_root": ".",
    "start_from": f"${_WEIGHTS}",
    "runs_dir": "$@bundle_root + '/runs'",
    "run_name": "",
    "resume": False,
    "checkpoint": "",
    "device": "$'cuda' if torch.cuda.is_available() else 'cpu'",
    "data_folder": "@dataset_dir",
    "data_sha256": "$@source.sha256",
}
_RUN = [
    "$@run_folder.create()",
    "$bundle.try_data(@train::dataset, @validate::dataset)",
    "$@run_folder.record(bundle.resolved(), @device, @seed, @source.training_data)",
    "$handlers.train(@train::trainer)",
    f"$handlers.replace_weights(@run_folder, {_WEIGHTS})",
]
# A resumed training has weights of its own. MONAI Label adds such a handler where there is none.
_START = {
    "_desc_": "start from these weights",
    "_target_": "CheckpointLoader",
    "_disabled_": "$@resume or not @start_from",
    "load_path": "@start_from",
    "load_dict": {"model": "@network_def"},
}


def train_config(run: Config, data: TrainingData, about: Config) -> Config:
    """Build ``train.json``.

    Args:
        run: resolved configuration of the run.
        data: description of the training data.
        about: as for :func:`medpos.export.configs.inference_config`.
    """
    config = copy.deepcopy(remove_tracking(run))
    if config.pop("fold", None) is not None:  # one of the run's data; an export is trained on others
        config["known_keys"] = [key for key in config["known_keys"] if key != "fold"]
    decoding = [step for step in config["decode"]["transforms"] if not _reads(find_step(config, step))]
    own: Config = {
        "_desc_": [
            "Trains this bundle's network further, and puts the best epoch into models/model.pt.",
            "It needs lists of {image, label} for train#dataset#data and validate#dataset#data, or --dataset_dir, a",
            f'prepared folder of {data.name}. --start_from "" begins with new weights.',
        ],
        **_PLACES,
        "dataset_dir": f"$@bundle_root + {quote(f'/data/{data.name}')}",
        "source": {
            "_target_": "medpos.predict.labeled.LabeledSource.of_json",
            **describe_source(data),
            "folder": "@dataset_dir",
        },
        "decode": {**config["decode"], "transforms": decoding},
        "run": _RUN,
        # MONAI Label segments in the process that trained.
        "finalize": [*config.get("finalize", []), "$monai.data.set_track_meta(True)"],
    }
    if "begin_with" in config:
        own["begin_with"] = ""  # the exported weights
    if "steps" in config:
        own["steps"] = {name: step for name, step in config["steps"].items() if not _reads(step)}
    if about["position"] is not None:
        # In training the channels stand in the image already, as conditions may change them.
        own["network_def"] = add_position(config["network_def"], about["position"], data)
    whole = find_images(config["train"])
    sections = ((config["train"], whole, "training"), (config["validate"], "dataset", "validation"))
    for section, key, split in (*sections, (config, "dataset", "test")):
        section[key] = _labeled(section[key], about, split)
    config["validate"]["dataset"]["otherwise"] = f"@train::{whole}::data"
    handlers = [handler for handler in config["train"]["handlers"] if handler["_target_"] != _START["_target_"]]
    config["train"]["handlers"] = [_START, *handlers]
    return {"_desc_": own["_desc_"], "start_from": own["start_from"], **config, **own}


def find_images(section: Config) -> str:
    """Return the key of the data set of whole images, of which another one may cut patches."""
    key = "dataset"
    while "data" not in section[key]:
        key = str(section[key]["dataset"]).rpartition("::")[2]
    return key


def _reads(step: Any) -> bool:
    """Tell whether a step reads files, which the data set of an export does."""
    return isinstance(step, dict) and str(step.get("_target_")).endswith("LoadImaged")


def _labeled(dataset: Config, about: Config, split: str) -> Config:
    """Let a data set take images and label maps of any format."""
    # Lists of files that the run was given stay with it.
    drawn = isinstance(dataset["data"], str)
    return {
        **dataset,
        "data": dataset["data"] if drawn else f"$@source.cases('{split}')",
        "_target_": "medpos.predict.labeled.LabeledImages",
        "source": "@source",
        "is_flat": about["is_flat"],
        "is_absolute": about["is_absolute"],
    }


def multi_gpu_config(overlay: Config) -> Config:
    """Build ``multi_gpu_train.json``, an overlay of ``train.json`` for several GPUs.

    Args:
        overlay: content of medpos's own overlay ``multi_gpu.json``.
    """
    use = "torchrun --nproc_per_node=2 -m monai.bundle run --config_file"
    files = "\"['configs/train.json','configs/multi_gpu_train.json']\""
    return {**overlay, "_desc_": f"Overlay for several GPUs. Use: {use} {files}"}


def evaluate_config(run: Config) -> Config:
    """Build ``evaluate.json``, an overlay of ``train.json`` that tests the exported weights on the test split.

    Args:
        run: resolved configuration of the run.
    """
    return {
        "_desc_": "Use: --config_file \"['configs/train.json','configs/evaluate.json']\" --dataset_dir DATA",
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "run": run["evaluate"],
        "training": _RUN,
    }
