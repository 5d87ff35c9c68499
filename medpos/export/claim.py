"""Fill in the CLAIM checklist from what a run knows, and mark what a person has to add.

Reference:
    A. S. Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology:
    Artificial Intelligence 6(4), e240300, 2024, https://doi.org/10.1148/ryai.240300. Number, order and subject of the
    44 items are the checklist's, compared one by one with its makers' page, https://rsna.github.io/claim; the words are
    ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from medpos.core.labels import MEAN_OF_ORGANS
from medpos.export.card_results import escape, table_of
from medpos.export.facts import INTENDED, SOURCES, RunFacts, describe_data
from medpos.metrics import METRICS
from medpos.runs import files
from medpos.runs.text import TITLES, format_interval
from medpos.transforms.naming import condition_title

TO_ADD = "To be added by a person"
REFERENCE = (
    'A. S. Tejani et al., "Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update", Radiology: '
    "Artificial Intelligence 6(4), 2024, https://doi.org/10.1148/ryai.240300"
)
# Section of the checklist -> its items, which are numbered through all sections.
ITEMS = {
    "Title and abstract": ("the title says that it is AI, and of which kind", "summary of the study"),
    "Introduction": ("background, intended use and role", "aims and hypotheses"),
    "Methods: design": ("prospective or retrospective", "goal of the study"),
    "Methods: data": (
        "sources of the data",
        "inclusion and exclusion",
        "preprocessing",
        "selection of parts of the data",
        "de-identification",
        "missing data",
        "image acquisition",
    ),
    "Methods: reference standard": (
        "how it was obtained",
        "why this one",
        "who annotated",
        "annotation of the test set",
        "variability between and within annotators",
    ),
    "Methods: partitions": ("how cases were assigned to partitions", "level at which partitions are disjoint"),
    "Methods: testing data": ("intended sample size",),
    "Methods: model": ("description of the model", "software", "initial parameters"),
    "Methods: training": ("training in detail", "choice of the final model", "ensembling"),
    "Methods: evaluation": (
        "metrics",
        "statistics: significance and uncertainty",
        "robustness or sensitivity",
        "explainability",
        "evaluation on internal data",
        "testing on external data",
        "registration of a clinical trial",
    ),
    "Results: data": ("numbers included and excluded", "characteristics of the cases in each partition"),
    "Results: model performance": (
        "performance with its uncertainty",
        "diagnostic performance and its precision",
        "analysis of failures",
    ),
    "Discussion": ("limitations", "implications for practice"),
    "Other information": ("full protocol", "availability of software, model and data", "funding and its role"),
}


@dataclass(frozen=True)
class Answer:
    """Hold the answer to an item.

    Args:
        known: what the run knows, in Markdown, with the file that says so; empty: nothing.
        missing: what a person has to add; empty: nothing.
    """

    known: str = ""
    missing: str = ""

    @property
    def text(self) -> str:
        """The answer in Markdown."""
        added = f"**{TO_ADD}**: {self.missing}." if self.missing else ""
        return " ".join(part for part in (f"{self.known}." if self.known else "", added) if part)


def write_checklist(facts: RunFacts) -> str:
    """Write the checklist as a section in Markdown: the 44 items with what the run knows and what is to be added."""
    found = answers(facts)
    numbered = [(section, item) for section, items in ITEMS.items() for item in items]
    rows = [
        [str(n), section, item, answer.text]
        for n, ((section, item), answer) in enumerate(zip(numbered, found, strict=True), 1)
    ]
    complete = sum(not answer.missing for answer in found)
    partly = sum(bool(answer.missing and answer.known) for answer in found)
    note = (
        f"{complete} of {len(found)} items are filled in by the run, {partly} in part; a person adds the rest and "
        f"checks all of it. Items after {REFERENCE}, in our words."
    )
    return f"## CLAIM checklist (2024)\n\n{note}\n\n{table_of(['no.', 'section', 'item', 'this run'], rows)}"


def answers(facts: RunFacts) -> list[Answer]:
    """Return the answers to the 44 items, in their order."""
    groups = (_introduction, _data, _reference, _partitions, _model, _evaluation, _results, _discussion)
    return [answer for group in groups for answer in group(facts)]


def _introduction(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 1 to 6."""
    organs = ", ".join(map(escape, facts.organs))
    yield Answer(f"Deep learning for segmentation: `{facts.network}` (`config.json`)", "the title")
    yield Answer("", "the abstract; the numbers are in *Results*")
    yield Answer(f"Intended use: {INTENDED}", "the clinical background, and the role in it")
    yield Answer("", "aims and hypotheses")
    if facts.data.phantom:
        yield Answer("Neither: the images are computed (`data.json`)")
    elif facts.data.name in SOURCES:
        yield Answer("Retrospective use of a published data set (`data.json`)")
    else:
        yield Answer("", "whether the data were collected for this study")
    yield Answer(f"Creation of a model that segments {organs} (`data.json`)", "kind of study, such as feasibility")


