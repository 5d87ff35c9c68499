"""What a look inside leaves: pictures and a record in a folder of its own, and the same in the run's TensorBoard."""

from pathlib import Path

from medpos.core.errors import InputError
from medpos.core.files import write_json
from medpos.explain import drawing
from medpos.explain.looking import Look

FILE = "explain.json"
_BOARD = "tensorboard"


def write(look: Look, run: Path, out: Path | None = None) -> Path:
    """Write the pictures and ``explain.json``.

    Args:
        look: what was seen.
        run: the run's folder, whose ``tensorboard/`` gets the pictures too; an exported bundle has none.
        out: the folder; ``explain`` in the run's by default. Where it stands already, ``-2`` and so on is added.

    Returns:
        The folder.

    Raises:
        InputError: it can't be written to.
    """
    folder = _new(out or run / "explain")
    files = {name: folder / f"{name}.png" for name in look.figures}
    for name, path in files.items():
        drawing.save(look.figures[name], path)
    write_json(folder / FILE, {**look.record, "files": [path.name for path in files.values()]})
    if (run / _BOARD).is_dir():
        _show(look, files, run / _BOARD)
    return folder


def _new(wanted: Path) -> Path:
    """The folder, made; never one that was there before."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{folder}: can't be made ({error}); give another --out") from error
        return folder
    raise InputError(f"{wanted}: stands there a thousand times; give another --out")


def _show(look: Look, files: dict[str, Path], board: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    try:
        with SummaryWriter(str(board), filename_suffix=".explain") as writer:
            for name, path in files.items():
                tag = name if name in ("filters", "levels") else f"{name}/{look.title}"
                writer.add_image(f"explain/{tag}", drawing.pixels(path), dataformats="HWC")
            for step, value in enumerate(look.rise):
                writer.add_scalar(f"explain/activation/{look.title}", value, step)
    except OSError as error:
        raise InputError(f"{board}: can't be written to ({error}); give the run's folder that right") from error
