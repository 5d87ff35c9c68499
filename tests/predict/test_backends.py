"""Compare the labels of other backends with those of PyTorch."""

import numpy as np
import pytest

from medpos.core.errors import InputError
from medpos.predict.label_maps import compute_label_map
from medpos.predict.model import Model


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_labels_are_those_of_torch(chest, heart, chest_run, heart_run, xray, stack, backend):
    pytest.importorskip(backend)
    images = (xray[1][..., None], np.asarray(stack[1].dataobj))
    for ensemble, run, image in zip((chest, heart), (chest_run, heart_run), images, strict=True):
        model = Model(run, backend=backend)
        expected = compute_label_map(ensemble.probabilities(ensemble.decode(image)), image.shape)
        found = compute_label_map(model.probabilities(model.decode(image)), image.shape)
        # Networks of a few epochs have near ties, which bf16 decides otherwise.
        assert (found == expected).mean() > 0.99


def test_refusals(chest_run):
    with pytest.raises(InputError, match="expected one of torch"):
        Model(chest_run, backend="tensorflow")
    with pytest.raises(InputError, match=r"no CUDA device|expected --device cpu"):
        Model(chest_run, device="cuda", backend="onnxruntime")
    with pytest.raises(InputError, match="expected cpu, cuda"):
        Model(chest_run, device="abacus")
