"""Gather what a run knows about itself, for its model card, its CLAIM checklist and the metadata of an export."""

import pydoc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.transforms import Randomizable

from medpos.core.config import expand_steps
from medpos.core.errors import InputError
from medpos.core.files import read_csv
from medpos.data.training_data import TrainingData
from medpos.predict.model import Model
from medpos.report.overview import Caution, list_cautions, write_sentences
from medpos.report.sources import read
from medpos.runs import files
from medpos.runs.more_epochs import KEPT
from medpos.runs.tables import CLEAN_KEY, condition_key
from medpos.trust.light import TrafficLight

Config = dict[str, Any]
OWN = "test"  # name of the test at the end of the training

PHANTOM = "TRAINED ON PHANTOMS (computed images, no patients): not fit for any clinical use"
INTENDED = "research on segmentation methods; not a medical device, not for clinical use"
PAPER = "How Can CNNs Use Image Position for Segmentation?, https://arxiv.org/abs/2005.03463"
SOURCES = {
    "jsrt": (
        "JSRT chest X-rays (Shiraishi et al., AJR 174, 2000) with the SCR masks (van Ginneken et al., Medical Image "
        "Analysis 10, 2006); both from their makers, on their terms"
    ),
    "acdc": ("ACDC short-axis cardiac MRI (Bernard et al., IEEE TMI 37(11), 2018); from its makers, on their terms"),
}


@dataclass(frozen=True)
class RunFacts:
    """Hold what a run knows about itself.

    Args:
        bundle: name of the bundle.
        run: name of the run.
        config: resolved configuration of the run.
        data: description of the training data.
        size: X and Y of the network's input in pixels; None: images of any size.
        slices: number of slices of a volume that the network sees at a time.
        sees_position: whether the network gets position channels.
        parameters: number of its parameters.
        evaluations: contents of ``summary.json`` by the name of the evaluation; that of the run is ``test``.
        environment: last entry of ``environment.json``; empty where it is missing.
        trained_on: numbers of cases and subjects of the training; None where they weren't recorded.
        temperatures: content of ``temperatures.json``, of these weights; None: not fitted.
        light: facts about the traffic light, of these weights; None: no detectors.
        noticed: rows of ``noticed.csv``, as text.
        cautions: reasons to read the numbers with care.
        sentences: the results in plain words.
        files: names of the files and folders in the run's folder.
    """

    bundle: str
    run: str
    config: Config
    data: TrainingData
    size: tuple[int, int] | None
    slices: int
    sees_position: bool
    parameters: int
    evaluations: Mapping[str, Config]
    environment: Config
    trained_on: tuple[int, int] | None
    temperatures: Config | None
    light: Config | None
    noticed: tuple[dict[str, str], ...]
    cautions: tuple[Caution, ...]
    sentences: tuple[str, ...]
    files: frozenset[str]

    @property
    def summary(self) -> Config | None:
        """Content of the run's own ``summary.json``; None: it wasn't tested."""
        return self.evaluations.get(OWN)

    @property
    def organs(self) -> tuple[str, ...]:
        """Titles of the classes, without the background."""
        return tuple(label.title for label in self.data.labels[1:])

    @property
    def clean(self) -> Config | None:
        """Entry of the summary for unchanged images; None: the run wasn't tested on them."""
        conditions = (self.summary or {}).get("conditions", [])
        return next((entry for entry in conditions if condition_key(entry) == CLEAN_KEY), None)

    @property
    def external(self) -> list[str]:
        """Names of the evaluations on other data than those of the training."""
        return [name for name, found in self.evaluations.items() if found.get("data") != self.data.name]

    @property
    def network(self) -> str:
        """Name of the network's class or function, with that of the network inside it."""
        found = self.config.get("network_def") or {}
        inner = str(found.get("network", "")).removeprefix("$")
        return " of ".join(name for name in (str(found.get("_target_", "")), inner) if name)

    def steps(self, *keys: str) -> list[str]:
        """List the names of the transforms of a chain in the configuration, such as ``("train", "preprocessing")``."""
        return [target.rpartition(".")[2] for target in self._targets(*keys)]

    def random_steps(self, *keys: str) -> list[str]:
        """List those that are random, as :meth:`steps`."""
        return [target.rpartition(".")[2] for target in self._targets(*keys) if _is_random(target)]

    def _targets(self, *keys: str) -> list[str]:
        chain: Any = self.config
        for key in keys:
            chain = chain.get(key, {}) if isinstance(chain, dict) else {}
        return list(dict.fromkeys(_transforms(chain, self.config)))


