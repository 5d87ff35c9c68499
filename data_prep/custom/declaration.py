"""Read the ``dataset.json`` of nnU-Net (versions 1 and 2) and of the Medical Segmentation Decathlon."""

from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.core.files import decode_json, read_bytes
from medpos.data.declared_classes import IGNORE, read_declared_classes


def read_declaration(source: Path) -> tuple[dict[str, Any], dict[int, str], tuple[str, ...]]:
    """Read ``dataset.json``.

    Args:
        source: folder of the data set.

    Returns:
        Its content, the foreground classes by value, and the names of the channels.

    Raises:
        InputError: the file is missing, isn't JSON, or lacks usable classes or channels.
    """
    path = source / "dataset.json"
    try:
        content = decode_json(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: expected JSON ({error}); download or export it again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise InputError(f"{path}: lacks the object 'labels'; download or export it again.")
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, dict) or not named or not all(str(key).isdecimal() for key in named):
        raise InputError(f"{path}: lacks 'channel_names' or 'modality', such as {{\"0\": \"MRI\"}}; add it.")
    channels = [str(named[key]) for key in sorted(named, key=int)]
    if len(set(channels)) < len(channels):
        channels = [f"{name} {n}" for n, name in enumerate(channels)]
    classes = read_declared_classes(path, content["labels"])
    if IGNORE in classes.values():
        raise InputError(f"{path}: an 'ignore' class isn't supported; give its pixels a class or 0.")
    return content, classes, tuple(channels)
