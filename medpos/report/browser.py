"""Make the cards of the case browser: one per case and run, worst first."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medpos.core.labels import MEAN_OF_ORGANS
from medpos.core.labels import title as organ_title
from medpos.metrics import SHOWN
from medpos.report.pictures import BYTES, Pictures, choose_size, draw_case
from medpos.report.sources import Evaluation, Run, clean_rows
from medpos.report.tables import Cell, number_cell, organ_cell
from medpos.runs import files
from medpos.runs.cases import CaseView
from medpos.runs.text import TITLES

MOST_CASES = 160  # on a page


@dataclass(frozen=True, eq=False)
class Card:
    """Hold one case of the browser.

    Args:
        case: name of the case.
        subject: name of the subject.
        phase: ``ED``, ``ES`` or empty.
        data: name of the data set.
        model: name of the model in the tables, with the seed.
        dice: Dice by organ, and ``mean of organs``; None where it can't be measured.
        columns: titles of the columns of ``rows``.
        rows: metrics, one row per organ.
        pictures: pictures of the case.
        shape: shape of the image or volume.
        spacing_mm: size of a pixel along each axis in mm.
    """

    case: str
    subject: str
    phase: str
    data: str
    model: str
    dice: dict[str, float | None]
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    pictures: Pictures
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Mean Dice over the organs."""
        return self.dice[MEAN_OF_ORGANS]

    @property
    def text(self) -> str:
        """Text that the filter searches."""
        return f"{self.case} {self.subject} {self.phase} {self.data} {self.model}".lower()


@dataclass(frozen=True, eq=False)
class Browser:
    """Hold all cards, and notes on cases without a card.

    Args:
        cards: cards sorted by mean Dice, worst first, those without a Dice last.
        notes: sentences on the cases that are left out.
        organs: name and title of every organ, for the filter.
        phases: phases for the filter.
        models: models for the filter.
        colors: color of each class of each data set by its index, for the drawing.
    """

    cards: tuple[Card, ...]
    notes: tuple[str, ...]
    organs: tuple[tuple[str, str], ...]
    phases: tuple[str, ...]
    models: tuple[str, ...]
    colors: dict[str, dict[int, str]]


def make_browser(runs: Sequence[Run]) -> Browser:
    """Make the cards of all runs with saved cases; with too many cases, of the worst ones of each run."""
    kept = [(run, evaluation) for run in runs if (evaluation := _with_cases(run))]
    notes = []
    if lacking := [f"{run.model} ({run.folder.name})" for run in runs if not _with_cases(run)]:
        notes.append(
            f"No pictures of {', '.join(lacking)}: these runs have no {files.CASES}, which older versions did not "
            "write; evaluate them again to see their cases."
        )
    cards: list[Card] = []
    share = max(MOST_CASES // max(len(kept), 1), 8)
    for run, evaluation in kept:
        found, total = _cards(run, evaluation, share, BYTES // len(kept))
        cards += found
        if len(found) < total:
            notes.append(f"{_name(run)}: the {len(found)} worst of {total} cases.")
    cards.sort(key=lambda card: _rank(card.dice))
    organs = tuple(dict.fromkeys(name for card in cards for name in card.dice if name != MEAN_OF_ORGANS))
    return Browser(
        tuple(cards),
        tuple(notes),
        tuple((name, organ_title(name)) for name in organs),
        tuple(sorted({card.phase for card in cards if card.phase})),
        tuple(dict.fromkeys(card.model for card in cards)),
        {part.data: {label.index: label.color for label in part.labels} for _, part in kept},
    )


def _with_cases(run: Run) -> Evaluation | None:
    return next((evaluation for evaluation in run.pooled if evaluation.has_cases), None)


def _name(run: Run) -> str:
    return run.model if run.seed is None else f"{run.model}, seed {run.seed}"


def _cards(run: Run, evaluation: Evaluation, most: int, limit: int) -> tuple[list[Card], int]:
    """Make the cards of the worst cases of a run.

    Args:
        run: the run.
        evaluation: its evaluation with saved cases.
        most: greatest number of cards.
        limit: greatest number of bytes of their pictures.
    """
    measured: dict[str, list[dict[str, Any]]] = {}
    for row in clean_rows(evaluation.table).to_dict("records"):
        measured.setdefault(str(row["case"]), []).append({str(key): value for key, value in row.items()})
    views = [(_dice(measured.get(view.case, [])), view) for view in evaluation.cases()]
    views.sort(key=lambda pair: _rank(pair[0]))
    shown = views[:most]
    size = choose_size([view for _, view in shown], limit // max(len(shown), 1))
    cards = [
        _card(run, evaluation, dice, measured.get(view.case, []), view, draw_case(view, size)) for dice, view in shown
    ]
    return cards, len(views)


def _dice(rows: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    dice = {row["organ"]: row["dice"] if math.isfinite(row["dice"]) else None for row in rows}
    finite = [value for value in dice.values() if value is not None]
    return {MEAN_OF_ORGANS: sum(finite) / len(finite) if finite else None, **dice}


def _rank(dice: dict[str, float | None]) -> float:
    """Return the key that sorts the worst first, and cases without a Dice last."""
    mean = dice[MEAN_OF_ORGANS]
    return math.inf if mean is None else mean


def _card(
    run: Run,
    evaluation: Evaluation,
    dice: dict[str, float | None],
    rows: Sequence[dict[str, Any]],
    view: CaseView,
    pictures: Pictures,
) -> Card:
    labels = evaluation.labels
    cells = tuple(
        (organ_cell(row["organ"], labels), *(number_cell(row[m], 1 if m.endswith("_mm") else 3) for m in SHOWN))
        for row in rows
    )
    return Card(
        view.case,
        view.subject,
        view.phase,
        evaluation.data,
        _name(run),
        dice,
        ("organ", *(TITLES[metric] for metric in SHOWN)),
        cells,
        pictures,
        view.truth.shape,
        view.spacing_mm,
    )
