"""Derive the receptive fields of an operation's result from those of its inputs, one rule for each operation.

A rule is a function of the operation's arguments by name, the fields of its tensor arguments that depend on the image,
and the operation's result.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from medpos.core.errors import InputError
from medpos.explain.receptive_field import BEYOND, NONE, ReceptiveFields, RowNumbers

Arguments = dict[str, Any]
Rule = Callable[[Arguments, list[ReceptiveFields], Any], ReceptiveFields]


class UnknownOperationError(InputError):
    """Report an operation of a network that has no rule here."""


def rule_of(func: Any) -> Rule:
    """Return the rule of an operation.

    Args:
        func: operation of ATen, as a ``TorchDispatchMode`` gets it.

    Raises:
        UnknownOperationError: the operation has no rule.
    """
    name = func.overloadpacket.__name__
    if name in RULES:
        return RULES[name]
    if torch.Tag.pointwise in func.tags or name in _ROW_BY_ROW:
        return _row_by_row
    raise UnknownOperationError(
        f"expected operations with a rule in medpos/explain/field_rules.py, got {name} in the network; add its rule to "
        "RULES"
    )


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors among values, also those inside lists and tuples."""
    found: list[torch.Tensor] = []
    for value in values:
        found += tensors_in(value) if isinstance(value, tuple | list) else []
        found += [value] if isinstance(value, torch.Tensor) else []
    return found


def _of_rows(value: Any, otherwise: int = 1) -> int:
    """Return the number for the rows, from one number for both axes or a number for each axis, columns last."""
    if isinstance(value, int):
        return value
    return int(value[-2] if len(value) > 1 else value[0]) if value else otherwise


