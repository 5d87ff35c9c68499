"""Tell what a run's network does: segment images, or classify them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError

KEY_METRIC = "top1"


def classifies(config: Mapping[str, Any]) -> bool:
    """Whether the configuration of a bundle or a run is of one that classifies whole images."""
    return KEY_METRIC in (config.get("key_metric") or {})


def refusal(what: str | Path) -> InputError:
    """What to say where a run or bundle that segments is needed, and ``what`` classifies."""
    return InputError(
        f"{what}: is a classification of whole images, needed is a segmentation, such as voc_sunet64, begun with "
        "'--transplant RUN/model.pt'; results of a classification stand in its summary.json and predictions.csv"
    )
