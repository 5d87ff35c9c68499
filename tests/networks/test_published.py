"""Check that every tensor of a published file is loaded or named."""

import logging

import pytest
import torch
from network_table import NETWORKS
from torch import nn

from medpos.bundle.pretrained import begin
from medpos.core.colors import PUBLISHED as PUBLISHED
from medpos.core.errors import InputError
from medpos.networks.layers.published import load_layers, transplant, transpose_kernels

NAMES = {"first": ("conv1", "features.0"), "norm": ("bn1", "features.1"), "dense": ("fc", "classifier.0")}


def network():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"first": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "dense": nn.Conv2d(4, 5, 2), "own": nn.Conv2d(5, 2, 1)}
    )


def weights(column=0, **extra):
    def number(size):
        return torch.arange(float(torch.Size(size).numel())).reshape(size)

    shapes = {"first": [("weight", (4, 3, 3, 3)), ("bias", (4,))], "dense": [("weight", (5, 16)), ("bias", (5,))]}
    shapes["norm"] = [(kind, (4,)) for kind in ("weight", "bias", "running_mean", "running_var")]
    return {f"{NAMES[layer][column]}.{kind}": number(size) for layer in shapes for kind, size in shapes[layer]} | extra


@pytest.mark.parametrize("column", [0, 1])
def test_both_publishers_are_read_and_a_dense_layer_becomes_a_convolution(column):
    model, given = network(), weights(column, aux=torch.ones(1))
    own = model["own"].weight.clone()
    assert load_layers(model, given, NAMES) == ["aux"]
    for layer, names in NAMES.items():
        for kind in ("weight", "bias"):
            values = given[f"{names[column]}.{kind}"]
            assert torch.equal(model[layer].get_parameter(kind), values.reshape(model[layer].get_parameter(kind).shape))
    assert torch.equal(model["norm"].running_var, given[f"{NAMES['norm'][column]}.running_var"])
    assert torch.equal(model["own"].weight, own)
    # the dense layer reads a flattened map [channels, h, w]
    features = torch.rand(1, 4, 2, 2)
    dense = features.flatten(1) @ given[f"{NAMES['dense'][column]}.weight"].T + torch.arange(5.0)
    torch.testing.assert_close(model["dense"](features).flatten(1), dense)


def test_missing_tensors_are_counted_and_nothing_is_changed():
    model, given = network(), weights()
    del given["conv1.bias"], given["bn1.running_mean"]
    before = model["first"].weight.clone()
    with pytest.raises(InputError, match=r"ModuleDict.* 2 tensors missing \(first conv1.bias or features.0.bias\)"):
        load_layers(model, given, NAMES)
    assert torch.equal(model["first"].weight, before)


@pytest.mark.parametrize("shape", [(5, 15), (4, 20), (5, 4, 1, 4), (80,)])
def test_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"1 of another shape \(first fc.weight .* instead of \[5, 4, 2, 2\]\)"):
        load_layers(network(), weights() | {"fc.weight": torch.zeros(shape)}, NAMES)


def test_transplant_keeps_new_tensors_and_names_unused_ones():
    old, new = network(), network()
    for parameter in old.parameters():
        nn.init.ones_(parameter)
    given = {name: values for name, values in old.state_dict().items() if not name.startswith("dense")}
    kept = new["dense"].weight.clone()
    assert transplant(new, given | {"upscore.weight": torch.ones(1)}) == (
        ["dense.weight", "dense.bias"],
        ["upscore.weight"],
    )
    assert (new["first"].weight == 1).all()
    assert torch.equal(new["dense"].weight, kept)


def test_transplant_of_another_network_is_refused():
    with pytest.raises(InputError, match="no tensor of the same name"):
        transplant(network(), {"other.weight": torch.ones(1)})
    with pytest.raises(InputError, match=r"1 of another shape \(first own.bias \[21\] instead of \[2\]\)"):
        transplant(network(), network().state_dict() | {"own.bias": torch.ones(21)})


def rows_first(name, size):
    torch.manual_seed(0)
    model = NETWORKS[name].build(1 / 32).eval()
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        return model, image, model(image)


@pytest.mark.parametrize(
    "name", ["FCN8s", "FCNAlexNet", "FCNGoogLeNet", "DeepLabVGG", "DeepLabResNet", "SUNet", "SegNet"]
)
def test_a_transposed_network_sees_a_transposed_image(name):
    model, image, logits = rows_first(name, (33, 41))
    with torch.no_grad():
        assert not torch.allclose(model(image.mT), logits.mT, rtol=1e-3)
        transpose_kernels(model)
        torch.testing.assert_close(model(image.mT), logits.mT, rtol=1e-3, atol=1e-4)


