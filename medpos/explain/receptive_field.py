"""Hold the receptive field of every row of a feature map.

Networks here treat rows and columns alike, so rows are enough: for every row of features, the first and the last row of
the image that it may depend on. A position chosen by a max-pooling counts as its whole pooling window.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

RowNumbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
NOTHING = np.iinfo(np.int64).max  # first row of a field that is empty
NONE, BEYOND = -1, -2  # in place of an input row: no row, and a row beyond the edge of the image


@dataclass(frozen=True, eq=False)
class ReceptiveFields:
    """Hold the rows of the image that each row of features depends on.

    Args:
        first: first row of the image, [rows]; ``NOTHING`` where a row depends on none.
        last: last row of the image, [rows]; -1 where a row depends on none.
        cut: whether the edge of the image cuts the field, [rows] or [1] for all rows.
        taps: for the indices of a max-pooling, the input rows that each may name, [rows, taps]; below 0: none.
        pooled: number of input rows of that max-pooling.
    """

    first: RowNumbers
    last: RowNumbers
    cut: Flags = field(default_factory=lambda: np.zeros(1, np.bool_))
    taps: RowNumbers | None = None
    pooled: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cut", np.broadcast_to(self.cut, self.first.shape))

    @classmethod
    def of_image(cls, rows: int) -> "ReceptiveFields":
        """Return the fields of an image: each row depends on itself."""
        return cls(np.arange(rows), np.arange(rows))

    def through(self, taps: RowNumbers) -> "ReceptiveFields":
        """Return the fields of new rows that depend on these rows.

        Args:
            taps: for each new row, the rows that it depends on, ``NONE`` or ``BEYOND``, [new rows, taps].
        """
        # The indices NONE = -1 and BEYOND = -2 select the two entries appended at the end.
        first, last = np.append(self.first, [NOTHING] * 2), np.append(self.last, [-1] * 2)
        cut = np.append(self.cut, [True, False])
        return ReceptiveFields(first[taps].min(axis=1), last[taps].max(axis=1), cut[taps].max(axis=1))

    def union(self, other: "ReceptiveFields") -> "ReceptiveFields":
        """Return the fields of rows that depend on both; a single row is combined with all."""
        first, last = np.minimum(self.first, other.first), np.maximum(self.last, other.last)
        return ReceptiveFields(first, last, self.cut | other.cut)

    def rearranged(self, move: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> "ReceptiveFields":
        """Return the fields of the same rows in another arrangement, which ``move`` makes of an array [rows]."""
        return ReceptiveFields(move(self.first), move(self.last), move(self.cut))

    def whole(self) -> "ReceptiveFields":
        """Return the field of one row that depends on all rows; the edge of the image always cuts it."""
        return ReceptiveFields(self.first.min(keepdims=True), self.last.max(keepdims=True), np.ones(1, np.bool_))
