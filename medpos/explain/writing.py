"""Write the pictures and the record of an explanation to a folder, and to the run's TensorBoard."""

from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.files import write_json
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
        InputError: the folder can't be written to.
    """
    folder = _make_new_folder(out or run / "explain")
    files = {name: folder / f"{name}.png" for name in explanation.figures}
    for name, path in files.items():
        drawing.save_figure(explanation.figures[name], path)
    write_json(folder / FILE, {**explanation.record, "files": [path.name for path in files.values()]})
    if (run / TENSORBOARD).is_dir():
        _write_events(explanation, files, run / TENSORBOARD)
    return folder


def _make_new_folder(wanted: Path) -> Path:
    """Make the folder, under a name that is free."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"{folder}: expected a folder that can be created, got: {error}; give another --out"
            ) from error
        return folder
    raise InputError(f"{wanted}: expected a free name, got 999 folders with this name; give another --out")


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
