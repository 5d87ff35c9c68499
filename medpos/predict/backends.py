"""Run a trained network in PyTorch, ONNX Runtime or OpenVINO."""

import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medpos.core.device import has_fast_bf16
from medpos.core.errors import InputError, first_line

BACKENDS = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("", "int8")
Network = Callable[[torch.Tensor], torch.Tensor]


def compile_network(network: nn.Module, backend: str, shape: Sequence[int] | None, amp: bool) -> Network:
    """Compile a network for a backend.

    Args:
        network: network in evaluation mode, on the CPU unless the backend is ``torch``.
        backend: ``torch``: the network itself, with exactly the results of its run; ``onnxruntime``: float32;
            ``openvino``: bf16 where the CPU computes it in hardware and ``amp`` allows it.
        shape: shape [C, X, Y] of an input; None: X and Y differ between images, which only ``torch`` supports.
        amp: whether bf16 is allowed.

    Returns:
        Function from images [N, C, X, Y] to logits [N, classes, X, Y], float32.

    Raises:
        InputError: the backend is unknown, isn't installed, or doesn't support the network or images of several sizes.
    """
    if backend not in BACKENDS:
        raise InputError(f"--backend: expected one of {', '.join(BACKENDS)}, got {backend!r}; give one of these")
    if backend == "torch":
        own: Network = network
        return own
    if shape is None:
        raise InputError(
            f"--backend {backend}: expected a run whose network gets images of one size, got one with images of any "
            "size; leave --backend out"
        )
    build = _onnxruntime if backend == "onnxruntime" else _openvino
    try:
        return build(network, torch.zeros(1, *shape), amp)
    except ImportError as error:
        raise InputError(f"--backend {backend}: {error.name} is not installed; pip install 'medpos[fast]'") from None
    except Exception as error:
        reason = first_line(error, 150)
        raise InputError(f"--backend {backend}: can't compile this network ({reason}); leave --backend out") from error


def check_precision(precision: str, backend: str) -> str:
    """Return the precision, if the backend has it.

    Raises:
        InputError: it is unknown, or the backend is another than ``openvino``.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision: expected int8, got {precision!r}; give int8, or leave it out")
    if precision and backend != "openvino":
        raise InputError(f"--precision {precision}: expected --backend openvino with it, got --backend {backend}")
    return precision


def _onnxruntime(network: nn.Module, example: torch.Tensor, amp: bool) -> Network:
    import onnxruntime  # type: ignore[import-untyped,unused-ignore]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(network, example, path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: torch.Tensor) -> torch.Tensor:
        content = np.ascontiguousarray(image.float().numpy())
        return torch.from_numpy(session.run(None, {"image": content})[0])

    return run


def write_onnx(network: nn.Module, example: torch.Tensor, path: Path, any_size: bool = False) -> None:
    """Write a network as ONNX: ``image`` [n, C, X, Y] to ``logits`` [n, classes, X, Y], float32, any n.

    Args:
        network: network in evaluation mode, on the CPU.
        example: example of an input [N, C, X, Y].
        path: file to write.
        any_size: whether X and Y may differ from the example's.
    """
    free = {0: "n", 2: "x", 3: "y"} if any_size else {0: "n"}
    torch.onnx.export(
        network,
        (example,),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": free, "logits": free},
        dynamo=False,
    )


def _openvino(network: nn.Module, example: torch.Tensor, amp: bool) -> Network:
    return compile_openvino(convert_to_openvino(network, example), amp)


def convert_to_openvino(network: nn.Module, example: torch.Tensor) -> Any:
    """Convert a network to an OpenVINO model of any number of images.

    Args:
        network: network in evaluation mode, on the CPU.
        example: example of an input [N, C, X, Y].
    """
    import openvino  # type: ignore[import-untyped,unused-ignore]

    model = openvino.convert_model(network, example_input=example)
    model.reshape([-1, *example.shape[1:]])
    return model


def compile_openvino(model: Any, amp: bool) -> Network:
    """Compile an OpenVINO model for the CPU.

    Args:
        model: the model, or the file of one.
        amp: whether bf16 is allowed, where the CPU computes it in hardware.
    """
    settings: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if amp and has_fast_bf16("cpu") else "f32",
    }
    compiled = _core().compile_model(model, "CPU", settings)

    def run(image: torch.Tensor) -> torch.Tensor:
        content = np.ascontiguousarray(image.float().numpy())
        return torch.from_numpy(np.array(compiled(content)[0], np.float32))

    return run


@functools.cache
def _core() -> Any:
    """Return OpenVINO's engine, and keep it alive until the process ends.

    It gives the compiling thread a stack for signal handlers and frees that stack when it is deleted; after a deletion
    in another thread, the next SIGTERM would crash the process.
    """
    import openvino

    return openvino.Core()