def gather_facts(run: Path, model: Model, config: Config) -> RunFacts:
    """Gather what a run knows about itself.

    Args:
        run: folder of the run.
        model: its model.
        config: its configuration.

    Raises:
        InputError: a file of the run is damaged.
    """
    found, own = files.Run(run), len(model.data.channels)
    parts = {part.folder: part.summary for part in found.evaluations() if not part.folder.name.startswith(KEPT)}
    evaluations = {OWN if folder == run else folder.name: content for folder, content in parts.items() if content}
    temperatures = files.read_json(run / files.TEMPERATURES) if (run / files.TEMPERATURES).is_file() else None
    light = TrafficLight.read(run / files.DETECTORS) if (run / files.DETECTORS).is_file() else None
    trained = read_csv(run / files.TRAINING_CASES) if (run / files.TRAINING_CASES).is_file() else None
    cautions, sentences = _judge(run) if found.is_finished else ((), ())
    channels = model.input_shape[0] if model.input_shape else int(getattr(model.network, "in_channels", own))
    return RunFacts(
        bundle=str(config.get("bundle_name", run.resolve().parent.name)),
        run=run.resolve().name,
        config=config,
        data=model.data,
        size=model.input_shape[1:] if model.input_shape else None,
        slices=model.slices,
        sees_position=channels > own * model.slices,
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        evaluations=evaluations,
        environment=found.environment,
        trained_on=None if trained is None else (len(trained), len({row["subject"] for row in trained})),
        temperatures=temperatures if temperatures and temperatures.get("weights") == model.identity else None,
        light=light.facts if light and light.about.get("weights") == model.identity else None,
        noticed=tuple(read_csv(run / files.NOTICED)) if (run / files.NOTICED).is_file() else (),
        cautions=cautions,
        sentences=sentences,
        files=frozenset(path.name for path in run.iterdir()),
    )


def _judge(run: Path) -> tuple[tuple[Caution, ...], tuple[str, ...]]:
    """Return the cautions and sentences of a report, with RUN in place of the run's folder, which others don't have."""
    try:
        sources = read([run])
        cautions, sentences = list_cautions(sources), write_sentences(sources.table())
    except InputError as error:  # such as an evaluation that isn't finished
        cautions, sentences = [Caution("Results that can't be read", str(error))], []
    return tuple(replace(one, text=one.text.replace(str(run), "RUN")) for one in cautions), tuple(sentences)


def _transforms(chain: Any, config: Config) -> Iterator[str]:
    """Yield the targets of the transforms in a chain, with those of the chains that it refers to."""
    if isinstance(chain, dict) and "_target_" in chain and "transforms" not in chain:
        yield str(chain["_target_"])
    elif isinstance(chain, dict):
        yield from _transforms(chain.get("transforms", []), config)
    elif isinstance(chain, list):
        for part in chain:
            yield from _transforms(part, config)
    elif isinstance(chain, str) and chain[:1] == "@":
        inner = expand_steps(chain, config)
        if inner == chain:  # not a step, but another chain
            inner = config
            for key in chain[1:].split("::"):
                inner = inner.get(key, {}) if isinstance(inner, dict) else {}
        yield from _transforms(inner, config)


def _is_random(target: str) -> bool:
    """Return whether a transform, named as in a configuration, is random; of MONAI's the name alone may stand there."""
    found = pydoc.locate(target)
    return target.startswith("Rand") or (isinstance(found, type) and issubclass(found, Randomizable))


def describe_data(data: TrainingData) -> str:
    """Describe the origin of the training data in a sentence.

    Args:
        data: description of the training data.
    """
    real = SOURCES.get(data.name, f"{data.name}, a custom data set")
    return f"phantoms: images computed by medpos in the format of {data.name}; no patients" if data.phantom else real
