"""Measure receptive fields by gradients: the pixels of the image that change one pixel of the features.

No gradients may cancel and no ReLU may be silent, so all weights are positive, and all biases are large enough for
positive features. In a max-pooling only the maximum has a gradient, so mean pooling replaces it, and its unpooling
gives every pixel of a window the window's value.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medpos.explain.layers import compute_features

_OFFSET = 4.0  # bias that keeps features positive where coordinate channels go from -3 to 3
_POOLS = ("max_pool2d", "_max_pool2d", "max_pool2d_with_indices")


class _Averaged(TorchFunctionMode):
    """Replace max-pooling by mean pooling, and unpooling to indices by unpooling to whole windows."""

    def __init__(self) -> None:
        super().__init__()
        self._strides: dict[tuple[int, int], tuple[int, Sequence[int]]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.scatter:
            return self._spread(args[0], args[3])
        if func.__name__ not in _POOLS:
            return func(*args, **kwargs)
        return self._pool(*args, **kwargs)

    def _pool(
        self,
        features: Tensor,
        kernel_size: int,
        stride: int | None = None,
        padding: int = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        mean = functional.avg_pool2d(features, kernel_size, stride, padding, ceil_mode, count_include_pad=False)
        if not return_indices:
            return mean
        self._strides[features[0, 0].numel(), mean[0, 0].numel()] = stride or kernel_size, (*features.shape[2:],)
        return mean, torch.zeros(mean.shape, dtype=torch.int64)

    def _spread(self, empty: Tensor, values: Tensor) -> Tensor:
        stride, (rows, columns) = self._strides[empty.shape[2], values.shape[2]]
        tall, wide = -(-rows // stride), -(-columns // stride)
        cells = values.reshape(*values.shape[:2], tall, wide)
        whole = cells.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
        return whole[:, :, :rows, :columns].flatten(2)


def measure_fields(
    network: nn.Module, layer: str, shape: tuple[int, int, int], rows: Sequence[int]
) -> list[tuple[int, int]]:
    """Measure the receptive fields of rows of a layer, at their middle pixel.

    Args:
        network: network in evaluation mode; a copy with positive weights is measured.
        layer: name of the layer, as :func:`medpos.explain.layers.trace_layers` gives it.
        shape: shape C, X, Y of the image.
        rows: numbers of the rows, from 0.

    Returns:
        For each row, the first and the last row of the image with a nonzero gradient; (0, -1) where there is none.
    """
    image = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    positive = _positive(network)
    with torch.enable_grad(), _Averaged():
        features = compute_features(positive, layer, image)
    if not features.requires_grad:
        return [(0, -1)] * len(rows)
    found = []
    for row in rows:
        pixel = features[0, :, row, features.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(pixel, image, retain_graph=True, allow_unused=True)
        seen = [] if gradient is None else gradient.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
        found.append((seen[0], seen[-1]) if seen else (0, -1))
    return found


def _positive(network: nn.Module) -> nn.Module:
    twin = copy.deepcopy(network).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in twin.parameters():
        if parameter.dim() > 1:
            # Random, not constant: the gradients of classes of equal logits would cancel.
            drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
            parameter.copy_(drawn / parameter[0].numel())
        else:
            parameter.fill_(_OFFSET)
    for module in twin.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.weight.fill_(1)
            module.running_mean.zero_()
            module.running_var.fill_(1)
    return twin
