"""Check a run of a bundle before MONAI reads it, and start it: ``python -m medpos run``."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import monai.bundle
from monai.bundle import ConfigParser

from medpos.bundle.keys import apply_overrides, check_entry_point
from medpos.bundle.texts import find_texts_as_typed
from medpos.bundle.values import check_parts
from medpos.core.config import Config
from medpos.core.config_files import read_config
from medpos.core.ending import skip_garbage
from medpos.core.errors import InputError, first_line


def launch(arguments: Sequence[str], run_id: str | None, options: Config) -> None:
    """Run an entry point of a bundle as ``python -m monai.bundle run`` does, after checks of what MONAI reads.

    Args:
        arguments: arguments of the command line, from which texts are taken as they were typed.
        run_id: entry point; None: that of ``args_file``, or ``run``.
        options: options of ``monai.bundle.run`` and overrides, by name.

    Raises:
        InputError: a file is missing or broken, an override leads nowhere, or there is no such entry point.
    """
    skip_garbage()
    options = {**options, **{key: text for key, text in find_texts_as_typed(arguments).items() if key in options}}
    given = {**_read_arguments(options), **options}
    check_files(given)
    config = merge_config(_list_files(given))
    check_entry_point(config, run_id or given.get("run_id", "run"))
    names = {"config_file", "meta_file", "logging_file", "args_file", "tracking", "run_id", "init_id", "final_id"}
    parser = ConfigParser(config)
    apply_overrides(parser, {key: value for key, value in given.items() if key not in names})
    check_parts(parser.get())
    monai.bundle.run(run_id=run_id, **options)


def check_files(options: Config) -> None:
    """Refuse files of a run that are missing.

    Args:
        options: options of ``monai.bundle.run``.

    Raises:
        InputError: a file isn't there, or none is given as ``config_file``.
    """
    if not options.get("config_file"):
        raise InputError(
            "--config_file: expected the file of a bundle, got none; give one such as bundles/jsrt_pe.json"
        )
    files = [("config_file", file) for file in _list_files(options)]
    files += [(key, options[key]) for key in ("meta_file", "logging_file") if isinstance(options.get(key), str)]
    for key, file in files:
        if not Path(file).is_file():
            near = difflib.get_close_matches(
                Path(file).name, [path.name for path in Path(file).parent.glob("*.*")], n=1
            )
            hint = f"did you mean {near[0]}?" if near else "correct the path"
            raise InputError(f"--{key}: expected a file, got {str(file)!r}, which is not there; {hint}")


def merge_config(files: Sequence[str]) -> Config:
    """Read and merge the files of a bundle and its overlays, as MONAI does.

    Args:
        files: paths of JSON or YAML files.

    Raises:
        InputError: a file can't be read, or an overlay doesn't fit the bundle.
    """
    for file in files:
        read_config(Path(file))
    try:
        config: Config = ConfigParser.load_config_files(list(files))
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{', '.join(files)}: can't be merged ({first_line(error)}); correct the overlay") from error
    return config


def _list_files(options: Config) -> list[str]:
    given = options.get("config_file") or []
    if isinstance(given, str) and not Path(given).is_file() and "," in given:
        given = given.split(",")
    return [str(file) for file in ([given] if isinstance(given, str) else given)]


def _read_arguments(options: Config) -> Config:
    """Read ``args_file``, which holds options; empty where none is given."""
    file = options.get("args_file")
    if not file:
        return {}
    if not Path(str(file)).is_file():
        raise InputError(f"--args_file: expected a file, got {str(file)!r}, which is not there; correct the path")
    return read_config(Path(str(file)))
