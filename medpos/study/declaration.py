"""Load the declaration of a study: its models, seeds and conditions, the paper's claim, and the criteria for it.

A study is a file in JSON or YAML in ``bundles/studies``, so one can be added without Python. ``{data}`` and
``{network}`` in the name of a bundle stand for the data set and the network.
"""

import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medpos.core.config_files import SUFFIXES, find_config, read_config
from medpos.core.errors import InputError
from medpos.core.files import read_json
from medpos.core.names import find_faults
from medpos.data.conditions import GROUPS
from medpos.runs.task import is_classification, not_a_segmentation
from medpos.statistics.criteria import ALARM, DICE_LOST, OF_PROBABILITIES, Criterion
from medpos.study.schema import MOVED, check_models, check_study

NETWORKS = {"unet": ("", "U-Net"), "small": ("_small", "small CNN")}
# Class of the network in a bundle's network_def -> its title.
_NETWORK_NAMES = {"UNet": NETWORKS["unet"][1], "SmallCNN": NETWORKS["small"][1]}
_KEYS = {
    "title", "paper", "claim", "data", "network", "models", "seeds", "conditions", "figures", "criteria", "published",
    "order",
}  # fmt: skip
_ADVICE = "correct the file"
_MODEL_KEYS = {"name", "bundle", "set", "vary", "choose", "seeds", "data"}