class Loadable(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = network()

    def load_published(self, values):
        return load_layers(self.layers, values, NAMES)


class TestBegin:
    def test_published_weights_are_loaded_and_unused_ones_are_logged(self, tmp_path, caplog):
        torch.save(weights(aux=torch.ones(1)), tmp_path / "published.pth")
        model = Loadable()
        with caplog.at_level(logging.INFO):
            begin(model, weights=str(tmp_path / "published.pth"))
        assert model.layers["first"].bias.tolist() == [0, 1, 2, 3]
        assert model.layers["first"].weight[0, 0].tolist() == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]  # columns before rows
        assert caplog.messages == [f"{tmp_path / 'published.pth'}: loaded; unused: aux"]

    def test_a_checkpoint_holds_its_weights_with_other_things(self, tmp_path):
        torch.save({"epoch": 100, "arch": "sunet", "state_dict": weights()}, tmp_path / "published.pth.tar")
        model = Loadable()
        begin(model, weights=str(tmp_path / "published.pth.tar"))
        assert model.layers["first"].bias.tolist() == [0, 1, 2, 3]

    def test_an_earlier_stage_is_transplanted(self, tmp_path, caplog):
        earlier = Loadable()
        nn.init.ones_(earlier.layers["own"].weight)
        state = earlier.state_dict()
        del state["layers.own.bias"]
        torch.save(state, tmp_path / "model.pt")
        model = Loadable()
        with caplog.at_level(logging.INFO):
            begin(model, transplant=str(tmp_path / "model.pt"))
        assert (model.layers["own"].weight == 1).all()
        assert caplog.messages == [
            f"{tmp_path / 'model.pt'}: transplanted; new: layers.own.bias; unused: nothing",
        ]

    def test_a_stage_of_other_colors_is_refused(self, tmp_path):
        torch.save(Loadable().state_dict(), tmp_path / "model.pt")
        (tmp_path / "config.json").write_text('{"publisher": "torchvision"}')
        begin(Loadable(), transplant=str(tmp_path / "model.pt"), publisher="torchvision")
        with pytest.raises(
            InputError,
            match=r"model.pt: expected a stage .* got one with those of torchvision; add --publisher torchvision",
        ):
            begin(Loadable(), transplant=str(tmp_path / "model.pt"), publisher="caffe")

    def test_nothing_given_changes_nothing(self, caplog):
        model = Loadable()
        before = {name: values.clone() for name, values in model.state_dict().items()}
        with caplog.at_level(logging.INFO):
            begin(model)
        assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
        assert not caplog.messages

    def test_errors_name_the_file(self, tmp_path):
        path = tmp_path / "bad.pth"
        torch.save({"x": torch.ones(1)}, path)
        for given in ({"weights": str(path)}, {"transplant": str(path)}):
            with pytest.raises(InputError, match=r"bad\.pth: .* these weights"):
                begin(Loadable(), **given)
        with pytest.raises(InputError, match="expected --weights or --transplant, got both"):
            begin(Loadable(), str(path), str(path))
        with pytest.raises(InputError, match=r"nowhere\.pth: does not exist"):
            begin(Loadable(), str(tmp_path / "nowhere.pth"))
        with pytest.raises(InputError, match=r"bad\.pth: ModuleDict can't load published weights"):
            begin(network(), str(path))

    @pytest.mark.parametrize("given", sorted(PUBLISHED))
    def test_weights_for_other_colors_are_refused(self, given, tmp_path):
        [other] = PUBLISHED.keys() - {given}
        path = tmp_path / "vgg.pth"
        first = {"caffe": "conv1_1.weight", "torchvision": "features.0.weight"}[given]
        torch.save({first: torch.ones(1)}, path)
        with pytest.raises(InputError, match=f"vgg.pth: expected weights of {other},.* add --publisher {given}"):
            begin(Loadable(), str(path), publisher=other)
        with pytest.raises(InputError, match=r"--publisher: .* got 'keras'"):
            begin(Loadable(), str(path), publisher="keras")

    def test_code_in_a_file_is_not_run(self, tmp_path):
        torch.save(network(), tmp_path / "pickled.pth")
        with pytest.raises(InputError, match="never loaded"):
            begin(Loadable(), str(tmp_path / "pickled.pth"))
