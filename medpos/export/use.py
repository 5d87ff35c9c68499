"""Describe how to use a run or an exported bundle: a section of its model card."""

import textwrap
from collections.abc import Mapping

from medpos.export.facts import RunFacts
from medpos.export.metadata import ExportedRun


def describe_use_of_run(facts: RunFacts) -> str:
    """Describe in Markdown how to use a run that isn't exported."""
    name = f"runs/{facts.bundle}/{facts.run}"
    return f"""It needs medpos and the run's folder (`RUN`, here `{name}`), not its data. New images, a folder of NIfTI,
NRRD, MetaImage, PNG, JPEG, TIFF, JSRT `.IMG` or DICOM (`pip install 'medpos[dicom]'`):

    python -m medpos predict RUN IMAGES --out OUT     # label maps, measurements, warnings and overlays
    python -m medpos export RUN --out BUNDLE          # a bundle for others, with this card

A configuration is code: MONAI evaluates its `$` expressions. Use no run that you don't trust."""


def describe_use(exported: ExportedRun, free: Mapping[str, bool]) -> str:
    """Describe in Markdown how to run an exported bundle.

    Args:
        exported: the exported run.
        free: whether ``model.ts`` and ``model.onnx`` take images of other sizes, by file name.
    """
    run = "python -m monai.bundle run --config_file"
    return f"""It needs medpos (`configs/metadata.json` says which version), not its data. New images, a folder of
NIfTI, PNG, JPEG, TIFF, JSRT `.IMG` or DICOM (`pip install 'medpos[dicom]'`):

    {run} configs/inference.json --bundle_root . --dataset_dir IMAGES --output_dir OUT
    python -m medpos predict . IMAGES --out OUT      # the same label maps, with measurements, warnings and overlays

In Python: `monai.bundle.load(NAME_OF_THIS_FOLDER, bundle_dir=FOLDER_ABOVE, workflow_type="inference")`.
{_forms(exported, free)}

To train it further, with a prepared folder of {exported.facts.data.name} (or lists of images and label maps for
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
    elif exported.facts.sees_position:
        text += (
            " The position channels are part of the input, because the network sees windows: they are those of the "
            "window's place in the whole image (`standardise` in `configs/inference.json` makes them)."
        )
    sizes = f"{exported.inputs[1]} x {exported.inputs[2]} px"
    for is_free, note in ((True, f"any width and height, though training used {sizes}"), (False, f"{sizes} alone")):
        names = " and ".join(f"`{name}`" for name, free_one in free.items() if free_one is is_free)
        text += f" Sizes of {names}: {note}." if names else ""
    return "\n".join(textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False))
