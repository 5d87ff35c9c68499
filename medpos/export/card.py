"""The model card, ``docs/README.md``: what it is, how good it was, what it must not be used for, how to run it."""

from medpos.core.labels import MEAN_OF_ORGANS, title
from medpos.data.conditions import CLEAN
from medpos.export.metadata import INTENDED, PAPER, PHANTOM, Subject, source_of
from medpos.metrics import METRICS
from medpos.runs.text import PHANTOM_NOTE, TITLES, format_interval, format_mean

_SETTINGS = ("seed", "image_size", "max_epochs", "batch_size", "lr", "padding_mode", "encoding", "pe_alpha", "pe_range")


def card(subject: Subject) -> str:
    """The page, in Markdown."""
    parts = [f"# {subject.bundle}", _what(subject)]
    if subject.data.phantom:
        parts.append(f"> **{PHANTOM}.** The images were computed; the numbers below say nothing about patients.")
    parts += ["## Intended use", f"{INTENDED[0].upper()}{INTENDED[1:]}. Classes: {_classes(subject)}."]
    parts += ["## Results", _results(subject), "## Limits", _limits(subject), "## Data", _data(subject)]
    parts += ["## How to run", _running(subject), "## Training", _training(subject), "## References", PAPER]
    return "\n\n".join(parts) + "\n"


def _what(subject: Subject) -> str:
    positions = " and the position within the image" if _sees_position(subject) else ""
    return (
        f"Segments {', '.join(subject.organs)} in 2-D images or slices. The network sees grey values{positions}, at "
        f"{subject.inputs[1]} x {subject.inputs[2]} px; label maps come back on the image's own grid. Exported by "
        f"medpos from run `{subject.run}` of bundle `{subject.bundle}`."
    )


def _sees_position(subject: Subject) -> bool:
    return subject.inputs[0] > subject.slices * len(subject.data.channels)


def _classes(subject: Subject) -> str:
    return ", ".join(f"{label.index} {label.title}" for label in subject.data.labels)


def _results(subject: Subject) -> str:
    condition, summary = subject.clean, subject.summary
    if condition is None or summary is None:
        return "The run was not tested, so nothing is known of its quality."
    header = [
        "organ",
        "Dice",
        "95 % interval",
        *(TITLES[m] for m in METRICS if m != "dice"),
        "n",
        "missing",
        "infinite",
    ]
    rows = [header, ["---"] * len(header)]
    for organ, metrics in condition["organs"].items():
        dice = metrics["dice"]
        others = [format_mean(metrics[m], 1 if m.endswith("_mm") else 3) for m in METRICS if m != "dice"]
        counts = [str(dice["n"]), str(dice["missing"]), str(metrics["hd95_mm"]["infinite"])]
        rows.append([title(organ), format_mean(dice, 3), format_interval(dice), *others, *counts])
    mean = condition["mean_foreground_dice"]
    blank = [""] * (len(METRICS) - 1)
    rows.append(
        [MEAN_OF_ORGANS, format_mean(mean, 3), format_interval(mean), *blank, str(mean["n"]), str(mean["missing"]), ""]
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    kind = "PHANTOMS" if summary["phantom"] else "images"
    notes = [
        f"{summary['split']} split: {summary['cases']} {kind} of {summary['subjects']} subjects; mean ± sd over them; "
        "95 % bootstrap interval of the mean, subjects drawn. Measured on the network's grid. Missing: the organ is in "
        "neither truth nor prediction; infinite: in only one of the two."
    ]
    notes += ["Pixel sizes are nominal, so distances in mm are too."] if summary["nominal_spacing"] else []
    notes += [PHANTOM_NOTE + "."] if summary["phantom"] else []
    return f"{table}\n\n{' '.join(notes)}{_changed(subject)}"


def _changed(subject: Subject) -> str:
    """What the run's own test says of changed images, if it looked at any."""
    conditions = (subject.summary or {}).get("conditions", [])
    rows = [
        f"| {entry['degradation'].replace('_', ' ')} | {entry['severity']} | {entry['shift']} | "
        f"{format_mean(entry['mean_foreground_dice'], 3)} |"
        for entry in conditions
        if entry["severity"] or entry["shift"] != CLEAN.shift
    ]
    if not rows:
        return ""
    return "\n\n| degradation | severity | shift px | mean Dice |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def _limits(subject: Subject) -> str:
    lines = ["Not checked on images of other makers, hospitals, protocols or patients than those of its data."]
    if _sees_position(subject) or subject.config.get("encoding") in ("learned", "coordconv"):
        lines.append(
            "It rests on where things lie in the image: a moved, cropped, turned or mirrored image misleads it."
        )
    lines.append("It answers on every image, also on one of something else; look at each result.")
    if subject.slices == 1:
        lines.append("Slices of a volume are segmented one by one, without knowledge of their neighbours.")
    return "\n".join(f"- {line}" for line in lines)


def _data(subject: Subject) -> str:
    text = source_of(subject.data)
    return f"{text[0].upper()}{text[1:]}. Neither images nor masks are part of this bundle."


def _running(subject: Subject) -> str:
    run = "python -m monai.bundle run --config_file"
    return f"""It needs medpos (`configs/metadata.json` says which version), not its data. New images, a folder of
NIfTI, PNG, JPEG, TIFF, JSRT `.IMG` or DICOM (`pip install 'medpos[dicom]'`):

    {run} configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir OUT
    python -m medpos predict . IMAGES --out OUT      # the same label maps, with measurements, warnings and overlays

In Python: `monai.bundle.load(NAME_OF_THIS_FOLDER, bundle_dir=FOLDER_ABOVE, workflow_type="inference")`.
`models/model.ts` (TorchScript) and `models/model.onnx` take the standardised image
[n, {", ".join(map(str, subject.inputs))}] and give logits [n, {", ".join(map(str, subject.outputs))}].

Anew, or on a test split, with a prepared folder of {subject.data.name}:

    {run} configs/train.json --bundle_root . --dataset_dir DATA
    {run} "['configs/train.json','configs/evaluate.json']" --bundle_root . --dataset_dir DATA

A configuration is code: MONAI evaluates its `$` expressions. Run no bundle that you don't trust."""


def _training(subject: Subject) -> str:
    settings = {key: subject.config[key] for key in _SETTINGS if key in subject.config}
    packages = {name: version for name, version in subject.environment.get("packages", {}).items() if version}
    lines = [", ".join(f"{key} {value}" for key, value in settings.items())]
    lines += [", ".join(f"{name} {version}" for name, version in packages.items())] if packages else []
    commit = subject.environment.get("commit")
    lines += [f"medpos commit {commit}"] if commit else []
    return "\n".join(f"- {line}" for line in lines)
