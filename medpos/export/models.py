"""Write a network as TorchScript and ONNX, and check that all forms give equal logits."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import monai.bundle
import numpy as np
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.predict.backends import write_onnx

TOLERANCE = 1e-4
Forward = Callable[[torch.Tensor], torch.Tensor]


def check_installed() -> None:
    """Check that the packages of the extra ``export`` are installed, before a minute of work.

    Raises:
        InputError: a package is missing.
    """
    try:
        import onnx  # type: ignore[import-untyped,unused-ignore]  # noqa: F401
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"export: {error.name} is not installed (needed for model.onnx); pip install 'medpos[export]'"
        ) from None


def write_models(folder: Path, network: nn.Module, shape: Sequence[int], classes: Sequence[str]) -> None:
    """Write ``model.ts`` and ``model.onnx`` beside ``model.pt``, and compare all three.

    Args:
        folder: folder of the bundle, with ``configs`` and ``models/model.pt``.
        network: network with its weights, on the CPU.
        shape: shape [C, X, Y] of its input.
        classes: names of its output channels.

    Raises:
        InputError: the forms differ by more than ``TOLERANCE`` times the largest logit.
    """
    models, configs = folder / "models", folder / "configs"
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).float().eval()
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with _quiet():
        monai.bundle.ckpt_export(
            net_id="network_def",
            filepath=str(models / "model.ts"),
            ckpt_file=str(models / "model.pt"),
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / "inference.json"),
            key_in_ckpt="",
            use_trace=True,
            input_shape=[1, *shape],
        )
        write_onnx(plain, example, models / "model.onnx")
    _name_classes(models / "model.onnx", classes)
    with torch.inference_mode():
        expected = plain(example)
    # Batches of one and two: the batch size must be free in every form.
    forms = {"model.pt": _eager(folder), "model.ts": _scripted(models), "model.onnx": _session(models)}
    for name, forward in forms.items():
        for count in (1, 2):
            _compare(name, forward(example[:count]), expected[:count])


def output_shape(network: nn.Module, shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape [C, X, Y] of the logits.

    Args:
        network: network in evaluation mode, on the CPU.
        shape: shape [C, X, Y] of its input.
    """
    with torch.inference_mode():
        channels, x, y = network(torch.zeros(1, *shape)).shape[1:]
    return int(channels), int(x), int(y)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' messages for developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _name_classes(path: Path, classes: Sequence[str]) -> None:
    import onnx

    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    entry = model.metadata_props.add()
    entry.key, entry.value = "classes", ",".join(classes)
    onnx.save(model, str(path))


def _eager(folder: Path) -> Forward:
    """Load the bundle as any program that uses MONAI does."""
    with _quiet():
        network = monai.bundle.load(folder.name, bundle_dir=folder.parent, workflow_type="inference", device="cpu")
    return _inference(network)


def _scripted(models: Path) -> Forward:
    return _inference(torch.jit.load(str(models / "model.ts"), map_location="cpu"))


def _inference(network: torch.nn.Module) -> Forward:
    network.eval()

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            result: torch.Tensor = network(image)
        return result

    return run


def _session(models: Path) -> Forward:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(models / "model.onnx"), providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"image": image.numpy()})[0]))

    return run


def _compare(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    difference = float((found - expected).abs().max()) if found.shape == expected.shape else float("inf")
    # Not "difference > limit": a NaN must fail too.
    if not difference <= TOLERANCE * scale:
        raise InputError(
            f"export: expected {name} to give the logits of the run's network, got a difference of {difference:.3g} "
            f"with logits up to {scale:.3g}; nothing was written; please report it with the run's config.json"
        )
