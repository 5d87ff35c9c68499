"""Phantom mode: the values that a bundle takes where there are no prepared data.

A bundle's section ``phantom`` holds the ``values``, the bundle's own ones, ``instead_of``, and the expression ``data``,
which says what data there are without making any. Start-up applies the section once, before anything is built.
"""

import inspect
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medpos.core.config import referred
from medpos.core.errors import InputError

logger = logging.getLogger(__name__)

SECTION = "phantom"
PREPARED, MISSING = "prepared", "missing"  # of what ``data`` says


def apply(parser: ConfigParser, given: Collection[str] = ()) -> str:
    """Take the section out of a bundle's configuration, and its values in where the data are phantoms.

    A value stays that is given, or that an overlay or an edited file has changed.

    Args:
        parser: of the bundle, its overrides done.
        given: keys of the overrides; they stay even where they say the same as the bundle.

    Returns:
        What data there are: ``prepared``, ``phantoms`` or ``missing`` (phantoms would have to be made).

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
    values, own = section["values"], section.get("instead_of", {})
    if unknown := [key for key in values if key not in config]:
        raise InputError(f"{SECTION}#values: the bundle has no key {', '.join(unknown)}; correct the bundle's file")
    taken = {
        key: value for key, value in values.items() if key not in given and config[key] == own.get(key, config[key])
    }
    config.update(taken)
    _tell(parser, {key: config[key] for key in values})
    _forget(parser, taken.keys())
    return data


def _forget(parser: ConfigParser, keys: Collection[str]) -> None:
    """Let a parser read these keys anew, and what rests on them."""
    config = parser.get()
    stale = {key for key, value in config.items() if key in keys or referred([value], config) & set(keys)}
    resolver = parser.ref_resolver
    items, resolved = (
        {name: part for name, part in read.items() if name.split("::")[0] not in stale}
        for read in (resolver.items, resolver.resolved_content)
    )
    parser.parse(reset=True)
    resolver.items.update(items)
    resolver.resolved_content.update(resolved)


def _tell(parser: ConfigParser, values: dict[str, Any]) -> None:
    folder = Path(parser.get_parsed_content("dataset_dir"))
    where = f"{folder} holds phantoms" if folder.is_dir() else f"No prepared data in {folder}: using phantoms"
    logger.warning("%s; %s", where, ", ".join(f"{key} {value}" for key, value in values.items()))


def given() -> set[str]:
    """Find the keys given to the ``monai.bundle.run`` that called us: on its command line, in a file of arguments or as
    keywords; MONAI doesn't hand them on.
    """
    for info in inspect.stack(0):
        frame = info.frame
        if frame.f_code.co_name == "create_workflow" and frame.f_globals.get("__name__") == "monai.bundle.scripts":
            return set(frame.f_locals.get("_args", ()))
    return set()
