"""Write the pictures and the record of an explanation to a folder, and to the run's TensorBoard."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.files import write_folder, write_json
from medpos.explain import drawing
from medpos.explain.explanation import Explanation
from medpos.runs.files import TENSORBOARD

FILE = "explain.json"


def write_explanation(explanation: Explanation, run: Path, out: Path | None = None) -> Path:
    """Write the pictures and ``explain.json``.

    Args:
        explanation: the explanation.
        run: folder of the run; its ``tensorboard/`` gets the pictures too; an exported bundle has none.
        out: folder to write, ``explain`` in the run by default; where it exists, ``-2``, ``-3`` ... is appended.

    Returns:
        The folder that was written.

    Raises:
        InputError: the folder has no name, or can't be written to.
    """
    if out is not None and not out.name:
        raise InputError(f"--out: expected the name of a new folder, got {str(out)!r}; give one, or leave it out")
    return write_folder(_number(out or run / "explain"), lambda folder: _write(explanation, run, folder))


def _number(wanted: Path) -> Iterator[Path]:
    """Yield the folder, and it with ``-2``, ``-3`` and so on."""
    yield wanted
    yield from (wanted.with_name(f"{wanted.name}-{number}") for number in itertools.count(2))


def _write(explanation: Explanation, run: Path, folder: Path) -> None:
    files = {name: folder / f"{name}.png" for name in explanation.figures}
    for name, path in files.items():
        drawing.save_figure(explanation.figures[name], path)
    write_json(folder / FILE, {**explanation.record, "files": [path.name for path in files.values()]})
    if (run / TENSORBOARD).is_dir():
        _write_events(explanation, files, run / TENSORBOARD)


def _write_events(explanation: Explanation, files: dict[str, Path], folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    try:
        with SummaryWriter(str(folder), filename_suffix=".explain") as writer:
            for name, path in files.items():
                tag = name if name in ("filters", "levels") else f"{name}/{explanation.title}"
                writer.add_image(f"explain/{tag}", drawing.read_pixels(path), dataformats="HWC")
            for step, value in enumerate(explanation.activations):
                writer.add_scalar(f"explain/activation/{explanation.title}", value, step)
    except OSError as error:
        raise InputError(
            f"{folder}: expected a folder that can be written to, got: {error}; change its permissions"
        ) from error
