"""Test a trained UNet++ pruned to each level: the entry ``prune`` of its bundle.

Reference:
    Z. Zhou et al., "UNet++", DLMIA 2018, figure 3.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from monai.inferers import Inferer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torch import nn

from medpos.core.files import write_csv, write_json
from medpos.core.labels import Label, as_labels
from medpos.core.text import as_text
from medpos.inferers import PruningLevel, measure_pruning
from medpos.metrics import case_metrics, mean_of_finite
from medpos.networks import UNetPlusPlus
from medpos.runs import files
from medpos.runs.folder import RunFolder
from medpos.runs.text import PHANTOM_NOTE

logger = logging.getLogger(__name__)


def prune(
    network: UNetPlusPlus,
    batches: Iterable[dict[str, Any]],
    inferer: Inferer,
    labels: Sequence[Label],
    run: RunFolder,
    phantom: bool,
) -> list[PruningLevel]:
    """Test a network pruned to each level, write ``pruning.csv`` and ``summary.json``, and log the table.

    Args:
        network: network trained with deep supervision.
        batches: batches of the test set, with ``image`` [N, C, X, Y] and ``label`` [N, 1, X, Y].
        inferer: inferer that returns logits with a background.
        labels: the classes, background first.
        run: run folder, opened for this evaluation.
        phantom: True for phantoms.

    Returns:
        One row per level.

    Raises:
        InputError: the network has no deep supervision.
    """
    tested = list(batches)
    device = next(network.parameters()).device
    levels = measure_pruning(
        network.eval(),
        tested[0]["image"].to(device),
        inferer,
        lambda pruned: mean_iou(pruned, tested, inferer, labels),
    )
    rows = [asdict(level) for level in levels]
    write_csv(run.results / "pruning.csv", list(rows[0]), rows)
    write_json(run.results / files.SUMMARY, {"phantom": phantom, "pruning": rows})
    logger.info("pruning levels\n%s\nresults are in %s", _table(levels, phantom), run.results)
    return levels


def mean_iou(network: nn.Module, batches: Iterable[dict[str, Any]], inferer: Inferer, labels: Sequence[Label]) -> float:
    """Compute the mean over the cases of the mean IoU of their classes, 0 to 1; cases without classes are left out."""
    device = next(network.parameters()).device
    found = []
    for batch in batches:
        with torch.inference_mode():
            predictions = inferer(batch["image"].to(device), network).argmax(dim=1, keepdim=True)
        for prediction, truth, spacing in zip(predictions, batch["label"], batch["spacing_mm"], strict=True):
            rows = case_metrics(as_labels(prediction), as_labels(truth), labels, spacing.tolist())
            found.append(mean_of_finite([row["iou"] for row in rows]))
    return mean_of_finite(found)


def _table(levels: Sequence[PruningLevel], phantom: bool) -> str:
    table = Table(box=SIMPLE_HEAD)
    for title in ("level", "parameters", "ms per image", "of L4's time", "IoU"):
        table.add_column(title, justify="right")
    for row in levels:
        time_ms = f"{1000 * row.seconds:.2f}"
        table.add_row(f"L{row.level}", f"{row.parameters:,}", time_ms, f"{row.ratio:.2f}", f"{row.iou:.4f}")
    return as_text(table, *([PHANTOM_NOTE] if phantom else []))
