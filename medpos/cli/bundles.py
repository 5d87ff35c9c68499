"""List, show and copy the bundles that come with the package, and check custom ones: ``python -m medpos bundles``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from medpos.cli import output
from medpos.cli.project import BUNDLES, copy_files, find_file
from medpos.core.config import Config, is_entry_point
from medpos.core.config_files import SUFFIXES, find_config, read_config
from medpos.core.options import command
from medpos.core.rules import describe, load_rules

# Networks of other inputs and outputs than the other networks of their data set.
METADATA = {"nuclei_unet2015": "metadata_cells", "brain_fuzzy_c_means": "metadata_brain_segnet"}
RESERVED = ("imports", "initialize", "finalize", "known_keys", "bundle_name")  # nothing that a user runs or changes

app = typer.Typer(no_args_is_help=True, help="List, show and copy the bundles that come with medpos; check your own.")


def bundle_names() -> list[str]:
    """Return the names of the bundles and, after them, of the overlays."""
    return list(_configs())


Name = typer.Argument(autocompletion=bundle_names, help="Name of a bundle, such as jsrt_pe.")


@dataclass(frozen=True)
class Show:
    """Hold the options of ``bundles show``."""

    name: Annotated[str, typer.Argument(autocompletion=bundle_names, help="Name of a bundle, or file of your own.")]


@dataclass(frozen=True)
class Check:
    """Hold the options of ``bundles check``."""

    files: Annotated[list[Path], typer.Argument(help="A bundle in JSON or YAML, and overlays of it, in their order.")]


@dataclass(frozen=True)
class Copy:
    """Hold the options of ``bundles copy``."""

    names: Annotated[list[str], Name]
    out: Annotated[Path, typer.Option(help="Folder of the copies.")] = Path("bundles")
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite files with other content.")] = False


@app.command("list")
def show_list() -> None:
    """List the bundles: name, network, data, first line of the card."""
    rows = [(name, _network(config), _data(config), card(config)[0]) for name, config in _configs().items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for *columns, line in rows:
        padded = (text.ljust(width) for text, width in zip(columns, widths, strict=True))
        output.results.print("  ".join((*padded, line)))


def show(options: Show) -> None:
    """Show the card of a bundle, its entry points, and its keys: default, allowed values, what it is."""
    config = _read_named(options.name)
    for line in card(config):
        output.results.print(line)
    output.results.print(f"\nentry points: {', '.join(entry_points(config)) or 'none'}\nkeys, with their defaults:")
    found, rules = settings(config), load_rules()
    width = max(map(len, found), default=0)
    for key, value in found.items():
        default = value if value and isinstance(value, str) else json.dumps(value)
        output.results.print(f"  --{key.ljust(width)}  {default}")
        if rule := rules.get(key):
            output.results.print(f"    {' ' * width}  {describe(rule)}: {rule['description']}")


def copy(options: Copy) -> None:
    """Copy bundles into a folder, with the metadata and the logging.conf that MONAI reads beside them."""
    bundles = [find_bundle(name) for name in options.names]
    copied = copy_files(bundles, options.out, options.replace)
    beside = {"logging.conf", "metadata.json", *(f"{metadata_name(path.stem)}.json" for path in bundles)}
    # A file of that name that is there already may describe the user's own bundle.
    copy_files([BUNDLES / name for name in sorted(beside) if not (options.out / name).exists()], options.out)
    for path in copied:
        output.results.print(str(path))
    output.notes.print(f"run: python -m monai.bundle run --config_file {copied[0]}")


def check(options: Check) -> None:
    """Check a bundle's files without running them: YAML and JSON, keys and plain values."""
    from monai.bundle import ConfigParser

    from medpos.bundle.startup import check_keys, check_nested_keys
    from medpos.bundle.values import check_expressions, check_references, check_values

    for file in options.files:
        read_config(file)
    parser = ConfigParser(ConfigParser.load_config_files(options.files))
    config = parser.get()
    if "bundle_name" in config:
        check_keys(config)
        check_nested_keys(config, parser.locator)
        check_references(parser)
        check_expressions(parser)
        check_values(parser)
        output.results.print(f"{options.files[0]}: right; {len(config)} keys")
    else:
        output.results.print(
            f"{options.files[0]}: reads well; to check its keys, name the bundle that it changes first"
        )


