"""Export a run as a bundle in the layout of MONAI's model zoo, usable without the training data.

``configs`` and ``training`` derive the configurations from that of the run, and ``models`` writes its network as
PyTorch, TorchScript and ONNX, which must agree. ``facts`` gathers what the run knows; ``metadata``, ``card`` and, as a
part of it, ``claim`` write it down.
"""

import shutil
from pathlib import Path

import numpy as np
import torch

from medpos.bundle.fragments import load_fragment
from medpos.core.config import as_literal
from medpos.core.errors import InputError
from medpos.core.files import write_folder, write_json, write_text
from medpos.export import configs, models, training
from medpos.export.card import write_card
from medpos.export.facts import gather_facts
from medpos.export.metadata import ExportedRun, build_metadata
from medpos.export.processes import for_one_process
from medpos.export.use import describe_use, describe_use_of_run
from medpos.predict.model import Model
from medpos.predict.run_files import EXPORTED, EXPORTED_WEIGHTS
from medpos.runs import files
from medpos.runs.task import not_a_segmentation

__all__ = ["export", "write_run_card"]


def write_run_card(run: Path, out: Path | None = None, dataset_dir: Path | None = None) -> Path:
    """Write the model card of a run, with its CLAIM checklist, as Markdown.

    Args:
        run: folder of the run.
        out: file of the card, which is replaced; None: ``model_card.md`` in the run's folder.
        dataset_dir: training data, for a run without ``data.json`` whose data have moved.

    Returns:
        The file.

    Raises:
        InputError: the run is missing, classifies whole images, or the file can't be written.
    """
    _refuse_exported(run, f"read {run / 'docs/README.md'}, which is its card, or give the run that it came from")
    model = Model(run, dataset_dir, device="cpu")
    model.check_segments()
    facts = gather_facts(run, model, files.Run(run).config)
    path = out or run / files.CARD
    write_text(path, write_card(facts, describe_use_of_run(facts)))
    return path


def _refuse_exported(run: Path, advice: str) -> None:
    if not files.Run(run).is_recorded and (run / EXPORTED).is_file():
        raise InputError(f"{run}: expected a run, got an exported bundle; {advice}")


def export(run: Path, out: Path, project: Path, dataset_dir: Path | None = None) -> Path:
    """Write a run as a bundle that others can use.

    Args:
        run: folder of the run.
        out: folder of the bundle; must not exist, and appears only when the bundle is complete and checked.
        project: folder with ``LICENSE``, and ``bundles/`` with the metadata and fragments of medpos.
        dataset_dir: training data, for a run without ``data.json`` whose data have moved.

    Returns:
        The folder ``out``.

    Raises:
        InputError: the run is missing or can't be exported, ``out`` exists or can't be written, or packages are
            missing.
    """
    models.check_installed()
    if out.exists() or out.is_symlink():
        raise InputError(f"{out}: expected a folder that doesn't exist, got an existing one; choose another --out")
    _refuse_exported(run, "copy it, or give the run that it came from")
    model = Model(run, dataset_dir, device="cpu")
    if model.classifies:
        raise not_a_segmentation(run)
    if model.input_shape is None:
        raise InputError(
            f"{run}: expected a run whose network gets images of one size, got one with images of any size; give the "
            "bundle a resampling step, or an inferer with windows such as SlidingWindowInferer, and train again"
        )
    shape = model.input_shape
    return write_folder([out], lambda folder: _write_bundle(folder, run, model, shape, project))


def _write_bundle(folder: Path, run: Path, model: Model, shape: tuple[int, int, int], project: Path) -> None:
    bundles = project / "bundles"
    config, own = for_one_process(files.Run(run).config), len(model.data.channels)
    # In a window that is part of an image the position channels depend on its place, so they come from outside.
    inside = model.sees_whole_images and model.slices == 1 and shape[0] > own
    position = configs.find_position(config) if inside else None
    exported = ExportedRun(
        facts=gather_facts(run, model, config),
        inputs=shape if position is None else (own, *shape[1:]),
        outputs=models.output_shape(model.network, shape),
    )
    about = {"is_flat": model.is_flat, "is_absolute": model.is_absolute, "size": shape[1], "position": position}
    template = load_fragment(bundles / "src/inference.yaml")
    metadata = as_literal(build_metadata(files.read_json(bundles / "metadata.json"), exported))
    contents = {
        "inference": configs.inference_config(template, config, model.data, about),
        "train": training.train_config(config, model.data, about),
        "multi_gpu_train": training.multi_gpu_config(files.read_json(bundles / "multi_gpu.json")),
        "evaluate": training.evaluate_config(config),
        "metadata": metadata,
    }
    for name, content in contents.items():
        write_json(folder / f"configs/{name}.json", content)
    shutil.copyfile(bundles / "logging.conf", folder / "configs/logging.conf")
    shutil.copyfile(project / "LICENSE", folder / "LICENSE")
    (folder / EXPORTED_WEIGHTS).parent.mkdir()
    shutil.copyfile(run / files.MODEL, folder / EXPORTED_WEIGHTS)
    for name in (files.TEMPERATURES, files.DETECTORS, files.QUALITY):
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    free = models.write_models(folder, model.network, exported.inputs, exported.channels, exported.classes)
    write_text(folder / "docs/README.md", write_card(exported.facts, describe_use(exported, free)))
    _check_chain(folder, model)


def _check_chain(folder: Path, model: Model) -> None:
    """Check that the preprocessing without labels prepares images as that of the run does."""
    exported = Model(folder, device="cpu")
    rng = np.random.default_rng(0)
    channels = len(model.data.channels)
    values = rng.random((40, 48, 1 if model.is_flat else 2, *([channels] if channels > 1 else [])), np.float32) * 4095
    mine, theirs = (one.decode(values, model.pixdim) for one in (model, exported))
    if not (torch.equal(mine, theirs) and torch.equal(model.prepare(mine), exported.prepare(theirs))):
        raise InputError(
            f"{model.run}: expected preprocessing that works without the label, got one that changes without it; "
            "remove such steps from decode and standardise, and train again"
        )
