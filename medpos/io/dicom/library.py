"""The libraries, which are optional, and which must not quote a header in a warning."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medpos.core.errors import InputError


def pydicom() -> Any:
    """The library, or how to get it.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import pydicom as library
    except ImportError:
        raise InputError("DICOM needs pydicom and highdicom; install them with pip install 'medpos[dicom]'") from None
    return library


def highdicom() -> Any:
    """The library, or how to get it.

    Raises:
        InputError: it isn't installed.
    """
    try:
        import highdicom as library
    except ImportError:
        raise InputError("DICOM SEG needs highdicom; install it with pip install 'medpos[dicom]'") from None
    return library


@contextmanager
def silent() -> Iterator[None]:
    """Without pydicom's warnings, which quote what stands in the header."""
    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
