"""Merge the fragments of ``bundles/src`` into the self-contained bundles of ``bundles``, in a checkout.

usage: python -m medpos.bundle.build [--check]

``recipes.yaml`` lists the fragments of each bundle; :mod:`medpos.bundle.fragments` merges them. With ``--check``
nothing is written, and the exit code is 1 if a committed file is stale.
"""

import json
import sys
from pathlib import Path
from typing import Any

from medpos.bundle.fragments import adapt_metadata, dumps, load_keys, load_recipes, merge
from medpos.core import labels
from medpos.data import imagenet

BUNDLES = Path(__file__).parents[2] / "bundles"
RGB = ("red", "green", "blue")
# DeepLab's aligned corners; DeconvNet's dense layers need 193 px; the other networks of these data take any size.
SIDES = dict.fromkeys(("voc", "context", "parts", "cityscapes"), "32*n + 1")
SIDES |= dict.fromkeys(("camvid", "sunrgbd"), "32*n + 193")
SIDES["jsrt_patch"] = "4*n + 33"  # one patch and more of its strides
# Input channels, classes and task of the data sets outside the study; nuclei_unet2015 has the metadata of cells.
SECONDARY = {
    "nuclei": (("image",), labels.NUCLEI[1:], "segmentation of nuclei in microscopy, one logit of the foreground"),
    "polyp": (RGB, labels.POLYP[1:], "segmentation of polyps in colonoscopy, one logit of the foreground"),
    "liver": (("image",), labels.LIVER[1:], "segmentation of livers in CT slice by slice, one logit of the foreground"),
    "nodule": (("image",), labels.NODULE[1:], "segmentation of lung nodules in CT slice by slice, one logit"),
    "cells": (("image",), labels.CELLS, "segmentation of cells in microscopy, tile by tile"),
    "jsrt_patch": (("image",), labels.JSRT, "classification of the center pixels of patches of chest X-rays"),
    "brain": (("above", "slice", "below"), labels.IBSR, "segmentation of brain tissue in MRI, patch by patch"),
    "brain_segnet": (("slice",), labels.IBSR, "segmentation of brain tissue in MRI, slice by slice"),
    "camvid": (RGB, labels.CAMVID[1:], "segmentation of street scenes"),
    "sunrgbd": (RGB, labels.SUNRGBD[1:], "segmentation of rooms"),
    "retina": (RGB, labels.DRIVE, "segmentation of vessels in photographs of the retina"),
    "voc": (RGB, labels.VOC, "segmentation of objects in photographs"),
    "context": (RGB, labels.CONTEXT, "segmentation of objects and their surroundings in photographs"),
    "parts": (RGB, labels.PERSON_PARTS, "segmentation of the parts of persons in photographs"),
    "cityscapes": (RGB, labels.CITYSCAPES, "segmentation of street scenes, without background"),
}


def build_bundle(source: Path, name: str, fragments: list[str], card: list[str]) -> dict[str, Any]:
    """Build one bundle as JSON content; its ``_desc_`` is its card, its command and its origin.

    Args:
        source: folder of the fragments.
        name: name of the bundle, its file name without suffix.
        fragments: fragments to merge, in order, paths below ``source`` without suffix.
        card: lines that describe the bundle.
    """
    run = f"Run: python -m monai.bundle run --config_file bundles/{name}.json"
    origin = "Generated from bundles/src; edit that."
    return merge(source, fragments, name, [*card, run, origin])


def build_metadata(bundles: Path) -> dict[str, dict[str, Any]]:
    """Build the metadata: the study's with the schema of all keys, those of other networks and data sets, by name.

    Args:
        bundles: folder of the bundles, with ``metadata.json`` of the study.
    """
    study = json.loads((bundles / "metadata.json").read_text(encoding="utf-8"))
    study.pop("keys", None)
    rules = {key: rule for section in load_keys(bundles / "src").values() for key, rule in section.items()}
    files = {"metadata": {**study, "keys": rules}, "metadata_pe": adapt_metadata(study, ("image", "x", "y"))}
    for data, (inputs, classes, task) in SECONDARY.items():
        content = adapt_metadata(study, inputs, [label.name for label in classes], SIDES.get(data, ""))
        files[f"metadata_{data}"] = {**content, "name": f"medpos {data}", "task": task, "description": task}
    # A vector of logits, one per folder of ImageNet.
    content = adapt_metadata(study, RGB, [])
    logits = content["network_data_format"]["outputs"]["pred"]
    logits |= {"type": "probabilities", "format": "classes", "num_channels": imagenet.COUNTS["classes"]}
    logits |= {"spatial_shape": [], "channel_def": {"0": "first class", "999": "last class"}}
    task = "classification of photographs, one logit a class"
    files["metadata_imagenet"] = {**content, "name": "medpos imagenet", "task": task, "description": task}
    return files


def build(bundles: Path = BUNDLES, check: bool = False) -> list[str]:
    """Write the bundles and their metadata, or only compare them with the files there.

    Args:
        bundles: folder of the bundles, with the fragments in ``src``.
        check: whether to leave the files as they are.

    Returns:
        Names of the files that were stale.
    """
    source = bundles / "src"
    files = {f"{name}.json": build_bundle(source, name, **recipe) for name, recipe in load_recipes(source).items()}
    files |= {f"{name}.json": content for name, content in build_metadata(bundles).items()}
    stale = []
    for name, content in files.items():
        path, text = bundles / name, dumps(content)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    return stale


def main() -> int:
    """Run the command line; returns its exit code."""
    check = "--check" in sys.argv[1:]
    stale = build(check=check)
    sys.stdout.write(f"{'stale' if check else 'written'}: {', '.join(stale) or 'none'}\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
