"""Start MONAI Label beside a CPU build of PyTorch, with the arguments of ``monailabel``.

MONAI Label imports ``make_grid`` of torchvision, which is plain Python. But torchvision's wheel has compiled
operators for CUDA builds only, and can't be imported without them. Declaring their names here makes the import work; an
inference calls none of them, and a call would raise an error.
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
