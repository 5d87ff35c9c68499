"""What each row of features sees of the image, followed through the operations of the network as it runs.

All operations here treat rows and columns alike, so rows are enough: of every row of features, the first and the last
row of the image that it may depend on. A place that a pooling chose counts for its whole window.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medpos.core.errors import InputError

Places = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
NOTHING = np.iinfo(np.int64).max  # the first row of what depends on none
NONE, BEYOND = -1, -2  # among the rows that a new one depends on: no row, and one beyond the image's edge
Arguments = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Windows:
    """Of each row of features, the rows of the image that it sees.

    Args:
        first: first row, ``NOTHING`` where it sees none.
        last: last row, -1 where it sees none.
        cut: whether it would see more, had the image no edge; one value may stand for all rows.
        taps: of the places that a pooling chose: the rows that each may stand for, below 0 for none.
        pooled: rows of what was pooled.
    """

    first: Places
    last: Places
    cut: Flags = field(default_factory=lambda: np.zeros(1, np.bool_))
    taps: Places | None = None
    pooled: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cut", np.broadcast_to(self.cut, self.first.shape))

    @classmethod
    def of_image(cls, rows: int) -> "Windows":
        """Each row sees itself."""
        return cls(np.arange(rows), np.arange(rows))

    def through(self, taps: Places) -> "Windows":
        """Rows that depend on these ones.

        Args:
            taps: [rows, taps], of each new row those that it depends on, ``NONE`` or ``BEYOND``.
        """
        # Numbers below 0 find what is appended.
        first, last = np.append(self.first, [NOTHING] * 2), np.append(self.last, [-1] * 2)
        cut = np.append(self.cut, [True, False])
        return Windows(first[taps].min(axis=1), last[taps].max(axis=1), cut[taps].max(axis=1))

    def joined(self, other: "Windows") -> "Windows":
        """Rows that depend on both; one row alone is for all."""
        return Windows(np.minimum(self.first, other.first), np.maximum(self.last, other.last), self.cut | other.cut)

    def moved(self, move: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> "Windows":
        """The rows elsewhere, as ``move`` puts them."""
        return Windows(move(self.first), move(self.last), move(self.cut))

    def whole(self) -> "Windows":
        """What depends on all rows, which the edge always cuts: [1]."""
        return Windows(self.first.min(keepdims=True), self.last.max(keepdims=True), np.ones(1, np.bool_))


class UnknownOperationError(InputError):
    """The network has an operation without a rule here."""


class Follower(TorchDispatchMode):
    """Within it, every operation tells what its result sees.

    Args:
        image: [N, C, X, Y], whose rows are those along X.
    """

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        # The tensor too, or another could get its id.
        self._known = {id(image): (image, Windows.of_image(image.shape[2]))}

    def of(self, features: torch.Tensor) -> Windows | None:
        """What they see; None where they don't depend on the image."""
        return self._known[id(features)][1] if id(features) in self._known else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow it."""
        result = func(*args, **(kwargs or {}))
        values = _bound(func, args, kwargs or {})
        found = [windows for windows in map(self.of, _tensors(values.values())) if windows is not None]
        if found and func.overloadpacket.__name__ not in _CONSTANTS:
            self._keep(func, result, _rule(func)(values, found, result))
        return result

    def _keep(self, func: Any, result: Any, windows: Windows) -> None:
        name = func.overloadpacket.__name__
        tensors = _tensors(result if isinstance(result, tuple | list) else [result])
        if name == "max_pool2d_with_indices":
            self._known[id(tensors[1])] = (tensors[1], windows)
        for tensor in tensors if name in ("split", "unbind", "split_with_sizes") else tensors[:1]:
            plain = name not in _LAYOUT
            self._known[id(tensor)] = (tensor, replace(windows, taps=None) if plain else windows)


def _bound(func: Any, args: Any, kwargs: Any) -> Arguments:
    """Arguments by name, those left out at their defaults."""
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    return {a.name: given.get(a.name, a.default_value) for a in func._schema.arguments}


def _tensors(values: Any) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for value in values:
        found += _tensors(value) if isinstance(value, tuple | list) else []
        found += [value] if isinstance(value, torch.Tensor) else []
    return found


Rule = Callable[[Arguments, list[Windows], Any], Windows]


def _rule(func: Any) -> Rule:
    name = func.overloadpacket.__name__
    if name in RULES:
        return RULES[name]
    if torch.Tag.pointwise in func.tags or name in _ROW_BY_ROW:
        return _row_by_row
    raise UnknownOperationError(
        f"the network's operation {name} can't be followed; add its rule to RULES in medpos/explain/windows.py"
    )


def _along(value: Any, otherwise: int = 1) -> int:
    """The number for the rows, of one for each direction, the columns' last, or of one for all."""
    if isinstance(value, int):
        return value
    return int(value[-2] if len(value) > 1 else value[0]) if value else otherwise


