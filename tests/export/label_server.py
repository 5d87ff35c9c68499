"""Starts MONAI Label beside a CPU build of PyTorch; takes the arguments of ``monailabel``.

MONAI Label imports ``make_grid`` of torchvision, which is plain Python. But torchvision's wheel brings its compiled
operators for CUDA builds only, and refuses to be imported without them. Their names are declared here, so that the
import goes through; none of them is called by an inference, and one that were would fail loudly.
"""

import runpy
import sys

import torch

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def declare():
    library = torch.library.Library("torchvision", "DEF")
    for schema in _OPERATORS:
        library.define(schema)
    return library


if __name__ == "__main__":
    kept = declare()
    sys.argv[0] = "monailabel"
    runpy.run_module("monailabel.main", run_name="__main__")
