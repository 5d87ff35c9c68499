"""Keep batch normalization frozen in MONAI's trainer, which calls ``train`` before every iteration."""

import copy

import pytest
import torch
from monai.engines import SupervisedTrainer
from torch import nn

from medpos.core.errors import InputError
from medpos.networks import freeze_all_but, freeze_statistics
from medpos.networks.layers.folding import fold_batch_norms


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))


def trained(model):
    batch = {"image": torch.randn(4, 1, 9, 9), "label": torch.zeros(4, 5, 5, dtype=torch.long)}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=[batch],
        network=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.5, momentum=0.9, weight_decay=0.1),
        loss_function=nn.CrossEntropyLoss(),
        decollate=False,
        optim_set_to_none=True,
    )
    trainer.run()
    return model


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_stay_and_convolutions_learn(affine):
    model = freeze_statistics(network(), affine)
    before = copy.deepcopy(model.state_dict())
    changed = {name for name, tensor in trained(model).state_dict().items() if not torch.equal(tensor, before[name])}
    affected = set() if affine else {f"{place}.{kind}" for place in "14" for kind in ("weight", "bias")}
    assert changed == {f"{place}.{kind}" for place in "03" for kind in ("weight", "bias")} | affected
    assert model.training
    assert not model[1].training


def test_without_freezing_statistics_change():
    model = network()
    before = copy.deepcopy(model.state_dict())
    assert not torch.equal(trained(model).state_dict()["1.running_mean"], before["1.running_mean"])


def test_frozen_networks_fold_script_and_keep_their_names():
    model, image = freeze_statistics(network()), torch.randn(1, 1, 9, 9)
    assert list(model.state_dict()) == list(network().state_dict())
    twin = copy.deepcopy(model).train()
    torch.testing.assert_close(twin(image), network().eval()(image))
    torch.testing.assert_close(fold_batch_norms(model.eval())(image), model(image))
    torch.testing.assert_close(torch.jit.script(model)(image), model(image))


def test_all_parts_but_the_named_ones_are_frozen():
    """A norm before them keeps its statistics up to date, as only its parameters are frozen."""
    model = freeze_all_but(network(), ["3", "4"])
    before = copy.deepcopy(model.state_dict())
    changed = {name for name, tensor in trained(model).state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name in changed if name.endswith(("weight", "bias"))} == {
        "3.weight",
        "4.weight",
        "4.bias",
        "3.bias",
    }
    with pytest.raises(InputError, match=r"expected parts of Sequential with parameters \(0, 1, 3, 4\), got '2'"):
        freeze_all_but(model, ["2"])
