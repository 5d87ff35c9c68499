"""Check the learning rate of each parameter."""

import pytest
import torch
from torch import nn

from medpos.core.errors import InputError
from medpos.optim.groups import parameter_groups


def network():
    layers = nn.ModuleDict({"body": nn.Conv2d(1, 2, 1), "fixed": nn.Conv2d(2, 2, 1), "head": nn.Conv2d(2, 3, 1)})
    return layers.requires_grad_(True)


def rates(model, groups):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_the_first_matching_expression_counts_and_the_rest_has_the_base_rate():
    model = network()
    found = parameter_groups(model, 0.5, 0.25, {"^head.*bias$": [20, 1], "^head": [10, 1], "bias$": [2, 0]})
    assert rates(model, found) == {
        "body.weight": (0.5, 0.25),
        "body.bias": (1, 0),
        "fixed.weight": (0.5, 0.25),
        "fixed.bias": (1, 0),
        "head.weight": (5, 0.25),
        "head.bias": (10, 0.25),
    }


def test_frozen_parameters_are_in_no_group():
    model = network()
    model["fixed"].requires_grad_(False)
    found = rates(model, parameter_groups(model, 1.0, 0.0, {"bias$": [2, 0]}))
    assert set(found) == {"body.weight", "body.bias", "head.weight", "head.bias"}


def test_an_optimizer_steps_at_these_rates():
    model = network()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(parameter_groups(model, 0.5, 0.0, {"bias$": [2, 0]}), lr=0.5)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(before[name] - parameter, torch.full_like(parameter, 1 if "bias" in name else 0.5))


def test_an_expression_without_a_parameter_is_refused():
    with pytest.raises(InputError, match=r"expected '\^haed' to match .* ModuleDict .* such as body.weight, body.bias"):
        parameter_groups(network(), 1.0, 0.0, {"^haed": [10, 1]})
    with pytest.raises(InputError, match="expected 'bias' to match"):
        parameter_groups(network(), 1.0, 0.0, {"s$": [2, 0], "bias": [2, 0]})


@pytest.mark.parametrize("pair", [[2], [1, 2, 3]])
def test_factors_are_two(pair):
    with pytest.raises(InputError, match="expected two"):
        parameter_groups(network(), 1.0, 0.0, {"bias$": pair})