def _row_by_row(values: Arguments, found: list[Windows], result: Any) -> Windows:
    rows = _first(result).shape[-2:-1]
    dims = values.get("dim")
    axes = [] if dims is None else [dims] if isinstance(dims, int) else dims
    if any(axis % _first(_tensors(values.values())).dim() == _first(result).dim() - 2 for axis in axes):
        raise UnknownOperationError(
            "an operation of the network along the rows can't be followed; add its rule to RULES"
        )
    joined = found[0]
    for windows in found[1:]:
        joined = joined.joined(windows)
    return joined.moved(lambda part: np.broadcast_to(part, rows))


def _first(result: Any) -> torch.Tensor:
    return _tensors([result])[0]


def _convolved(values: Arguments, found: list[Windows], result: Any) -> Windows:
    steps = [_along(values[name]) for name in ("stride", "padding", "dilation")]
    slide = _spread if values["transposed"] else _sliding
    return found[0].through(slide(len(found[0].first), result.shape[-2], values["weight"].shape[-2], *steps))


def _pooled(values: Arguments, found: list[Windows], result: Any) -> Windows:
    kernel = _along(values["kernel_size"])
    steps = (_along(values["stride"], kernel), _along(values["padding"], 0), _along(values.get("dilation", 1)))
    rows = len(found[0].first)
    taps = _sliding(rows, _first(result).shape[-2], kernel, *steps)
    return replace(found[0].through(taps), taps=taps, pooled=rows)


def _sliding(rows: int, wanted: int, kernel: int, stride: int, padding: int, dilation: int) -> Places:
    taps = np.arange(wanted)[:, None] * stride - padding + dilation * np.arange(kernel)
    return _within(taps, rows)


def _within(taps: Places, rows: int) -> Places:
    return np.where((taps >= 0) & (taps < rows), taps, BEYOND)