def _data(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 7 to 13."""
    own, config = facts.data, facts.config
    source = escape(describe_data(own))
    checksum = f", SHA-256 `{config['data_sha256'][:12]}`" if config.get("data_sha256") else ""
    published = "As the makers of the data describe" if own.name in SOURCES else ""
    computed = own.phantom
    yield Answer(f"{source[0].upper()}{source[1:]} (`data.json`{checksum})", "" if computed else "link and terms")
    if computed:
        yield Answer("Every computed case is included")
    else:
        yield Answer(published, "criteria of inclusion and exclusion")
    steps = ", ".join(dict.fromkeys([*facts.steps("decode"), *facts.steps("preprocessing")]))
    yield Answer(f"`{steps}` (`config.json`: `decode`, `preprocessing`)" if steps else "", "" if steps else "the steps")
    drawn, fold = config.get("train_cases"), config.get("fold")
    parts = [f"{drawn} training cases drawn by seed {config.get('seed')}" if drawn else ""]
    parts += [f"fold {fold} of the cross-validation" if fold else ""]
    chosen = ", ".join(part for part in parts if part) or "All cases of the prepared folder"
    yield Answer(f"{chosen} (`config.json`: `train_cases`, `fold`)")
    if computed:
        yield Answer("No patients, nothing to remove")
    else:
        yield Answer("The run's files name cases as `dataset.json` does", "how images and names were de-identified")
    counts = [m["dice"]["missing"] for m in (facts.clean or {}).get("organs", {}).values()]
    left_out = f"; here {sum(counts)} in {len(counts)} organs" if counts else ""
    yield Answer(
        f"An organ in neither truth nor prediction is left out of its mean and counted{left_out}; nothing is imputed "
        "(`summary.json`: `missing`, `infinite`)"
    )
    spacing = "; the pixel sizes are nominal" if (facts.summary or {}).get("nominal_spacing") else ""
    if computed:
        yield Answer(f"Computed by medpos in the format of {escape(own.name)}{spacing}")
    else:
        yield Answer(f"{published}{spacing}".lstrip("; "), "device, protocol, resolution")


def _reference(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 14 to 18."""
    if facts.data.phantom:
        yield Answer("The shapes that the images are computed from; exact")
        yield Answer("Phantoms have no other truth")
        yield Answer("Nobody; computed")
        yield Answer("As the training set: computed")
        yield Answer("None: computed")
        return
    published = f"As its makers describe: {escape(SOURCES[facts.data.name])}" if facts.data.name in SOURCES else ""
    yield Answer(published, "how the masks were drawn")
    yield Answer("", "why this reference standard and no other")
    yield Answer(published, "number, training and instructions of the annotators")
    yield Answer("", "how the test set was annotated, with which software")
    yield Answer(
        "Not measured by the run", "variability between and within annotators, and how differences were settled"
    )


def _partitions(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 19 to 21."""
    fold = facts.config.get("fold")
    how = f"fold {fold}, balanced over the groups" if fold else "the split of `dataset.json`"
    trained = f"; {facts.trained_on[0]} cases of {facts.trained_on[1]} subjects trained" if facts.trained_on else ""
    summary = facts.summary
    tested = f", {summary['cases']} of {summary['subjects']} tested" if summary else ""
    yield Answer(
        f"By {how}{trained}{tested} (`training_cases.csv`, `metrics.csv`)",
        "" if facts.data.phantom else "why this split",
    )
    shared = (summary or {}).get("training_cases")
    if shared:
        yield Answer(f"**Not disjoint**: the model was trained on {shared} of the tested cases (`summary.json`)")
    elif facts.trained_on is None:
        yield Answer("", "the run, of an earlier version, doesn't list its training cases")
    else:
        yield Answer(
            "Subject: a subject or an image in two parts is refused before the training (`training_cases.csv`)"
        )
    size = f"{summary['subjects']} subjects tested (`summary.json`)" if summary else ""
    yield Answer(size, "how the size of the test set was chosen")


def _model(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 22 to 27."""
    config, environment = facts.config, facts.environment
    size = "any size" if facts.size is None else f"{facts.size[0]} x {facts.size[1]} px"
    channels = ", ".join(map(escape, facts.data.channels)) + (", position" if facts.sees_position else "")
    yield Answer(
        f"`{facts.network}`, {facts.parameters:,} parameters; input {channels} of "
        f"{size}; {len(facts.data.labels)} classes (`config.json`: `network_def`)"
    )
    packages = ", ".join(f"{name} {version}" for name, version in environment.get("packages", {}).items() if version)
    python = f"Python {environment['python']}, " if environment.get("python") else ""
    software = f"{python}{packages} (`environment.json`)" if packages else ""
    yield Answer(software, "" if software else "software with its versions")
    begun = config.get("begin_with") or config.get("weights")
    how = f"Weights of `{escape(str(begun))}`" if begun else "PyTorch's, or those of the network's paper, drawn"
    yield Answer(f"{how}, seed {config.get('seed')} (`config.json`)")
    train = config.get("train", {})
    loss, optimizer = ((train.get(key) or {}).get("_target_", "none") for key in ("loss", "optimizer"))
    changes = facts.random_steps("train", "preprocessing")
    stopped = (facts.summary or {}).get("stopped")
    yield Answer(
        f"Loss `{loss}`, optimizer `{optimizer}`, {config.get('max_epochs')} epochs, batch {config.get('batch_size')}, "
        f"learning rate {config.get('lr')}; random changes: {', '.join(changes) or 'none'}"
        f"{f'; ended early: {escape(str(stopped))}' if stopped else ''} (`config.json`, `log.txt`)"
    )
    metric = next(iter(config.get("validate", {}).get("key_metric", {})), "mean_dice")
    yield Answer(f"The epoch with the greatest `{metric}` on the validation cases (`model.pt`, `log.txt`)")
    yield Answer("None: one network")


def _evaluation(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 28 to 34."""
    summary = facts.summary
    yield Answer(
        f"{', '.join(TITLES.get(metric, metric) for metric in METRICS)}; ECE, MCE, Brier score and negative log "
        "likelihood of the probabilities (`metrics.csv`, `calibration.csv`)",
        "" if facts.data.phantom else "comparison with published models",
    )
    yield Answer(f"{(summary or {}).get('interval', '95 % intervals over subjects')} (`summary.json`); no tests")
    changed = {
        name: len(found["conditions"]) - 1 for name, found in facts.evaluations.items() if len(found["conditions"]) > 1
    }
    listed = ", ".join(f"`{name}`: {count} degradations or shifts" for name, count in changed.items())
    yield Answer(listed, "" if changed else "not measured; `robustness` and `shift` measure it")
    explained = sorted(name for name in facts.files if name.split("-")[0] == "explain")
    drawn = f"Filters, activations and receptive field (`{explained[0]}/`)" if explained else ""
    yield Answer(drawn or "Not applied (`medpos explain RUN` draws what the network looks for)")
    tested = f"{summary['cases']} cases of {escape(str(summary['data']))}, {summary['split']} split" if summary else ""
    yield Answer(f"{tested} (`summary.json`)" if tested else "", "" if tested else "the run was not tested")
    external = [f"`{name}`: {escape(str(facts.evaluations[name]['data']))}" for name in facts.external]
    yield Answer(", ".join(external), "" if external else "a test on data of another source, or why there is none")
    yield Answer("", "registration, if this is a clinical trial")


def _results(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 35 to 39."""
    summary, clean = facts.summary, facts.clean
    counts = [f"{facts.trained_on[0]} training cases of {facts.trained_on[1]} subjects"] if facts.trained_on else []
    counts += [f"{summary['cases']} test cases of {summary['subjects']} subjects"] if summary else []
    yield Answer(
        f"{', '.join(counts)} (`training_cases.csv`, `metrics.csv`)" if counts else "",
        "" if facts.data.phantom else "numbers excluded, with reasons, as a flow chart",
    )
    groups = list(dict.fromkeys(found["by"] for found in (summary or {}).get("subgroups", [])))
    known = f"Test cases by {', '.join(map(escape, groups))} (`subgroups.csv`)" if groups else ""
    if facts.data.phantom:
        yield Answer(known or "Phantoms have none")
    else:
        yield Answer(known, "age, sex and disease in each partition")
    if clean is None:
        yield Answer("", "the run was not tested")
        yield Answer("", "the run was not tested")
        yield Answer("", "the run was not tested")
        return
    mean = clean["mean_foreground_dice"]
    yield Answer(f"Dice, {MEAN_OF_ORGANS}: {_interval(mean)} (`summary.json`; *Results*)")
    organs = (f"{escape(name)} {_interval(found['dice'])}" for name, found in clean["organs"].items())
    yield Answer(f"Dice: {'; '.join(organs)} (`summary.json`); no diagnosis is made")
    shown = [f"`{name}`" for name in (files.CONFUSION, files.OVERLAYS) if name in facts.files]
    worst = f"; {_worst(facts)}" if _worst(facts) else ""
    yield Answer(f"{', '.join(shown)}: confusions, worst cases{worst}", "what the failures mean clinically")


def _interval(values: dict[str, object]) -> str:
    interval = f" (95 % {format_interval(values)})" if values["ci95"] else ""
    return "not measured" if values["mean"] is None else f"{values['mean']:.3f}{interval}, n {values['n']}"


def _worst(facts: RunFacts) -> str:
    """Name the condition with the lowest mean Dice of all evaluations on the run's own data."""
    found = [
        (entry["mean_foreground_dice"]["mean"], entry)
        for name, content in facts.evaluations.items()
        if name not in facts.external
        for entry in content["conditions"]
        if entry["mean_foreground_dice"]["mean"] is not None
    ]
    if not found:
        return ""
    dice, entry = min(found, key=lambda pair: float(pair[0]))
    return f"lowest mean Dice {dice:.3f}, {condition_title(entry['degradation'], entry['severity'], entry['shift'])}"


def _discussion(facts: RunFacts) -> Iterator[Answer]:
    """Answer items 40 to 44."""
    cautions = ", ".join(escape(caution.head.lower()) for caution in facts.cautions)
    yield Answer(f"*Limits*{f'; {cautions}' if cautions else ''}", "limits of the study")
    yield Answer(f"{INTENDED[0].upper()}{INTENDED[1:]}", "implications for practice")
    commit = facts.environment.get("commit")
    protocol = f"`config.json` runs again{f'; medpos commit `{commit}`' if commit else ''}"
    yield Answer(protocol, "the study's protocol, if there is one")
    model = "model in this bundle or run (`model.pt`)"
    data = "the phantoms are computed again" if facts.data.phantom else "the data come from their makers"
    yield Answer(f"Software: medpos, Apache-2.0; {model}; {data}", "where the model can be had")
    yield Answer("", "funding, and the role of those who gave it")
