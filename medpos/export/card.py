"""Write the model card ``docs/README.md``: purpose, results, limits, data and commands."""

import html
import textwrap
from collections.abc import Mapping

from medpos.core.errors import printable
from medpos.core.labels import MEAN_OF_ORGANS, title
from medpos.data.conditions import CLEAN
from medpos.export.metadata import INTENDED, PAPER, PHANTOM, ExportedRun, describe_data
from medpos.metrics import SHOWN
from medpos.runs.text import PHANTOM_NOTE, TITLES, format_interval, format_mean

_SETTINGS = ("seed", "image_size", "max_epochs", "batch_size", "lr", "padding_mode", "encoding", "pe_alpha", "pe_range")


def write_card(exported: ExportedRun, free: Mapping[str, bool]) -> str:
    """Write the model card in Markdown.

    Args:
        exported: the exported run.
        free: whether ``model.ts`` and ``model.onnx`` take images of other sizes, by file name.
    """
    parts = [f"# {exported.bundle}", _what(exported)]
    if exported.data.phantom:
        parts.append(f"> **{PHANTOM}.** The images were computed; the numbers below say nothing about patients.")
    parts += ["## Intended use", f"{INTENDED[0].upper()}{INTENDED[1:]}. Classes: {_classes(exported)}."]
    parts += ["## Results", _results(exported), "## Limits", _limits(exported), "## Data", _data(exported)]
    parts += ["## How to run", _running(exported, free), "## Training", _training(exported), "## References", PAPER]
    return "\n\n".join(parts) + "\n"


def _what(exported: ExportedRun) -> str:
    positions = " and the position within the image" if exported.sees_position else ""
    return (
        f"Segments {', '.join(exported.organs)} in 2-D images or slices. The network sees grey values{positions}, at "
        f"{exported.inputs[1]} x {exported.inputs[2]} px; label maps come back on the image's own grid. Exported by "
        f"medpos from run `{exported.run}` of bundle `{exported.bundle}`."
    )


def _classes(exported: ExportedRun) -> str:
    return ", ".join(f"{label.index} {label.title}" for label in exported.data.labels)


def _results(exported: ExportedRun) -> str:
    condition, summary = exported.clean, exported.summary
    if condition is None or summary is None:
        return "The run was not tested, so its quality is unknown."
    header = [
        "organ",
        "Dice",
        "95 % interval",
        *(TITLES[m] for m in SHOWN if m != "dice"),
        "n",
        "missing",
        "infinite",
    ]
    rows = [header, ["---"] * len(header)]
    for organ, metrics in condition["organs"].items():
        dice = metrics["dice"]
        others = [format_mean(metrics[m], 1 if m.endswith("_mm") else 3) for m in SHOWN if m != "dice"]
        counts = [str(dice["n"]), str(dice["missing"]), str(metrics["hd95_mm"]["infinite"])]
        rows.append([_escape(title(organ)), format_mean(dice, 3), format_interval(dice), *others, *counts])
    mean = condition["mean_foreground_dice"]
    blank = [""] * (len(SHOWN) - 1)
    rows.append(
        [MEAN_OF_ORGANS, format_mean(mean, 3), format_interval(mean), *blank, str(mean["n"]), str(mean["missing"]), ""]
    )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    kind = "PHANTOMS" if summary["phantom"] else "images"
    notes = [
        f"{summary['split']} split: {summary['cases']} {kind} of {summary['subjects']} subjects; mean ± sd over them; "
        "95 % interval of the mean over subjects (Student's t). Measured on the network's grid. Missing: the "
        "organ is in neither ground truth nor prediction; infinite: in only one of the two."
    ]
    notes += ["Pixel sizes are nominal, so distances in mm are too."] if summary["nominal_spacing"] else []
    notes += [PHANTOM_NOTE + "."] if summary["phantom"] else []
    return f"{table}\n\n{' '.join(notes)}{_changed(exported)}"


def _escape(text: str) -> str:
    """Return text for a cell of a table of Markdown."""
    return html.escape(printable(text)).replace("|", "&#124;").replace("[", "&#91;")


