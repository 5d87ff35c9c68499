"""Tell segmentations from classifications of whole images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.runs import files


def is_classification(config: Mapping[str, Any]) -> bool:
    """Tell whether a bundle or a run classifies whole images.

    Args:
        config: configuration of the bundle or the run.
    """
    return "top1" in (config.get("key_metric") or {})


def not_a_segmentation(path: str | Path) -> InputError:
    """Return the error for a classification that is given where only a segmentation can be used.

    Args:
        path: the run or bundle that classifies, as the message names it.
    """
    return InputError(
        f"{path}: expected a segmentation, got a classification of whole images; give a segmentation, such as "
        f"voc_sunet64 trained with '--transplant RUN/{files.MODEL}'; the results of a classification are in its "
        f"{files.SUMMARY} and {files.PREDICTIONS}"
    )
