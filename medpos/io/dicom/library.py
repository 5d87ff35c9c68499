"""Import the optional DICOM libraries, and suppress their warnings, which quote headers."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medpos.core.errors import InputError


def import_pydicom() -> Any:
    """Import pydicom.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import pydicom as library
    except ImportError:
        raise InputError("DICOM: pydicom is not installed; pip install 'medpos[dicom]'") from None
    return library


def import_highdicom() -> Any:
    """Import highdicom.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import highdicom as library
    except ImportError:
        raise InputError("DICOM SEG: highdicom is not installed; pip install 'medpos[dicom]'") from None
    return library


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
