"""Write the model card of a run in Markdown: purpose, data, training, results, calibration, limits, CLAIM checklist.

The sections follow M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, https://arxiv.org/abs/1810.03993
(model details, intended use, factors, metrics, evaluation data, training data, analyses, caveats), under the names that
Hugging Face's cards use.
"""

from medpos.export.card_results import calibration_of, escape, noticed_by, results_of, table_of
from medpos.export.claim import write_checklist
from medpos.export.facts import INTENDED, PAPER, PHANTOM, RunFacts, describe_data

_SETTINGS = (
    *("seed", "image_size", "spacing_mm", "max_epochs", "batch_size", "accumulate", "lr", "padding_mode", "encoding"),
    *("pe_alpha", "pe_range", "train_cases", "fold", "begin_with"),
)


def write_card(facts: RunFacts, use: str) -> str:
    """Write the model card in Markdown.

    Args:
        facts: what the run knows about itself.
        use: how to run it, in Markdown.
    """
    parts = [f"# {facts.bundle}", _what(facts), *_cautions(facts)]
    parts += ["## Intended use", _intended(facts)]
    parts += ["## Data", _data(facts), "## Training", _training(facts)]
    parts += ["## Results", results_of(facts), "## Calibration", calibration_of(facts)]
    parts += ["## What it notices", noticed_by(facts), "## Limits", _limits(facts)]
    parts += ["## How to run", use, "## References", PAPER]
    return "\n\n".join([*parts, write_checklist(facts)]) + "\n"


def _what(facts: RunFacts) -> str:
    positions = " and the position within the image" if facts.sees_position else ""
    size = "of any size" if facts.size is None else f"at {facts.size[0]} x {facts.size[1]} px"
    text = (
        f"Segments {', '.join(facts.organs)} in 2-D images or slices. The network has {facts.parameters:,} parameters "
        f"and sees gray values{positions}, {size}; label maps come back on the image's own grid. Written by medpos "
        f"from run `{facts.run}` of bundle `{facts.bundle}`."
    )
    return "\n\n".join([text, *map(escape, facts.sentences)])


def _cautions(facts: RunFacts) -> list[str]:
    """List what to beware of, phantoms first."""
    found = []
    if facts.data.phantom:
        found.append(f"> **{PHANTOM}.** The images were computed; the numbers below say nothing about patients.")
    lines = []
    for caution in facts.cautions:
        lines.append(f"- **{escape(caution.head)}**: {escape(caution.text)}")
        lines += [f"  - {escape(detail)}" for detail in caution.details]
    return [*found, *(["## Beware", "\n".join(lines)] if lines else [])]


def _intended(facts: RunFacts) -> str:
    classes = ", ".join(f"{label.index} {label.title}" for label in facts.data.labels)
    return (
        f"{INTENDED[0].upper()}{INTENDED[1:]}. Classes: {escape(classes)}.\n\nNot for: diagnosis or treatment, other "
        f"organs or kinds of images than those of its data, images of another view or orientation."
    )


def _data(facts: RunFacts) -> str:
    text = describe_data(facts.data)
    lines = [f"{text[0].upper()}{text[1:]}. Neither images nor masks are part of what this card comes with."]
    if facts.trained_on:
        lines.append(
            f"Trained on {facts.trained_on[0]} cases of {facts.trained_on[1]} subjects (`training_cases.csv`)."
        )
    for name, found in facts.evaluations.items():
        kind = "phantoms" if found["phantom"] else "real images"
        lines.append(
            f"Evaluation `{name}`: {found['split']} split of {escape(str(found['data']))}, {found['cases']} cases of "
            f"{found['subjects']} subjects ({kind})."
        )
    if checksum := facts.config.get("data_sha256"):
        lines.append(f"SHA-256 of `dataset.json`'s content: `{checksum}`.")
    return "\n".join(f"- {line}" for line in lines)


def _training(facts: RunFacts) -> str:
    settings = {key: facts.config[key] for key in _SETTINGS if facts.config.get(key) not in (None, "")}
    train, environment = facts.config.get("train", {}), facts.environment
    parts = {"loss": "loss", "optimizer": "optimizer"}
    chosen = {name: train[key]["_target_"] for name, key in parts.items() if isinstance(train.get(key), dict)}
    packages = {name: version for name, version in environment.get("packages", {}).items() if version}
    device = environment.get("device", {})
    rows = [
        ("network", facts.network),
        *chosen.items(),
        ("settings", ", ".join(f"{key} {value}" for key, value in settings.items())),
        ("preprocessing", ", ".join(facts.steps("preprocessing"))),
        ("random changes", ", ".join(facts.random_steps("train", "preprocessing"))),
        ("ended early", str((facts.summary or {}).get("stopped", ""))),
        ("computed on", " ".join(str(device[key]) for key in ("type", "processor", "name") if device.get(key))),
        ("packages", ", ".join(f"{name} {version}" for name, version in packages.items())),
        ("commit", str(environment.get("commit") or "")),
    ]
    return table_of(["", ""], [[name, f"`{escape(value)}`"] for name, value in rows if value])


def _limits(facts: RunFacts) -> str:
    lines = ["Not checked on images of other vendors, hospitals, protocols or patients than those of its data."]
    if facts.external:
        lines = [f"Beside its own data it was tested on: {', '.join(facts.external)} (see Results); on no others."]
    if facts.sees_position or facts.config.get("encoding") in ("learned", "coordconv"):
        lines.append(
            "It uses the position within the image: a shifted, cropped, rotated or mirrored image misleads it."
        )
    if (spacing := facts.config.get("spacing_mm")) and facts.size:
        side = facts.size[0]
        lines.append(
            f"It takes images of known pixel size, which are resampled to {spacing[0]:g} x {spacing[1]:g} mm, and sees "
            f"the middle {side} x {side} px of them; the rest is background."
        )
    lines.append("It gives a result for every image, even for one of something else; check each result.")
    if facts.slices == 1:
        lines.append("Slices of a volume are segmented one by one, without knowledge of their neighbors.")
    return "\n".join(f"- {line}" for line in lines)
