"""Measure the gain by the fully connected CRF, also near boundaries: the entry ``crf`` of a bundle.

References:
    P. Kraehenbuehl, V. Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011,
    figure 4; L.-C. Chen et al., "DeepLab", PAMI 2018, section 4.1, figures 5 and 10.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader

from medpos.core.colors import OKABE_ITO
from medpos.core.errors import InputError
from medpos.core.files import write_csv, write_json
from medpos.core.labels import IGNORED, Label
from medpos.core.text import as_text
from medpos.inferers import CRFInferer, CRFRow, DenseCRF, crf_cases
from medpos.inferers.crf import PAPERS
from medpos.inferers.crf_search import NO_CRF, Case, ClassIoU
from medpos.metrics import TrimapScores
from medpos.metrics.scores import CaseMaps
from medpos.metrics.trimap import WIDTHS
from medpos.plotting.mean_field import draw_mean_field
from medpos.plotting.style import INK, LINES, save_figure, styled
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.text import PHANTOM_NOTE

logger = logging.getLogger(__name__)

_LOG_INTERVAL_S = 10
_SHOWN = 5  # number of parameter sets in the log
STEPS = (0, 1, 2)  # of the mean field that are drawn, before the last one
COLUMNS = ("crf", "width_px", "mean_iou", "accuracy")  # of trimap.csv
PARAMETERS = tuple(field.name for field in fields(DenseCRF))
_COLORS = (INK, OKABE_ITO[5], OKABE_ITO[6], OKABE_ITO[1])


@dataclass(frozen=True)
class CRFScores:
    """Hold the scores of a set of images with one CRF.

    Args:
        name: ``none``; one of ``PAPERS``, or ``given`` for other parameters; ``found``.
        crf: the CRF with its parameters.
        mean_iou: mean IoU of all pixels, 0 to 1.
        bands: ``mean_iou`` and ``accuracy`` within a distance of boundaries, by this distance in px.
    """

    name: str
    crf: DenseCRF
    mean_iou: float
    bands: dict[int, dict[str, float]]


def study(
    network: nn.Module,
    validation: DataLoader[Any],
    test: DataLoader[Any],
    inferer: CRFInferer,
    search: Callable[..., list[CRFRow]],
    labels: Sequence[Label],
    run: RunFolder,
    phantom: bool,
    images: int = 100,
) -> list[CRFScores]:
    """Search CRF parameters on validation images and test them on the test images, with one pass of the network each.

    Writes ``search.csv``, ``trimap.csv``, the figures ``trimap`` and ``mean_field`` as PNG and SVG, and
    ``summary.json``, and logs the tables.

    Args:
        network: trained network.
        validation: batches of a :class:`medpos.data.CachedDataset` of the validation split.
        test: batches of a :class:`medpos.data.CachedDataset` of the test split.
        inferer: inferer with the CRF that the found one is compared with.
        search: :func:`medpos.inferers.search_crf` with its grid.
        labels: the classes, background first.
        run: run folder, opened for this evaluation.
        phantom: True for phantoms.
        images: greatest number of validation images to search with; every slice of a volume counts.

    Returns:
        Scores without a CRF, with the inferer's CRF and with the found one.

    Raises:
        InputError: the inferer's CRF is switched off, there is no labeled image to search with, or the grid is invalid.
    """
    if not inferer.crf.iterations:
        raise InputError("crf_iterations: expected 1 or more, got 0; give 10, as in the papers")
    cases = crf_cases(network, validation, inferer, images)
    rows = search(_log_progress(cases, "search", min(images, _count_images(validation))), labels)
    write_csv(run.results / "search.csv", [field.name for field in fields(CRFRow)], [asdict(row) for row in rows])
    logger.info("CRF parameters on the validation set, the best of %d\n%s", len(rows), _search_table(rows))
    found = DenseCRF(**{name: getattr(rows[0], name) for name in PARAMETERS})
    crfs = {"none": NO_CRF, _name_of(inferer.crf): inferer.crf, "found": found}
    test_cases = _log_progress(crf_cases(network, test, inferer, None), "test", _count_images(test))
    test_cases = _draw_first(test_cases, inferer.crf, labels, run, phantom)
    tested = evaluate(test_cases, crfs, labels)
    _write(tested, rows, run, phantom)
    logger.info("CRF on the test set\n%s\nresults are in %s", _test_table(tested, phantom), run.results)
    return tested


def evaluate(
    cases: Iterable[Case], crfs: Mapping[str, DenseCRF], labels: Sequence[Label], widths: Sequence[int] = WIDTHS
) -> list[CRFScores]:
    """Compute the mean IoU of all pixels and of bands around boundaries, with each CRF.

    Args:
        cases: cases from :func:`medpos.inferers.crf_cases`; one at a time is in memory.
        crfs: CRFs by name.
        labels: the classes, background first.
        widths: reach of the bands in px.
    """
    trimap = TrimapScores(labels, widths)
    whole = {name: ClassIoU(labels) for name in crfs}
    near = {name: trimap.empty() for name in crfs}
    for probabilities, image, truth in cases:
        for name, crf in crfs.items():
            prediction = crf(probabilities, image).argmax(dim=0).numpy()
            whole[name].add(prediction, truth)
            near[name] += trimap.of_case(CaseMaps(prediction, truth, (1.0, 1.0))).kept
    return [CRFScores(name, crf, whole[name].mean, trimap.bands(near[name])) for name, crf in crfs.items()]


def _draw_first(
    cases: Iterable[Case], crf: DenseCRF, labels: Sequence[Label], run: RunFolder, phantom: bool
) -> Iterator[Case]:
    """Yield the cases, and draw the mean field of the first one with an object: of its largest class."""
    drawn = False
    for case in cases:
        yield case
        probabilities, image, truth = case
        counts = np.bincount(truth[truth != IGNORED].astype(int), minlength=len(labels))
        if not drawn and counts[1:].any():
            label, drawn = labels[1 + int(counts[1:].argmax())], True
            steps = dict.fromkeys([*(step for step in STEPS if step < crf.iterations), crf.iterations])
            beliefs = {step: replace(crf, iterations=step)(probabilities, image).numpy() for step in steps}
            note = PHANTOM_NOTE.partition(":")[0] if phantom else ""
            save_figure(draw_mean_field(image.numpy(), truth, beliefs, label, note), run.results, "mean_field")
    if not drawn:
        logger.warning(
            "no test image has a pixel of a class other than %s: mean_field.png is not drawn", labels[0].name
        )


def _name_of(crf: DenseCRF) -> str:
    """Return the paper with these parameters; ``given`` for others."""
    given = {key: value for key, value in asdict(crf).items() if key != "iterations"}
    return next((name for name, parameters in PAPERS.items() if parameters == given), "given")


def _count_images(loader: DataLoader[Any]) -> int:
    """Count the images, or slices of volumes, of a loader of a :class:`medpos.data.CachedDataset`."""
    return sum(int(case["shape"][2]) for case in loader.dataset.data)


def _log_progress(cases: Iterable[Case], what: str, total: int) -> Iterator[Case]:
    """Yield the cases, and log their number every few seconds."""
    started = last = time.perf_counter()
    for number, case in enumerate(cases, 1):
        yield case
        now = time.perf_counter()
        if number == 1 or number == total or now - last > _LOG_INTERVAL_S:
            last = now
            logger.info("CRF %s: image %d of %d, %.1f s per image", what, number, total, (now - started) / number)


def _write(tested: Sequence[CRFScores], rows: Sequence[CRFRow], run: RunFolder, phantom: bool) -> None:
    table = [{"crf": each.name, "width_px": at, **found} for each in tested for at, found in each.bands.items()]
    write_csv(run.results / "trimap.csv", COLUMNS, table)
    save_figure(draw_bands(tested, phantom), run.results, "trimap")
    summary = {
        "phantom": phantom,
        "search": {"tried": len(rows), "best": {name: _finite(value) for name, value in asdict(rows[0]).items()}},
        "test": [
            {
                "crf": each.name,
                **({} if each.name == "none" else asdict(each.crf)),
                "mean_iou": _finite(each.mean_iou),
                "trimap_iou": {str(at): _finite(found["mean_iou"]) for at, found in each.bands.items()},
            }
            for each in tested
        ],
    }
    write_json(run.results / files.SUMMARY, summary)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def draw_bands(tested: Sequence[CRFScores], phantom: bool) -> Figure:
    """Draw the mean IoU within bands around boundaries against their width, one curve per CRF."""
    with styled():
        drawn = Figure(figsize=(4.8, 3.4), layout="constrained")
        axes = drawn.subplots()
        for each, color, line in zip(tested, _COLORS, LINES, strict=False):
            iou = [found["mean_iou"] for found in each.bands.values()]
            name = "without a CRF" if each.name == "none" else f"CRF, {each.name}"
            label = f"{name}; {each.mean_iou:.3f} of all pixels"
            axes.plot(list(each.bands), iou, color=color, linestyle=line, linewidth=1.6, label=label)
        axes.set_xlabel("half-width of the band around boundaries, px")
        axes.set_ylabel("mean IoU in the band")
        axes.set_title(PHANTOM_NOTE.partition(":")[0] if phantom else "")
        drawn.legend(loc="outside lower center")
    return drawn


def _search_table(rows: Sequence[CRFRow]) -> str:
    table = Table(box=SIMPLE_HEAD)
    for title in ("w_bi", "s_xy", "s_rgb", "w_pos", "s_pos", "mean IoU", "gain"):
        table.add_column(title, justify="right")
    for row in rows[:_SHOWN]:
        numbers = (row.w_bi, row.s_xy, row.s_rgb, row.w_pos, row.s_pos)
        table.add_row(*(f"{number:g}" for number in numbers), f"{row.mean_iou:.4f}", f"{row.gain:+.4f}")
    return as_text(table)


def _test_table(tested: Sequence[CRFScores], phantom: bool) -> str:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("CRF")
    widths = [at for at in tested[0].bands if at in (1, 5, 10, 20, 40)]
    for title in ("mean IoU", *(f"within {at} px" for at in widths)):
        table.add_column(title, justify="right")
    for each in tested:
        near = (each.bands[at]["mean_iou"] for at in widths)
        table.add_row(each.name, *(f"{value:.4f}" for value in (each.mean_iou, *near)))
    return as_text(table, *([PHANTOM_NOTE] if phantom else []))
