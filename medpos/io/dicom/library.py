"""Import the optional DICOM libraries, and suppress their warnings, which quote headers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from medpos.core.errors import InputError


def import_pydicom() -> Any:
    """Import pydicom.

    Raises:
        InputError: pydicom isn't installed.
    """
    return _import_optional("pydicom")


def import_highdicom() -> Any:
    """Import highdicom.

    Raises:
        InputError: highdicom isn't installed.
    """
    return _import_optional("highdicom")


def _import_optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f"DICOM: {name} is not installed; pip install 'medpos[dicom]'") from None


@contextmanager
def suppress_warnings() -> Iterator[None]:
    """Suppress pydicom's warnings, which quote the header and so may name a patient."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