@dataclass(frozen=True)
class Variant:
    """Declare one model of a study, for any data set and seed.

    Args:
        name: name in tables and figures.
        bundle: name of the bundle, with ``{data}`` in it.
        overrides: values for top-level keys of the bundle.
        choose: one key with its candidate values; the value with the best Dice on the validation split at the first
            seed is used for all seeds.
        seeds: seeds in place of the study's.
        data: data sets of this model; empty for all of the study's.
    """

    name: str
    bundle: str
    overrides: dict[str, Any] = field(default_factory=dict)
    choose: dict[str, list[Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """Declare a study.

    Args:
        name: name of the study and of its file.
        title: title of the page.
        paper: table or figure of the paper, or ``beyond the paper``.
        claim: claim in one sentence.
        data: names of the data sets to run.
        declared: names of all data sets that the claim is about, run or not.
        variants: models of the study.
        seeds: random seeds of each model.
        conditions: groups of :data:`medpos.data.conditions.GROUPS` under which each model is tested.
        figures: kinds of figures.
        criteria: criteria of the claim; see :mod:`medpos.statistics.verdict`.
        intensity_criteria: criteria for the intensities of the images.
        published: values of the paper, shown beside the measured ones.
        folds: number of folds of a cross-validation over all subjects; 0 for the prepared split.
    """

    name: str
    title: str
    paper: str
    claim: str
    data: tuple[str, ...]
    declared: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    conditions: tuple[str, ...]
    figures: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    intensity_criteria: tuple[Criterion, ...]
    published: tuple[dict[str, Any], ...]
    folds: int = 0

    @property
    def needs_calibration(self) -> bool:
        """Whether a criterion is about the probabilities of the models."""
        return any(criterion.measure in OF_PROBABILITIES for criterion in self.criteria)

    @property
    def needs_lights(self) -> bool:
        """Whether a criterion or figure is about what the lights of the models notice."""
        return any(c.measure == ALARM for c in self.criteria) or any(f.startswith("noticed") for f in self.figures)

    @property
    def measures(self) -> tuple[str, ...]:
        """Measures of the models' predictions beside those of ``metrics.csv`` that criteria and figures need."""
        lost = self.needs_lights or any(c.measure == DICE_LOST or c.min_dice_lost is not None for c in self.criteria)
        chosen = (
            (OF_PROBABILITIES, self.needs_calibration),
            ((ALARM,), self.needs_lights),
            ((DICE_LOST,), lost),
        )
        return tuple(name for names, is_needed in chosen if is_needed for name in names)


def name_moved(model: str) -> str:
    """Name the scores of a model's clean predictions that are shifted with the image; see ``moved_predictions.csv``."""
    return model + MOVED


def is_moved(name: str) -> bool:
    """Tell whether a name in a study's tables is one of :func:`name_moved`."""
    return name.endswith(MOVED)


def list_studies(folder: Path) -> list[str]:
    """List the names of the declared studies."""
    return sorted({path.stem for path in folder.glob("*") if path.suffix in SUFFIXES} - {"profiles"})


def in_order(folder: Path) -> list[str]:
    """List the names of the declared studies by their ``order``, the most important first; those without it come last.

    Raises:
        InputError: the file of a study is malformed.
    """
    orders = {name: read_config(find_config(folder, name)).get("order", math.inf) for name in list_studies(folder)}
    return sorted(orders, key=lambda name: (orders[name], name))


def load(
    folder: Path,
    name: str,
    network: str | None = None,
    data: Sequence[str] = (),
    seeds: Sequence[int] = (),
    bundle: Path | None = None,
    folds: int = 0,
) -> Study:
    """Load one study.

    Args:
        folder: folder of the studies, ``bundles/studies``.
        name: name of the study, or path of its file.
        network: key of ``NETWORKS`` in place of the study's network.
        data: data sets to keep; empty for all.
        seeds: seeds in place of the study's.
        bundle: a user's plain bundle in place of ``{data}{network}``, with its variants in the same folder; criteria
            and published values for the study's own data sets are left out.
        folds: number of folds of a cross-validation over all subjects; 0 for the prepared split.

    Raises:
        InputError: there is no such study, its file lacks a key or has an unknown one, or there is a single fold.
    """
    if folds == 1:
        raise InputError("--folds: expected two or more, or 0 for the prepared split, got 1; correct it")
    path = Path(name) if name.endswith(SUFFIXES) else find_config(folder, name)
    content = _read_study(path, folder)
    if bundle is not None:
        if network:
            raise InputError(f"--network {network}: the network is that of --bundle {bundle}; leave one of them out")
        content = _adapt_to_bundle(content, bundle)
    else:
        chosen = network or content.get("network", "unet")
        if chosen not in NETWORKS:
            raise InputError(f"--network: expected {' or '.join(NETWORKS)}, got {chosen!r}; choose one of them")
        content = _fill(content, dict(zip(("network", "network_name"), NETWORKS[chosen], strict=True)))
    sets = tuple(content["data"])
    if faults := find_faults("data set", sets, of_files=True):
        raise InputError(f"{path}: data: {faults[0]}; correct it")
    if unknown := [d for d in data if d not in sets]:
        raise InputError(
            f"study {name}: expected a data set among {', '.join(sets)}, got {unknown[0]!r}; choose one of them"
        )
    variants = tuple(_set_seeds(v, seeds) for entry in content["models"] for v in _variants(entry, path))
    check_models(path, content.get("criteria", []), [variant.name for variant in variants])
    return Study(
        name=path.stem,
        title=content["title"],
        paper=content["paper"],
        claim=content["claim"],
        data=tuple(data) or sets,
        declared=sets,
        variants=variants,
        seeds=tuple(seeds) or tuple(content.get("seeds", [0, 1, 2])),
        conditions=tuple(_check_groups(content.get("conditions", ["clean"]), path)),
        figures=tuple(content.get("figures", [])),
        criteria=tuple(_criteria(content, path, of_images=False)),
        intensity_criteria=tuple(_criteria(content, path, of_images=True)),
        published=tuple(content.get("published", [])),
        folds=folds,
    )


def load_profile(folder: Path, name: str) -> dict[str, Any]:
    """Load the overrides of a profile from ``profiles.json``, such as ``tiny``.

    Raises:
        InputError: there is no such profile.
    """
    profiles = read_json(folder / "profiles.json", _ADVICE)
    if name not in profiles:
        raise InputError(f"--profile: expected {', '.join(profiles)}, got {name!r}; choose one of them")
    overrides: dict[str, Any] = profiles[name]
    return overrides


def _read_study(path: Path, folder: Path) -> dict[str, Any]:
    if not path.exists():
        known = list_studies(folder)
        near = difflib.get_close_matches(path.stem, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"there is no study {path.stem!r}{hint} Studies: {', '.join(known)}")
    content = read_config(path)
    required = {"title", "paper", "claim", "data", "models"}
    if missing := sorted(required - set(content)):
        raise InputError(f"{path}: expected the keys {', '.join(sorted(required))}; add {', '.join(missing)}")
    if unknown := sorted(set(content) - _KEYS):
        raise InputError(f"{path}: expected keys among {', '.join(sorted(_KEYS))}; remove {', '.join(unknown)}")
    check_study(path, content)
    return content


def _criteria(content: dict[str, Any], path: Path, of_images: bool) -> Iterator[Criterion]:
    """Yield the criteria for results of models, or for images.

    Raises:
        InputError: a criterion is wrong, or about a data set that the study doesn't have.
    """
    for number, entry in enumerate(content.get("criteria", [])):
        if ("intensity" in entry) != of_images:
            continue
        try:
            criterion = Criterion.from_json(entry)
        except InputError as error:
            raise InputError(f"{path}: criteria#{number}: {error}") from error
        if criterion.data and criterion.data not in content["data"]:
            known = ", ".join(content["data"])
            raise InputError(
                f"{path}: criteria#{number}#data: expected one of {known}, got {criterion.data!r}; correct it"
            )
        if not (of_images or criterion.model):
            raise InputError(f"{path}: criteria#{number}: expected the key model, got none; add it")
        yield criterion


def _adapt_to_bundle(content: dict[str, Any], bundle: Path) -> dict[str, Any]:
    """Adapt the content of a study to a user's bundle, which stands for both data set and network.

    Raises:
        InputError: the bundle or a variant of it is missing, or it classifies whole images.
    """
    plain = _read_bundle(bundle)
    if is_classification(plain):
        raise not_a_segmentation(bundle)
    models = [{key: value for key, value in model.items() if key != "data"} for model in content["models"]]
    words = _user_words(bundle)
    paths = [bundle, *(find_config(bundle.parent, _fill(model["bundle"], words)) for model in models)]
    if missing := [path for path in paths if not path.is_file()]:
        made = f"python -m medpos new-bundle {bundle.stem} --pe --mean-mask --data FOLDER --out {bundle.parent}"
        raise InputError(f"{missing[0]}: does not exist, and the study needs it; write it with '{made}'")
    try:
        network = str(plain["network_def"]["_target_"]).rpartition(".")[2]
    except (KeyError, TypeError):
        raise InputError(
            f"{bundle}: expected a bundle with a network_def, got none; give the plain bundle, without _pe"
        ) from None
    found = {
        **content,
        "data": [bundle.stem],
        "models": models,
        # Criteria for one of the project's data sets are not claimed for others.
        "criteria": [criterion for criterion in content.get("criteria", []) if "data" not in criterion],
        "published": [],
    }
    words = {**_user_words(bundle), "network_name": _NETWORK_NAMES.get(network, network)}
    return {**found, "models": _fill(models, words), "criteria": _fill(found["criteria"], words)}


def _read_bundle(bundle: Path) -> dict[str, Any]:
    """Read a bundle's file; empty where it is missing."""
    return read_config(bundle) if bundle.is_file() else {}


def _user_words(bundle: Path) -> dict[str, str]:
    return {"data": bundle.stem, "network": ""}


def _fill(value: Any, words: dict[str, str]) -> Any:
    """Replace words in braces by their values; ``{data}`` stays until a data set is chosen."""
    if isinstance(value, str):
        for key, word in words.items():
            value = value.replace("{" + key + "}", word)
        return value
    if isinstance(value, dict):
        return {key: _fill(v, words) for key, v in value.items()}
    return [_fill(v, words) for v in value] if isinstance(value, list) else value


def _variants(entry: dict[str, Any], path: Path) -> list[Variant]:
    if unknown := sorted(set(entry) - _MODEL_KEYS):
        raise InputError(
            f"{path}: expected keys of a model among {', '.join(sorted(_MODEL_KEYS))}; remove {', '.join(unknown)}"
        )
    if len(entry.get("choose", {})) > 1:
        raise InputError(
            f"{path}: {entry['name']}: choose: expected one key, got {', '.join(entry['choose'])}; keep one of them"
        )
    vary: dict[str, list[Any]] = entry.get("vary", {})
    found = []
    for values in itertools.product(*vary.values()):
        own = dict(zip(vary, values, strict=True))
        name = entry["name"]
        for key, value in own.items():
            name = name.replace("{" + key + "}", str(value))
        overrides = {**entry.get("set", {}), **own}
        seeds, data = tuple(entry.get("seeds", ())), tuple(entry.get("data", ()))
        found.append(Variant(name, entry["bundle"], overrides, entry.get("choose", {}), seeds, data))
    return found


def _set_seeds(variant: Variant, seeds: Sequence[int]) -> Variant:
    """Replace the seeds of a variant by the user's; a variant with one seed, such as a mean mask, keeps one."""
    if not (variant.seeds and seeds):
        return variant
    return replace(variant, seeds=tuple(s for s in seeds if s in variant.seeds) or tuple(seeds[:1]))


def _check_groups(groups: Sequence[str], path: Path) -> Sequence[str]:
    if unknown := [group for group in groups if group not in GROUPS]:
        raise InputError(f"{path}: conditions: expected {', '.join(GROUPS)}, got {unknown[0]!r}; choose among them")
    return groups
