"""Collect the rows that an evaluation measures, case by case."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed
from ignite.engine import Engine, Events

from medpos.core.device import is_computing_apart
from medpos.data.conditions import Condition
from medpos.runs.tables import Row, condition_key

Found = list[Row] | Future[list[Row]] | Callable[[], list[Row]]
_THREADS = 4  # that measure while a GPU computes
_WAITING = 64  # cases at most that wait for a thread


class RowCollector(ABC):
    """Collect the rows of every case and condition of an epoch; the base of CaseMetrics, TopK and Scores.

    Outputs on a GPU are measured by threads, which wait for the GPU and copy what they need, while it goes on.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._found: list[Found] = []
        self._pool = ThreadPoolExecutor(_THREADS)

    def attach(self, engine: Engine, name: str = "") -> None:
        """Measure every iteration of an evaluator.

        Args:
            engine: the evaluator; its items have ``case`` and the condition, its outputs ``pred`` and ``label``.
            name: name under which a key metric is stored in ``engine.state.metrics``.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        # Not at the end of the run: ResultTable reads the results then.
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish, name)

    @abstractmethod
    def measure(self, item: Row, output: Row) -> list[Row]:
        """Return the rows of one case under one condition; several cases may be measured at once.

        Args:
            item: the case as the data loader gave it.
            output: ``pred`` and ``label`` of the case.
        """

    @abstractmethod
    def finish(self, engine: Engine, name: str) -> None:
        """Store the results of an epoch in ``engine.state``; ``self.rows`` holds the rows of all processes."""

    def begin(self, item: Row, output: Row) -> Callable[[], list[Row]] | None:
        """Begin to measure a case on the device of its output, without waiting for it.

        Args:
            item: the case as the data loader gave it.
            output: ``pred`` and ``label`` of the case.

        Returns:
            Function that reads the rows when the epoch ends; None leaves the case to :meth:`measure`.
        """
        return None

    def position(self, row: Row) -> int:
        """Return the position of a row among those of its case and condition."""
        return 0

    def _reset(self, engine: Engine) -> None:
        self.rows, self._found = [], []

    def _update(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if (read := self.begin(item, output)) is not None:
                self._found.append(read)
            elif is_computing_apart(output["pred"]):
                self._found.append(self._pool.submit(self.measure, item, output))
                if len(self._found) > _WAITING:  # bounds the memory of those that wait
                    _wait_for(self._found[-_WAITING])
            else:
                self._found.append(self.measure(item, output))

    def _finish(self, engine: Engine, name: str) -> None:
        found = map(_wait_for, self._found)
        self.rows, self._found = _gather([row for part in found for row in part], self.position), []
        self.finish(engine, name)


def _wait_for(rows: Found) -> list[Row]:
    if isinstance(rows, Future):
        return rows.result()
    return rows() if callable(rows) else rows


def condition_of(item: Row) -> Condition:
    """Return the condition of an item of a batch."""
    return Condition(item["degradation"], int(item["severity"]), int(item["shift_x"]), int(item["shift_y"]))


def condition_columns(item: Row) -> Row:
    """Return the columns of an item's condition."""
    condition = condition_of(item)
    return {"degradation": condition.degradation, "severity": condition.severity, "shift": condition.shift}


def case_columns(item: Row) -> Row:
    """Return the columns that identify the case and condition of an item of a batch."""
    return {**{key: item[key] for key in ("case", "subject", "split")}, **condition_columns(item)}


def _gather(rows: list[Row], position: Callable[[Row], int]) -> list[Row]:
    """Gather the rows of all processes, in the same order on each of them.

    The sampler repeats cases to fill the last batch of every process; only one of their rows is kept.
    """
    if not torch.distributed.is_initialized():
        return rows
    parts: list[list[Row]] = [[] for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, rows)
    rows = [row for part in parts for row in part]
    conditions: dict[tuple[Any, ...], int] = {}
    for row in rows:
        conditions.setdefault(condition_key(row), len(conditions))
    unique = {(conditions[condition_key(row)], row["case"], position(row)): row for row in rows}
    return [unique[key] for key in sorted(unique)]
