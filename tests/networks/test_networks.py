"""Test all networks by one suite."""

import functools
import io

import numpy as np
import onnxruntime
import pytest
import torch
from network_table import NARROW, NETWORKS
from running import leave_to_torture
from torch import nn

from medpos import networks
from medpos.core.errors import InputError
from medpos.networks.layers.folding import fold_batch_norms

TRAINED = [name for name, network in NETWORKS.items() if network.parameters]


@functools.cache
def _built(name):
    torch.manual_seed(0)
    return NETWORKS[name].build(NARROW)


def built(name, training=False):
    """Build the narrow network; tests may change only its buffers."""
    return _built(name).train(training)


def on_paper(name):
    """Build the whole network without memory for its values."""
    with torch.device("meta" if NETWORKS[name].parameters else "cpu"):
        return NETWORKS[name].build(1.0).eval()


def image(name, size=0, batch=1):
    shape = (batch, NETWORKS[name].native[0], *NETWORKS[name].sizes[size])
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def test_every_public_network_is_in_the_table():
    built = {type(module) for name in NETWORKS for module in on_paper(name).modules()}
    public = {value for value in map(networks.__dict__.get, networks.__all__) if isinstance(value, type)}
    # The classifiers' logits have no pixels; test_sunet.py and test_classifiers.py test them. The other is a layer
    # around any network of the position study; test_export_position.py tests it.
    classifiers = {networks.SUNetClassifier, networks.ResNetClassifier, networks.DenseNetClassifier}
    assert public - built == {*classifiers, networks.AppendPosition}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameter_count(name):
    assert sum(parameter.numel() for parameter in on_paper(name).parameters()) == NETWORKS[name].parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_of_all_stages(name):
    model, found = on_paper(name), {}
    for stage in NETWORKS[name].stages:
        hook = functools.partial(lambda stage, _, __, output: found.update({stage: tuple(output.shape)}), stage)
        model.get_submodule(stage).register_forward_hook(hook)
    output = model(torch.zeros(2, *NETWORKS[name].native, device="meta" if NETWORKS[name].parameters else "cpu"))
    assert found == {stage: (2, *shape) for stage, shape in NETWORKS[name].stages.items()}
    assert output.dim() == 4


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_gets_a_gradient(name):
    torch.manual_seed(2)
    model = built(name, training=True)
    output = model(image(name, batch=2))
    heads = NETWORKS[name].heads
    assert output.dim() == 4 or output.shape[:2] == (2, heads)
    (output * (torch.rand(output.shape) - 0.5)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        # Batch normalization takes away what a bias before it adds.
        assert parameter.grad.abs().sum() > 0 or parameter_name.endswith("conv.bias"), parameter_name
    model.zero_grad(set_to_none=True)


# Slow variants of networks whose other forms stay.
SLOW = {"SUNet, strided", "SUNet, three levels, dense", "FCNGoogLeNet, torchvision"}


@pytest.mark.parametrize("convert", leave_to_torture(["script", "trace"], ["trace"]))
@pytest.mark.parametrize("name", leave_to_torture(NETWORKS, SLOW))
@torch.no_grad()
def test_torchscript_equals_the_network(name, convert):
    """Use another size and batch than in tracing, and save and load the network."""
    model, other = built(name), image(name, size=1, batch=2)
    converted = (
        torch.jit.script(model) if convert == "script" else torch.jit.trace(model, image(name), check_trace=False)
    )
    buffer = io.BytesIO()
    torch.jit.save(converted, buffer)
    buffer.seek(0)
    with torch.jit.optimized_execution(False):  # it would take seconds
        torch.testing.assert_close(torch.jit.load(buffer)(other), model(other), rtol=1e-4, atol=1e-5)


def test_no_two_sequences_have_the_same_layers_in_another_order():
    """TorchScript takes the one for the other, and computes in the wrong order."""
    orders = {}
    for name in NETWORKS:
        for module in built(name).modules():
            if type(module) is nn.Sequential:
                order = tuple((key, type(layer)) for key, layer in module.named_children())
                orders.setdefault(frozenset(order), {})[order] = name
    assert [list(names.values()) for names in orders.values() if len(names) > 1] == []


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_onnx_equals_the_network(name):
    model, buffer, axes = built(name), io.BytesIO(), {"image": {0: "n"}, "logits": {0: "n"}}
    torch.onnx.export(
        model, (image(name),), buffer, input_names=["image"], output_names=["logits"], dynamic_axes=axes, dynamo=False
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    two = image(name, batch=2)
    found = torch.from_numpy(session.run(None, {"image": two.numpy()})[0])
    wanted = model(two)
    # Kernels of different processors round differently, in proportion to the largest logits.
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.wrong])
def test_wrong_size_is_explained(name):
    size, words = NETWORKS[name].wrong
    with pytest.raises(InputError) as error:
        built(name)(torch.zeros(1, NETWORKS[name].native[0], *size))
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("name", TRAINED)
def test_wrong_dimensions_are_explained(name):
    with pytest.raises(InputError, match=r"expected an input \[N, C, H, W\], got shape \[1, 32, 32\]"):
        built(name)(torch.zeros(1, 32, 32))


def norms(model):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())


@pytest.mark.parametrize("name", [name for name in TRAINED if norms(NETWORKS[name].build(NARROW))])
@torch.no_grad()
def test_batch_normalization_folds_into_the_convolutions(name):
    torch.manual_seed(3)
    model = NETWORKS[name].build(NARROW).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.3, 3)
    expected, found = model(image(name)), fold_batch_norms(model)(image(name))
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()
    assert norms(fold_batch_norms(model)) == (norms(model) if "ReLU first" in name else NETWORKS[name].unfolded)


def filled(model):
    """Fill in random weights of NumPy, so that the numbers don't depend on PyTorch's initialization."""
    rng = np.random.default_rng(0)
    for parameter_name, parameter in model.named_parameters():
        width = (24 / parameter[0].numel()) ** 0.5 if parameter.dim() == 4 else 0.2
        parameter.copy_(torch.from_numpy((rng.random(tuple(parameter.shape)) - 0.5) * width))
        if parameter_name.endswith("norm.weight"):
            parameter += 1
    return model


@pytest.mark.parametrize("name", [name for name, network in NETWORKS.items() if network.golden])
@torch.no_grad()
def test_golden_output(name):
    rng = np.random.default_rng(1)
    model = filled(NETWORKS[name].build(NARROW)).eval()
    output = model(torch.from_numpy(rng.random(tuple(image(name).shape)) - 0.5).float())
    assert (output.mean().item(), output.std().item()) == pytest.approx(NETWORKS[name].golden, rel=1e-3, abs=1e-5)
