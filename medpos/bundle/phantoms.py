"""Apply phantom mode: the values that a bundle uses where there are no prepared data.

A bundle's section ``phantom`` holds these ``values``, the bundle's usual values, ``instead_of``, and the expression
``data``, which finds the kind of data without making any. Start-up applies the section once, before anything is built.
"""

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medpos.bundle.texts import replace
from medpos.core.errors import InputError

logger = logging.getLogger(__name__)

SECTION = "phantom"
PREPARED, MISSING = "prepared", "missing"  # values of ``data``; the third is "phantoms"


def apply(parser: ConfigParser, given: Collection[str] = ()) -> str:
    """Remove the section from a bundle's configuration, and use its values where the data are phantoms.

    Values that were given, or that an overlay or an edited file has changed, stay.

    Args:
        parser: parser of the bundle, with the overrides applied.
        given: keys of the overrides; they stay even with the same value as in the bundle.

    Returns:
        Kind of data: ``prepared``, ``phantoms`` or ``missing`` (phantoms would have to be made).

    Raises:
        InputError: the section has a key that the bundle lacks.
    """
    config = parser.get()
    section = config.get(SECTION)
    if not section:
        return PREPARED
    data = str(parser.get_parsed_content(f"{SECTION}::data"))
    del config[SECTION]
    if data == PREPARED:
        return data
    values, usual = section["values"], section.get("instead_of", {})
    if unknown := [key for key in values if key not in config]:
        raise InputError(f"{SECTION}#values: the bundle has no key {', '.join(unknown)}; correct the bundle's file")
    taken = {
        key: value for key, value in values.items() if key not in given and config[key] == usual.get(key, config[key])
    }
    replace(parser, taken)
    _log_values(parser, {key: config[key] for key in values})
    return data


def _log_values(parser: ConfigParser, values: dict[str, Any]) -> None:
    folder = Path(parser.get_parsed_content("dataset_dir"))
    where = f"{folder} holds phantoms" if folder.is_dir() else f"No prepared data in {folder}: using phantoms"
    logger.warning("%s; %s", where, ", ".join(f"{key} {value}" for key, value in values.items()))