def _row_by_row(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Keep rows apart: each row depends on the same row of every input."""
    rows = _first(result).shape[-2:-1]
    dims = values.get("dim")
    axes = [] if dims is None else [dims] if isinstance(dims, int) else dims
    if any(axis % _first(list(values.values())).dim() == _first(result).dim() - 2 for axis in axes):
        raise UnknownOperationError(
            "expected operations that keep rows apart, got one along the rows; add its rule to RULES in "
            "medpos/explain/field_rules.py"
        )
    joined = found[0]
    for fields in found[1:]:
        joined = joined.union(fields)
    return joined.rearranged(lambda part: np.broadcast_to(part, rows))


def _first(result: Any) -> torch.Tensor:
    return tensors_in([result])[0]


def _convolution(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    steps = [_of_rows(values[name]) for name in ("stride", "padding", "dilation")]
    slide = _transposed_taps if values["transposed"] else _sliding_taps
    return found[0].through(slide(len(found[0].first), result.shape[-2], values["weight"].shape[-2], *steps))


def _pooling(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    kernel = _of_rows(values["kernel_size"])
    steps = (_of_rows(values["stride"], kernel), _of_rows(values["padding"], 0), _of_rows(values.get("dilation", 1)))
    rows = len(found[0].first)
    taps = _sliding_taps(rows, _first(result).shape[-2], kernel, *steps)
    return replace(found[0].through(taps), taps=taps, pooled=rows)


def _sliding_taps(rows: int, new_rows: int, kernel: int, stride: int, padding: int, dilation: int) -> RowNumbers:
    """Return the input rows under the kernel of each new row, [new rows, kernel]."""
    taps = np.arange(new_rows)[:, None] * stride - padding + dilation * np.arange(kernel)
    return _mark_beyond(taps, rows)


def _mark_beyond(taps: RowNumbers, rows: int) -> RowNumbers:
    return np.where((taps >= 0) & (taps < rows), taps, BEYOND)


def _transposed_taps(rows: int, new_rows: int, kernel: int, stride: int, padding: int, dilation: int) -> RowNumbers:
    """Return the input rows of a transposed convolution with a kernel that reaches each new row."""
    places = np.arange(new_rows)[:, None] + padding - dilation * np.arange(kernel)
    return np.where(places % stride == 0, _mark_beyond(places // stride, rows), NONE)


def _bilinear(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Interpolate: a new row depends on the rows before and behind it, or on one that it falls on exactly."""
    rows, new_rows = len(found[0].first), result.shape[-2]
    place = np.arange(new_rows)
    if values["align_corners"]:
        before, rest = np.divmod(place * (rows - 1), max(new_rows - 1, 1))
    else:
        factor = values.get("scales_h") or (values.get("scale_factors") or [new_rows / rows])[0]
        exact = (place + 0.5) / factor - 0.5
        before = np.floor(exact).astype(np.int64)
        rest = exact - before
    behind = np.where(rest > 0, before + 1, before)
    return found[0].through(_mark_beyond(np.stack([before, behind], axis=1), rows))


def _nearest(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    rows, new_rows = len(found[0].first), result.shape[-2]
    return found[0].through((np.arange(new_rows) * rows // new_rows)[:, None])


def _unpooling(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Unpool: a row may get the value of any pooling window that contains it."""
    taps = next((fields.taps for fields in found if fields.taps is not None), None)
    pooled = max(fields.pooled for fields in found)
    features = [fields for fields in found if fields.taps is None]
    if taps is None or len(features) != 1:
        raise UnknownOperationError(
            "expected a scatter to the indices of a max-pooling, got other indices in the network; add a rule for them "
            "to RULES in medpos/explain/field_rules.py"
        )
    holds = [np.flatnonzero((taps == row).any(axis=1)) for row in range(pooled)]
    most = max(map(len, holds))
    return features[0].through(np.array([[*cells, *[NONE] * (most - len(cells))] for cells in holds]))


def _padding(
    values: Arguments,
    found: list[ReceptiveFields],
    result: Any,
    others: Callable[[RowNumbers, int], list[RowNumbers]] = lambda place, rows: [],
) -> ReceptiveFields:
    """Pad: a row beyond the border depends on none, or on the row that ``others`` repeats there."""
    padding = [*(values["pad"] if "pad" in values else values["padding"]), 0, 0, 0, 0]
    rows, before = len(found[0].first), padding[2]
    place = np.arange(rows + padding[2] + padding[3]) - before
    taps = [_mark_beyond(place, rows)]
    return found[0].through(np.stack([*taps, *others(place, rows)], axis=1))


def _reflection(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    return _padding(values, found, result, lambda place, rows: [rows - 1 - np.abs(rows - 1 - np.abs(place))])


def _replication(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    return _padding(values, found, result, lambda place, rows: [np.clip(place, 0, rows - 1)])


def _slicing(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    whole = values["self"]
    if values["dim"] % whole.dim() != whole.dim() - 2:
        return found[0]
    chosen = slice(values["start"], values["end"], values["step"])
    return found[0].rearranged(lambda part: part[chosen])


def _reshaping(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Reshape: rows and columns may be flattened into one axis, and later restored."""
    rows = len(found[0].first)
    if result.dim() < 3 or (result.shape[-2] != rows and result.shape[-1] % rows):
        raise UnknownOperationError(
            f"expected a reshape that keeps the {rows} rows or flattens them with the columns, got shape "
            f"{tuple(result.shape)} in the network; write it as one of these"
        )
    return found[0]


def _reduction(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Reduce: a mean or sum over rows depends on all of them."""
    dims = [dim % values["self"].dim() for dim in values.get("dim") or range(values["self"].dim())]
    if values["self"].dim() - 2 not in dims:
        return found[0]
    return found[0].whole()


def _dense(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    """Multiply: each output depends on all features."""
    return ReceptiveFields(found[0].first.min(keepdims=True), found[0].last.max(keepdims=True))


def _adaptive_pooling(values: Arguments, found: list[ReceptiveFields], result: Any) -> ReceptiveFields:
    rows, new_rows = len(found[0].first), result.shape[-2]
    starts = [(row * rows // new_rows, math.ceil((row + 1) * rows / new_rows)) for row in range(new_rows)]
    return ReceptiveFields(
        np.array([found[0].first[start:end].min() for start, end in starts]),
        np.array([found[0].last[start:end].max() for start, end in starts]),
        np.ones(1, np.bool_),
    )


# Operations whose result doesn't depend on the values of their arguments.
CONSTANTS = {f"{kind}_like" for kind in ("ones", "zeros", "empty", "full")}
CONSTANTS |= {f"new_{kind}" for kind in ("ones", "zeros", "empty", "full")}
# Operations that keep the indices of a max-pooling what they are.
LAYOUT = {"view", "_unsafe_view", "reshape", "clone", "alias", "detach", "_to_copy"}
_ROW_BY_ROW = {"cat", "stack", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
_ROW_BY_ROW |= {"_native_batch_norm_legit", "batch_norm", "_batch_norm_no_update", "log_sigmoid_forward", "_softmax"}
_ROW_BY_ROW |= {"_log_softmax", "logsumexp", "unsqueeze", "squeeze", "expand", "select", "split", "unbind", "cumsum"}
_ROW_BY_ROW |= {"max", "amax", "split_with_sizes"}
RULES: dict[str, Rule] = {
    "convolution": _convolution,
    "max_pool2d_with_indices": _pooling,
    "avg_pool2d": _pooling,
    "avg_pool3d": _pooling,
    "upsample_bilinear2d": _bilinear,
    "upsample_nearest2d": _nearest,
    "scatter": _unpooling,
    "constant_pad_nd": _padding,
    "reflection_pad2d": _reflection,
    "replication_pad2d": _replication,
    "slice": _slicing,
    "mean": _reduction,
    "sum": _reduction,
    "addmm": _dense,
    "_adaptive_avg_pool2d": _adaptive_pooling,
    **dict.fromkeys(LAYOUT, _reshaping),
}