command(app, Show)(show)
command(app, Check)(check)
command(app, Copy)(copy)


def card(config: Config) -> list[str]:
    """Return the lines that describe a bundle."""
    described = config.get("_desc_", "")
    return [described] if isinstance(described, str) else [str(line) for line in described] or [""]


def entry_points(config: Config) -> list[str]:
    """Name the entry points of a bundle; ``initialize`` and ``finalize`` are run with each."""
    return [key for key, value in config.items() if _is_public(key) and is_entry_point(key, value)]


def settings(config: Config) -> Config:
    """Return the keys that a user may change on the command line, with their defaults.

    Objects, and expressions on them such as ``$@network_def.to(...)``, are wiring and left out.
    """
    objects = tuple(f"$@{key}." for key, value in config.items() if isinstance(value, dict))
    return {
        key: value
        for key, value in config.items()
        if _is_public(key) and not is_entry_point(key, value) and _is_plain(value, objects)
    }


def metadata_name(name: str) -> str:
    """Return the stem of the metadata file that describes inputs and outputs of a bundle's network."""
    if name in METADATA:
        return METADATA[name]
    kinds = ["pe"] if name.endswith("_pe") else [name, name.split("_")[0]]
    known = [f"metadata_{kind}" for kind in kinds if (BUNDLES / f"metadata_{kind}.json").exists()]
    return known[0] if known else "metadata"


def _is_public(key: str) -> bool:
    # An overlay's "+key" extends a key of the bundle, its "a::b" changes one.
    return key not in RESERVED and not key.startswith(("_", "+")) and "::" not in key


def _is_plain(value: Any, objects: tuple[str, ...]) -> bool:
    if isinstance(value, dict):
        return bool(value) and all(isinstance(part, list) for part in value.values())
    if isinstance(value, list):
        return not any(isinstance(item, dict) for item in value)
    return not str(value).startswith(("@", *objects))


def _network(config: Config) -> str:
    definition = config.get("network_def")
    if not isinstance(definition, dict):
        return "any"
    inner = definition.get("network")  # of medpos.networks.build_with_position
    return f"{_last(inner)} + position" if isinstance(inner, str) else _last(str(definition.get("_target_")))


def _data(config: Config) -> str:
    """Name the data set by the last folder of the bundle's ``dataset_dir``."""
    return str(config.get("dataset_dir", "any")).rstrip("'").rpartition("/")[2]


def _last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def find_bundle(name: str) -> Path:
    """Find the file of a bundle by its name.

    Raises:
        InputError: there is no such bundle.
    """
    stem = name if Path(name).suffix not in SUFFIXES else Path(name).stem
    return find_file(BUNDLES, stem, bundle_names(), "bundle", find_config(BUNDLES, stem).suffix)


def _configs() -> dict[str, Config]:
    """Read the bundles, in the order of their names, and after them the overlays."""
    paths = sorted(p for p in BUNDLES.glob("*") if p.suffix in SUFFIXES and not p.stem.startswith("metadata"))
    configs = {path.stem: _read(path) for path in paths}
    return dict(sorted(configs.items(), key=lambda named: "bundle_name" not in named[1]))


def _read_named(name: str) -> Config:
    """Read a bundle of the project by its name, or any file."""
    path = Path(name)
    return read_config(path) if path.suffix.lower() in SUFFIXES and path.is_file() else _read(find_bundle(name))


def _read(path: Path) -> Config:
    return read_config(path)
