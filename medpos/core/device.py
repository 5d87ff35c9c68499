"""Check that a device is there and what it computes fast; wrap PyTorch's private interface.

Everything private of PyTorch that has no public equivalent is here, so that an upgrade of PyTorch is checked here.
"""

import os
import platform
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode  # private in PyTorch

from medpos.core.errors import InputError, first_line


def check_device(name: str, option: str = "--device") -> torch.device:
    """Return the device of a name, if this machine has it.

    Args:
        name: name of the device, such as ``cpu``, ``cuda`` or ``cuda:1``.
        option: option that the user gave it with, for the message.

    Raises:
        InputError: there is no such kind of device, no CUDA device, or none of this number.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"{option}: expected cpu, cuda or cuda:N, got {name!r}; give one of these") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and not count:
        raise InputError(f"{option}: expected cpu, as there is no CUDA device, got {name!r}; leave {option} out")
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"{option}: expected cuda:N with N from 0 to {count - 1}, got {name!r}; give one of these")
    if device.type not in ("cpu", "cuda"):
        try:
            torch.zeros(1, device=device).item()
        except (RuntimeError, AssertionError) as error:  # not compiled for it, or meta, which has no values
            raise InputError(
                f"{option}: expected cpu, cuda or cuda:N, got {name!r}, which can't compute here "
                f"({first_line(error, 80)}); give one of these"
            ) from error
    return device


def has_fast_bf16(device: torch.device | str) -> bool:
    """Tell whether bf16 convolutions run in hardware: CUDA with bf16 units, x86 with avx512_bf16 or AMX.

    Elsewhere bf16 is emulated and slower than float32, so the fast path stays in float32 there.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return bool(torch.cuda.get_device_capability(device) >= (8, 0))
    if device.type == "cpu":
        # oneDNN asks the same to choose its convolution kernel.
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _cpu_has_bf16_units()
    return False


def _cpu_has_bf16_units() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def describe_processor() -> dict[str, str]:
    """Return the name of the processor and the instructions that PyTorch uses of it.

    PyTorch and oneDNN choose their kernels by them, and a sum in another order is rounded to other bits.
    """
    units = {"avx512_bf16": torch.cpu._is_avx512_bf16_supported(), "amx": torch.cpu._is_amx_tile_supported()}
    limits = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA") if name in os.environ]
    parts = [torch.backends.cpu.get_cpu_capability(), *(name for name, found in units.items() if found), *limits]
    return {"processor": _processor_name(), "instruction_set": ", ".join(parts)}


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@lru_cache
def find_compile_fault(device: torch.device | str) -> str:
    """Compile a product for a device and say why that fails, such as a missing compiler; empty where it works."""
    try:
        one = torch.ones(8, device=device)
        works = bool((torch.compile(lambda values: values * 2)(one) == 2).all())
    except Exception as error:  # of the compiler's own kinds
        return first_line(error, 120)
    return "" if works else "it computes wrong values"


def is_computing_apart(tensor: Tensor) -> bool:
    """Tell whether a tensor is on a GPU, which computes while threads of the host do something else."""
    return bool(tensor.is_cuda)


def memory_format(device: torch.device | str) -> torch.memory_format:
    """Choose the memory layout of network and images: channels last where :func:`has_fast_bf16`, else contiguous.

    A CPU with AVX2 alone trains a channels-last network at only 0.6 times the speed.
    """
    return torch.channels_last if has_fast_bf16(device) else torch.contiguous_format


def is_main_process() -> bool:
    """Tell whether this is rank 0 or nothing is distributed; only this process writes files."""
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def tensor_version(tensor: Tensor) -> tuple[int, int]:
    """Return address and version of a tensor's memory; one of them changes when its values are replaced or changed."""
    return tensor.data_ptr(), tensor._version


def child_names(module: nn.Module) -> list[str]:
    """Return the names of a module's children in order, also of a child that occurs twice."""
    return list(module._modules)


def has_forward_hooks(module: nn.Module) -> bool:
    """Tell whether hooks run after the module's forward pass."""
    return bool(module._forward_hooks)


def arguments_by_name(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call of an ATen operation by name, those left out at their defaults."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    return {a.name: given.get(a.name, a.default_value) for a in func._schema.arguments}


class ExtendableConv2d(nn.Conv2d):
    """Let a subclass change the input of a convolution; TorchScript can't compile ``super().forward``."""

    def convolve(self, input: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H', W'] as ``Conv2d`` does."""
        return self._conv_forward(input, self.weight, self.bias)