def _spread(rows: int, wanted: int, kernel: int, stride: int, padding: int, dilation: int) -> Places:
    """Of a transposed convolution: the rows whose kernels reach each new row."""
    places = np.arange(wanted)[:, None] + padding - dilation * np.arange(kernel)
    return np.where(places % stride == 0, _within(places // stride, rows), NONE)


def _interpolated(values: Arguments, found: list[Windows], result: Any) -> Windows:
    """Bilinear: the row before and the one behind, unless it falls on one exactly."""
    rows, wanted = len(found[0].first), result.shape[-2]
    place = np.arange(wanted)
    if values["align_corners"]:
        before, rest = np.divmod(place * (rows - 1), max(wanted - 1, 1))
    else:
        factor = values.get("scales_h") or (values.get("scale_factors") or [wanted / rows])[0]
        exact = (place + 0.5) / factor - 0.5
        before = np.floor(exact).astype(np.int64)
        rest = exact - before
    behind = np.where(rest > 0, before + 1, before)
    return found[0].through(_within(np.stack([before, behind], axis=1), rows))


def _nearest(values: Arguments, found: list[Windows], result: Any) -> Windows:
    rows, wanted = len(found[0].first), result.shape[-2]
    return found[0].through((np.arange(wanted) * rows // wanted)[:, None])


def _unpooled(values: Arguments, found: list[Windows], result: Any) -> Windows:
    """Scattered to the places of maxima: a row may get what any window gives that holds it."""
    taps = next((windows.taps for windows in found if windows.taps is not None), None)
    pooled = max(windows.pooled for windows in found)
    features = [windows for windows in found if windows.taps is None]
    if taps is None or len(features) != 1:
        raise UnknownOperationError(
            "the network scatters to other places than those of a max-pooling, which can't be followed"
        )
    holds = [np.flatnonzero((taps == row).any(axis=1)) for row in range(pooled)]
    most = max(map(len, holds))
    return features[0].through(np.array([[*cells, *[NONE] * (most - len(cells))] for cells in holds]))


def _padded(values: Arguments, found: list[Windows], result: Any) -> Windows:
    padding = [*(values["pad"] if "pad" in values else values["padding"]), 0, 0, 0, 0]
    rows, before = len(found[0].first), padding[2]
    place = np.arange(rows + padding[2] + padding[3]) - before
    taps = [_within(place, rows)]
    if "pad" not in values:  # not constant, but mirrored
        mirrored = np.abs(place)
        taps.append(np.minimum(mirrored, 2 * (rows - 1) - mirrored))
    return found[0].through(np.stack(taps, axis=1))


def _cut(values: Arguments, found: list[Windows], result: Any) -> Windows:
    whole = values["self"]
    if values["dim"] % whole.dim() != whole.dim() - 2:
        return found[0]
    chosen = slice(values["start"], values["end"], values["step"])
    return found[0].moved(lambda part: part[chosen])


def _reshaped(values: Arguments, found: list[Windows], result: Any) -> Windows:
    """Rows and columns may be laid out in one line, and again as they were."""
    rows = len(found[0].first)
    if result.dim() < 3 or (result.shape[-2] != rows and result.shape[-1] % rows):
        raise UnknownOperationError(
            f"the network lays {rows} rows out as {tuple(result.shape)}, which can't be followed"
        )
    return found[0]


def _of_all(values: Arguments, found: list[Windows], result: Any) -> Windows:
    """The mean over rows sees what any of them sees."""
    dims = [dim % values["self"].dim() for dim in values.get("dim") or range(values["self"].dim())]
    if values["self"].dim() - 2 not in dims:
        return found[0]
    return found[0].whole()


def _dense(values: Arguments, found: list[Windows], result: Any) -> Windows:
    """Each class sees all that the features see."""
    return Windows(found[0].first.min(keepdims=True), found[0].last.max(keepdims=True))


def _adapted(values: Arguments, found: list[Windows], result: Any) -> Windows:
    rows, wanted = len(found[0].first), result.shape[-2]
    starts = [(row * rows // wanted, math.ceil((row + 1) * rows / wanted)) for row in range(wanted)]
    ends = [Windows(found[0].first[a:b], found[0].last[a:b]) for a, b in starts]
    return Windows(
        np.array([end.first.min() for end in ends]), np.array([end.last.max() for end in ends]), np.ones(1, np.bool_)
    )


_CONSTANTS = {f"{kind}_like" for kind in ("ones", "zeros", "empty", "full")}
_CONSTANTS |= {f"new_{kind}" for kind in ("ones", "zeros", "empty", "full")}
_LAYOUT = {"view", "_unsafe_view", "reshape", "clone", "alias", "detach", "_to_copy"}
_ROW_BY_ROW = {"cat", "stack", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
_ROW_BY_ROW |= {"_native_batch_norm_legit", "batch_norm", "_batch_norm_no_update", "log_sigmoid_forward", "_softmax"}
_ROW_BY_ROW |= {"_log_softmax", "logsumexp", "unsqueeze", "squeeze", "expand", "select", "split", "unbind", "cumsum"}
_ROW_BY_ROW |= {"max", "amax", "split_with_sizes"}
RULES: dict[str, Rule] = {
    "convolution": _convolved,
    "max_pool2d_with_indices": _pooled,
    "avg_pool2d": _pooled,
    "avg_pool3d": _pooled,
    "upsample_bilinear2d": _interpolated,
    "upsample_nearest2d": _nearest,
    "scatter": _unpooled,
    "constant_pad_nd": _padded,
    "reflection_pad2d": _padded,
    "slice": _cut,
    "mean": _of_all,
    "sum": _of_all,
    "addmm": _dense,
    "_adaptive_avg_pool2d": _adapted,
    **dict.fromkeys(_LAYOUT, _reshaped),
}
