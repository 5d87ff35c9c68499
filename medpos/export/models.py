"""Write a network as TorchScript and ONNX, and check that all forms give equal logits."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path

import monai.bundle
import numpy as np
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import AppendPosition
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


def write_models(
    folder: Path, network: nn.Module, shape: Sequence[int], channels: Sequence[str], classes: Sequence[str]
) -> dict[str, bool]:
    """Write ``model.ts`` and ``model.onnx`` beside ``model.pt``, and compare all three with the run's network.

    Args:
        folder: folder of the bundle, with ``configs`` and ``models/model.pt``.
        network: network of the run with its weights, on the CPU.
        shape: shape [C, X, Y] of the exported network's input.
        channels: names of its input channels.
        classes: names of its output channels.

    Returns:
        Whether ``model.ts`` and ``model.onnx`` take images of other sizes, by file name.

    Raises:
        InputError: the forms differ by more than ``TOLERANCE`` times the largest logit.
    """
    models, configs = folder / "models", folder / "configs"
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, *shape, generator=generator)
    # Sides that networks of strides up to 32 take, and that differ from each other.
    larger = torch.randn(1, shape[0], shape[1] + 32, shape[2] + 64, generator=generator)
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
    eager = _load(folder)
    expected = _expect(network, eager, example)
    free = {
        "model.ts": _takes(_scripted(models), eager, larger),
        "model.onnx": _write_onnx(models, eager, example, larger),
    }
    _describe(models / "model.onnx", channels=channels, classes=classes)
    # Batches of one and two: the batch size must be free in every form.
    forms = {"model.pt": _inference(eager), "model.ts": _scripted(models), "model.onnx": _session(models)}
    for name, forward in forms.items():
        for count in (1, 2):
            _compare(name, forward(example[:count]), expected[:count])
    return free


def _expect(network: nn.Module, exported: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """Compute the logits of the run's network, which gets its position channels from its preprocessing."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format).float()
    return _inference(plain)(exported.append(image) if isinstance(exported, AppendPosition) else image)


def _write_onnx(models: Path, network: nn.Module, example: torch.Tensor, larger: torch.Tensor) -> bool:
    """Write ``model.onnx`` for images of any size if it is right for a larger one, else for one size."""
    path = models / "model.onnx"
    with _quiet():
        with suppress(Exception):  # an operation that ONNX has for one size only
            write_onnx(network, example, path, any_size=True)
            if _takes(_session(models), network, larger):
                return True
        write_onnx(network, example, path)
    return False


def _takes(forward: Forward, network: nn.Module, image: torch.Tensor) -> bool:
    """Tell whether a form of a network takes an image of another size, and gives the network's logits for it."""
    try:
        expected = _inference(network)(image)
        found = forward(image)
    except Exception:  # each engine has errors of its own for a size that it doesn't take
        return False
    return found.shape == expected.shape and _difference(found, expected) <= TOLERANCE * _scale(expected)


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


def _describe(path: Path, **names: Sequence[str]) -> None:
    """Add the names of channels and classes to an ONNX file."""
    import onnx

    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    for key, values in names.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, ",".join(values)
    onnx.save(model, str(path))


def _load(folder: Path) -> nn.Module:
    """Load the bundle as any program that uses MONAI does."""
    with _quiet():
        network = monai.bundle.load(folder.name, bundle_dir=folder.parent, workflow_type="inference", device="cpu")
    eager: nn.Module = network.eval()
    return eager


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

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an image of a size that the network doesn't take is no error of the export
    session = onnxruntime.InferenceSession(str(models / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"image": image.numpy()})[0]))

    return run


def _compare(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = _scale(expected)
    difference = _difference(found, expected) if found.shape == expected.shape else float("inf")
    # Not "difference > limit": a NaN must fail too.
    if not difference <= TOLERANCE * scale:
        raise InputError(
            f"export: expected {name} to give the logits of the run's network, got a difference of {difference:.3g} "
            f"with logits up to {scale:.3g}; nothing was written; please report it with the run's config.json"
        )


def _difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max())


def _scale(logits: torch.Tensor) -> float:
    return max(1.0, float(logits.abs().max()))
