"""Reading a declared study: which models, seeds and conditions, what the paper claims, and when that is confirmed.

A study is a JSON file in ``bundles/studies``; no Python is needed to add one. ``{data}`` and ``{network}`` in a
bundle's name stand for the data set and for the network chosen.
"""

import difflib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medpos.core.errors import InputError
from medpos.data.conditions import GROUPS
from medpos.runs.task import is_classification, not_a_segmentation

NETWORKS = {"unet": ("", "U-Net"), "small": ("_small", "small CNN")}
# As a bundle's network_def has them.
_NETWORK_NAMES = {"UNet": NETWORKS["unet"][1], "SmallCNN": NETWORKS["small"][1]}
_KEYS = {
    "title", "paper", "claim", "data", "network", "models", "seeds", "conditions", "figures", "criteria", "published",
}  # fmt: skip
_MODEL_KEYS = {"name", "bundle", "set", "vary", "choose", "seeds", "data"}


@dataclass(frozen=True)
class Variant:
    """One model of a study before its data set and seed are chosen.

    Args:
        name: as tables and figures show it.
        bundle: name of the bundle, with ``{data}`` in it.
        overrides: of the bundle's flat keys.
        choose: one key with its candidate values; the best on the validation split, at the first seed, is taken.
        seeds: in place of the study's.
        data: data sets it is made for; all of the study's by default.
    """

    name: str
    bundle: str
    overrides: dict[str, Any] = field(default_factory=dict)
    choose: dict[str, list[Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A declared study.

    Args:
        name: of its file.
        title: as the page shows it.
        paper: the table or figure, or ``beyond the paper``.
        claim: one sentence.
        data: data sets.
        variants: the models.
        seeds: of each model.
        conditions: groups of :data:`medpos.data.conditions.GROUPS` under which each model is tested.
        figures: kinds of figure.
        criteria: what confirms the claim; see :mod:`medpos.statistics.verdict`.
        published: values of the paper beside ours.
    """

    name: str
    title: str
    paper: str
    claim: str
    data: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    conditions: tuple[str, ...]
    figures: tuple[str, ...]
    criteria: tuple[dict[str, Any], ...]
    published: tuple[dict[str, Any], ...]


def names(folder: Path) -> list[str]:
    """Names of the declared studies."""
    return sorted(path.stem for path in folder.glob("*.json") if path.stem != "profiles")


def load(
    folder: Path,
    name: str,
    network: str | None = None,
    data: Sequence[str] = (),
    seeds: Sequence[int] = (),
    bundle: Path | None = None,
) -> Study:
    """Read one study.

    Args:
        folder: ``bundles/studies``.
        name: of the study, or a path of a study's file.
        network: a key of ``NETWORKS`` in place of the study's own.
        data: keep these data sets only.
        seeds: in place of the study's seeds.
        bundle: a user's plain bundle in place of ``{data}{network}``, with its variants beside it; what the study says
            of a data set of its own is left out.

    Raises:
        InputError: there is no such study, or its file lacks a key or has an unknown one.
    """
    path = Path(name) if name.endswith(".json") else folder / f"{name}.json"
    content = _read(path, folder)
    if bundle is not None:
        if network:
            raise InputError(f"--network {network}: the network is that of --bundle {bundle}; leave one of them out")
        content = _for_bundle(content, bundle)
    else:
        chosen = network or content.get("network", "unet")
        if chosen not in NETWORKS:
            raise InputError(f"network is {chosen!r}, needed {' or '.join(NETWORKS)}")
        content = _filled(content, dict(zip(("network", "network_name"), NETWORKS[chosen], strict=True)))
    sets = tuple(content["data"])
    if unknown := [d for d in data if d not in sets]:
        raise InputError(f"study {name} has no data set {unknown[0]!r}, needed {', '.join(sets)}")
    return Study(
        name=path.stem,
        title=content["title"],
        paper=content["paper"],
        claim=content["claim"],
        data=tuple(data) or sets,
        variants=tuple(_seeded(v, seeds) for entry in content["models"] for v in _variants(entry, path)),
        seeds=tuple(seeds) or tuple(content.get("seeds", [0, 1, 2])),
        conditions=tuple(_known_groups(content.get("conditions", ["clean"]), path)),
        figures=tuple(content.get("figures", [])),
        criteria=tuple(content.get("criteria", [])),
        published=tuple(content.get("published", [])),
    )


def profile(folder: Path, name: str) -> dict[str, Any]:
    """The overrides of a profile from ``profiles.json``, such as ``tiny``.

    Raises:
        InputError: there is no such profile.
    """
    profiles: dict[str, dict[str, Any]] = json.loads((folder / "profiles.json").read_text(encoding="utf-8"))
    if name not in profiles:
        raise InputError(f"profile {name!r} is unknown, needed {', '.join(profiles)}")
    return profiles[name]


def _read(path: Path, folder: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = names(folder)
        near = difflib.get_close_matches(path.stem, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"there is no study {path.stem!r}{hint} Studies: {', '.join(known)}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error})") from None
    needed = {"title", "paper", "claim", "data", "models"}
    if not isinstance(content, dict) or (missing := sorted(needed - set(content))):
        raise InputError(f"{path}: a study needs {', '.join(sorted(needed))}; missing: {', '.join(missing)}")
    if unknown := sorted(set(content) - _KEYS):
        raise InputError(f"{path}: unknown keys {', '.join(unknown)}; a study has {', '.join(sorted(_KEYS))}")
    return content


def _for_bundle(content: dict[str, Any], bundle: Path) -> dict[str, Any]:
    """A study's content for a user's bundle, which is data set and network in one.

    Raises:
        InputError: the bundle, or a variant of it that the study needs, isn't there, or it classifies whole images.
    """
    plain = _content(bundle)
    if is_classification(plain):
        raise not_a_segmentation(bundle)
    models = [{key: value for key, value in model.items() if key != "data"} for model in content["models"]]
    files = [bundle, *(bundle.parent / f"{_filled(model['bundle'], _user_words(bundle))}.json" for model in models)]
    if missing := [file for file in files if not file.is_file()]:
        made = f"python -m medpos new-bundle {bundle.stem} --pe --mean-mask --data FOLDER --out {bundle.parent}"
        raise InputError(f"{missing[0]}: not there, and the study needs it; write it with '{made}'")
    try:
        network = str(plain["network_def"]["_target_"]).rpartition(".")[2]
    except (KeyError, TypeError):
        raise InputError(f"{bundle}: not a bundle with a network_def; needed is the plain one, without _pe") from None
    found = {
        **content,
        "data": [bundle.stem],
        "models": models,
        # What is said of one of the project's data sets isn't claimed of others.
        "criteria": [criterion for criterion in content.get("criteria", []) if "data" not in criterion],
        "published": [],
    }
    words = {**_user_words(bundle), "network_name": _NETWORK_NAMES.get(network, network)}
    return {**found, "models": _filled(models, words), "criteria": _filled(found["criteria"], words)}


def _content(bundle: Path) -> dict[str, Any]:
    """Of a bundle's file; nothing where there is none, or it holds something else."""
    try:
        content = json.loads(bundle.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _user_words(bundle: Path) -> dict[str, str]:
    return {"data": bundle.stem, "network": ""}


def _filled(value: Any, words: dict[str, str]) -> Any:
    """Put the network's names in; ``{data}`` stays until a data set is chosen."""
    if isinstance(value, str):
        for key, word in words.items():
            value = value.replace("{" + key + "}", word)
        return value
    if isinstance(value, dict):
        return {key: _filled(v, words) for key, v in value.items()}
    return [_filled(v, words) for v in value] if isinstance(value, list) else value


def _variants(entry: dict[str, Any], path: Path) -> list[Variant]:
    if unknown := sorted(set(entry) - _MODEL_KEYS):
        raise InputError(f"{path}: unknown keys {', '.join(unknown)} of a model; needed {', '.join(_MODEL_KEYS)}")
    if len(entry.get("choose", {})) > 1:
        raise InputError(f"{path}: {entry['name']}: 'choose' takes one key, found {', '.join(entry['choose'])}")
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


def _seeded(variant: Variant, seeds: Sequence[int]) -> Variant:
    """The user's seeds, as many as the variant asks for (a mean mask knows no chance: one is enough)."""
    if not (variant.seeds and seeds):
        return variant
    return replace(variant, seeds=tuple(s for s in seeds if s in variant.seeds) or tuple(seeds[:1]))


def _known_groups(groups: Sequence[str], path: Path) -> Sequence[str]:
    if unknown := [group for group in groups if group not in GROUPS]:
        raise InputError(f"{path}: conditions {unknown[0]!r} is unknown, needed {', '.join(GROUPS)}")
    return groups