def _changed(exported: ExportedRun) -> str:
    """Return a table of the run's test on degraded or shifted images, or an empty text."""
    conditions = (exported.summary or {}).get("conditions", [])
    rows = [
        f"| {entry['degradation'].replace('_', ' ')} | {entry['severity']} | {entry['shift']} | "
        f"{format_mean(entry['mean_foreground_dice'], 3)} |"
        for entry in conditions
        if entry["severity"] or entry["shift"] != CLEAN.shift
    ]
    if not rows:
        return ""
    return "\n\n| degradation | severity | shift px | mean Dice |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def _limits(exported: ExportedRun) -> str:
    lines = ["Not checked on images of other vendors, hospitals, protocols or patients than those of its data."]
    if exported.sees_position or exported.config.get("encoding") in ("learned", "coordconv"):
        lines.append(
            "It uses the position within the image: a shifted, cropped, rotated or mirrored image misleads it."
        )
    if spacing := exported.config.get("spacing_mm"):
        side = exported.inputs[1]
        lines.append(
            f"It takes images of known pixel size, which are resampled to {spacing[0]:g} x {spacing[1]:g} mm, and sees "
            f"the middle {side} x {side} px of them; the rest is background."
        )
    lines.append("It gives a result for every image, even for one of something else; check each result.")
    if exported.slices == 1:
        lines.append("Slices of a volume are segmented one by one, without knowledge of their neighbors.")
    return "\n".join(f"- {line}" for line in lines)


def _data(exported: ExportedRun) -> str:
    text = describe_data(exported.data)
    return f"{text[0].upper()}{text[1:]}. Neither images nor masks are part of this bundle."


def _running(exported: ExportedRun, free: Mapping[str, bool]) -> str:
    run = "python -m monai.bundle run --config_file"
    return f"""It needs medpos (`configs/metadata.json` says which version), not its data. New images, a folder of
NIfTI, PNG, JPEG, TIFF, JSRT `.IMG` or DICOM (`pip install 'medpos[dicom]'`):

    {run} configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir OUT
    python -m medpos predict . IMAGES --out OUT      # the same label maps, with measurements, warnings and overlays

In Python: `monai.bundle.load(NAME_OF_THIS_FOLDER, bundle_dir=FOLDER_ABOVE, workflow_type="inference")`.
{_forms(exported, free)}

To train it further, with a prepared folder of {exported.data.name} (or lists of images and label maps for
`train#dataset#data` and `validate#dataset#data`, as MONAI Label does), or to test it on the folder's test split:

    {run} configs/train.json --bundle_root . --dataset_dir DATA
    {run} "['configs/train.json','configs/evaluate.json']" --bundle_root . --dataset_dir DATA

The training starts from `models/model.pt` and replaces it by its best epoch; `runs/` keeps the weights from before.

A configuration is code: MONAI evaluates its `$` expressions. Run no bundle that you don't trust."""


def _forms(exported: ExportedRun, free: Mapping[str, bool]) -> str:
    """Describe the input and output of the TorchScript and ONNX files."""
    taken, given = (", ".join(map(str, shape)) for shape in (exported.inputs, exported.outputs))
    text = f"`models/model.ts` (TorchScript) and `models/model.onnx` take the standardized image [n, {taken}]"
    text += f" ({', '.join(exported.channels)}; columns before rows), and give logits [n, {given}]."
    if exported.appends_position:
        text += " They append the channels of the position themselves."
    elif exported.sees_position:
        text += (
            " The position channels are part of the input, because the network sees windows: they are those of the "
            "window's place in the whole image (`standardise` in `configs/inference.json` makes them)."
        )
    sizes = f"{exported.inputs[1]} x {exported.inputs[2]} px"
    for is_free, note in ((True, f"any width and height, though training used {sizes}"), (False, f"{sizes} alone")):
        names = " and ".join(f"`{name}`" for name, free_one in free.items() if free_one is is_free)
        text += f" Sizes of {names}: {note}." if names else ""
    return "\n".join(textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False))


def _training(exported: ExportedRun) -> str:
    settings = {key: exported.config[key] for key in _SETTINGS if key in exported.config}
    packages = {name: version for name, version in exported.environment.get("packages", {}).items() if version}
    lines = [", ".join(f"{key} {value}" for key, value in settings.items())]
    lines += [", ".join(f"{name} {version}" for name, version in packages.items())] if packages else []
    commit = exported.environment.get("commit")
    lines += [f"medpos commit {commit}"] if commit else []
    return "\n".join(f"- {line}" for line in lines)
