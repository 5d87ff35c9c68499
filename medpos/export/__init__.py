"""Handing a run on: a folder as MONAI's model zoo has them, complete without medpos's data.

``configs`` (from the run's configuration) -> ``metadata`` and ``card`` (from its results) -> ``models`` (its network as
PyTorch, TorchScript and ONNX, which must agree).
"""

import os
import shutil
from pathlib import Path

import numpy as np
import torch

from medpos.bundle.fragments import fragment
from medpos.core.errors import InputError
from medpos.core.files import write_json, write_text
from medpos.export import configs, models
from medpos.export.card import card
from medpos.export.metadata import Subject, metadata
from medpos.predict.model import Model
from medpos.predict.run_files import EXPORTED, EXPORTED_WEIGHTS
from medpos.runs import files
from medpos.runs.task import not_a_segmentation

__all__ = ["export"]


def export(run: Path, out: Path, project: Path, dataset_dir: Path | None = None) -> Path:
    """Write a run as a bundle that others can use.

    Args:
        run: the run's folder.
        out: folder of the bundle; must not exist. It appears when it is complete and has passed its checks.
        project: folder of ``LICENSE``, and of ``bundles/`` with the project's metadata and fragments.
        dataset_dir: the training data, for a run that lacks ``data.json`` and whose data have moved.

    Returns:
        ``out``.

    Raises:
        InputError: no run, or none that can be handed on; ``out`` is there or can't be written; packages are missing.
    """
    models.check_installed()
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: is there already and is not overwritten; choose another --out")
    if not files.Run(run).is_recorded and (run / EXPORTED).is_file():
        raise InputError(f"{run}: is an exported bundle already; copy it, or give the run that it came from")
    model = Model(run, dataset_dir, device="cpu")
    if model.classifies:
        raise not_a_segmentation(run)
    if model.input_shape is None:
        raise InputError(
            f"{run}: gives its network each image as it is, and an exported network takes one size; give the bundle an "
            "inferer with windows, such as SlidingWindowInferer, or let it resample, and train again"
        )
    # Beside its place, so that it can be moved there in one step.
    partial = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        _fill(partial, run, model, model.input_shape, project)
        partial.rename(out)
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error}); make room or choose another --out") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _fill(folder: Path, run: Path, model: Model, shape: tuple[int, int, int], project: Path) -> None:
    bundles, finished = project / "bundles", files.Run(run)
    config = finished.config
    about = {"is_flat": model.is_flat, "is_absolute": model.is_absolute, "size": shape[1]}
    subject = Subject(
        bundle=str(config.get("bundle_name", run.resolve().parent.name)),
        run=run.resolve().name,
        config=config,
        data=model.data,
        inputs=shape,
        outputs=models.output_shape(model.network, shape),
        slices=model.slices,
        summary=finished.summary,
        environment=finished.environment,
    )
    contents = {
        "inference": configs.inference(fragment(bundles / "src/inference.yaml"), config, model.data, about),
        "train": configs.train(config, model.data),
        "evaluate": configs.evaluate(config),
        "metadata": metadata(files.read_json(bundles / "metadata.json"), subject),
    }
    for name, content in contents.items():
        write_json(folder / f"configs/{name}.json", content)
    shutil.copyfile(bundles / "logging.conf", folder / "configs/logging.conf")
    shutil.copyfile(project / "LICENSE", folder / "LICENSE")
    write_text(folder / "docs/README.md", card(subject))
    (folder / EXPORTED_WEIGHTS).parent.mkdir()
    shutil.copyfile(run / files.MODEL, folder / EXPORTED_WEIGHTS)
    models.write(folder, model.network, shape, subject.classes)
    _check_chain(folder, model)


def _check_chain(folder: Path, model: Model) -> None:
    """The chain without labels must prepare images as the run's own does."""
    exported = Model(folder, device="cpu")
    rng = np.random.default_rng(0)
    channels = len(model.data.channels)
    values = rng.random((40, 48, 1 if model.is_flat else 2, *([channels] if channels > 1 else [])), np.float32) * 4095
    mine, theirs = model.decode(values), exported.decode(values)
    if not (torch.equal(mine, theirs) and torch.equal(model.prepare(mine), exported.prepare(theirs))):
        raise InputError(
            f"{model.run}: its chain needs the label to prepare an image, which a new image hasn't; take such steps "
            "out of decode and standardise, and train again"
        )
