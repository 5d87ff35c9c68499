"""Turn published classifiers into fully convolutional networks, and check the place of every tensor."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from medpos.core.errors import InputError
from medpos.networks import FCN8s, FCN16s, FCN32s, FCNAlexNet, FCNGoogLeNet

VGG = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
VGG_NAMES = ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3"]
# in, 1 x 1, 3 x 3 reduced, 3 x 3, 5 x 5 reduced, 5 x 5, projection
INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def layer(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def vgg(caffe, part=1):
    shapes, last, place, names = {}, 3, 0, iter(VGG_NAMES)
    for channels in VGG:
        if channels == "M":
            place += 1
            continue
        shapes |= layer(f"conv{next(names)}" if caffe else f"features.{place}", channels // part, last, 3, 3)
        last, place = channels // part, place + 2
    dense, names = 4096 // part, ("fc6", "fc7", "fc8") if caffe else ("classifier.0", "classifier.3", "classifier.6")
    sizes = [(dense, last * 49), (dense, dense), (1000, dense)]
    for name, size in zip(names, sizes, strict=True):
        shapes |= layer(name, *size)
    return shapes


def alexnet(caffe, part=1):
    channels = [96, 256, 384, 384, 256] if caffe else [64, 192, 384, 256, 256]
    places = [f"conv{n}" for n in range(1, 6)] if caffe else [f"features.{n}" for n in (0, 3, 6, 8, 10)]
    shapes, last = {}, 3
    for name, wide, size, groups in zip(places, channels, (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), strict=True):
        shapes |= layer(name, wide // part, last // (groups if caffe else 1), size, size)
        last = wide // part
    dense = 4096 // part
    for place, name in enumerate(("fc6", "fc7", "fc8")):
        wide = [dense, dense, 1000][place]
        shapes |= layer(name if caffe else f"classifier.{(1, 4, 6)[place]}", wide, dense if place else last * 36)
    return shapes


def googlenet(caffe, part=1):
    shapes = {}

    def unit(caffe_name, name, wide, last, size):
        if caffe:
            shapes.update(layer(caffe_name, wide // part, last, size, size))
            return
        shapes[f"{name}.conv.weight"] = (wide // part, last, size, size)
        for kind in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{kind}"] = (wide // part,)
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    unit("conv1/7x7_s2", "conv1", 64, 3, 7)
    unit("conv2/3x3_reduce", "conv2", 64, 64 // part, 1)
    unit("conv2/3x3", "conv3", 192, 64 // part, 3)
    for name, (last, one, reduce3, three, reduce5, five, project) in INCEPTIONS.items():
        caffe_name, own = f"inception_{name}", f"inception{name}"
        last //= part
        unit(f"{caffe_name}/1x1", f"{own}.branch1", one, last, 1)
        unit(f"{caffe_name}/3x3_reduce", f"{own}.branch2.0", reduce3, last, 1)
        unit(f"{caffe_name}/3x3", f"{own}.branch2.1", three, reduce3 // part, 3)
        unit(f"{caffe_name}/5x5_reduce", f"{own}.branch3.0", reduce5, last, 1)
        unit(f"{caffe_name}/5x5", f"{own}.branch3.1", five, reduce5 // part, 5 if caffe else 3)
        unit(f"{caffe_name}/pool_proj", f"{own}.branch4.1", project, last, 1)
    return shapes | layer("loss3/classifier" if caffe else "fc", 1000, 1024 // part)


AUXILIARY = ["aux1.conv.conv.weight", "aux1.fc1.weight", "aux2.fc2.bias"]  # some of them
# Parameters as published, with the last classifier, without the auxiliary ones.
PUBLISHED = {
    "VGG-16, torchvision": (FCN32s, {}, vgg(False), 138_357_544, ["classifier.6.weight", "classifier.6.bias"]),
    "VGG-16, Caffe": (FCN8s, {}, vgg(True), 138_357_544, ["fc8.weight", "fc8.bias"]),
    "AlexNet, torchvision": (
        FCNAlexNet,
        {"trunk": "torchvision"},
        alexnet(False),
        61_100_840,
        ["classifier.6.weight", "classifier.6.bias"],
    ),
    "AlexNet, Caffe": (FCNAlexNet, {}, alexnet(True), 60_965_224, ["fc8.weight", "fc8.bias"]),
    "GoogLeNet, torchvision": (
        FCNGoogLeNet,
        {"trunk": "torchvision"},
        googlenet(False),
        6_624_904,
        ["fc.weight", "fc.bias", *AUXILIARY],
    ),
    "GoogLeNet, Caffe": (
        FCNGoogLeNet,
        {},
        googlenet(True),
        6_998_552,
        ["loss3/classifier.weight", "loss3/classifier.bias"],
    ),
}


def is_parameter(name):
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_is_loaded_and_the_classifier_is_listed(name):
    network, options, shapes, parameters, unused = PUBLISHED[name]
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in shapes.items()}
        model = network(**options)
        extra = {key: torch.empty(1) for key in unused if key not in weights}
    assert sum(values.numel() for key, values in weights.items() if is_parameter(key)) == parameters
    assert model.load_published(weights | extra) == unused
    own = [key for key in model.state_dict() if not key.startswith(("score", "up"))]
    assert len(own) == len(weights) + len(extra) - len(unused)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_layer_is_needed(name):
    network, options, shapes, _, _ = PUBLISHED[name]
    needed = [key for key in shapes if key.endswith("weight")][:-1]
    with torch.device("meta"):
        weights = {key: torch.empty(shape) for key, shape in shapes.items()}
        model = network(**options)
    for missing in needed[:: len(needed) // 3]:
        with pytest.raises(InputError, match="1 tensors missing") as error:
            model.load_published({key: values for key, values in weights.items() if key != missing})
        assert missing in str(error.value)


@pytest.mark.parametrize(("network", "shapes"), [(FCNAlexNet, alexnet(False)), (FCNGoogLeNet, googlenet(False))])
def test_an_error_names_the_other_trunk(network, shapes):
    with torch.device("meta"):
        weights, model = {key: torch.empty(shape) for key, shape in shapes.items()}, network()
    with pytest.raises(InputError, match="trunk is 'caffe': for the weights of torchvision set it to 'torchvision'"):
        model.load_published(weights)
    with pytest.raises(InputError, match="trunk: expected one of caffe, torchvision"):
        network(trunk="tf")


def drawn(shapes):
    """Draw weights that preserve the magnitude of the features."""
    generator, weights = torch.Generator().manual_seed(0), {}
    for name, shape in shapes.items():
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 0
        values = torch.randn(shape, generator=generator)
        weights[name] = values * (2 / fan) ** 0.5 if fan else values.abs() + 0.1
    return weights


def image(side):
    """Draw an image in Caffe's range, so that the local response normalization has an effect."""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 255 - 110


def convolve(weights, name, x, **options):
    return F.relu(F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options))


def dense(weights, names, x):
    for name in names:
        x = F.relu(F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]))
    return x


def lrn(x):
    """Normalize as Caffe does: divide by a power of the squares of the channel and of two on either side."""
    squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
    summed = sum(squares[:, place : place + x.shape[1]] for place in range(5))
    return x / (1 + 1e-4 / 5 * summed) ** 0.75


def vgg_dense(weights, x, caffe):
    place, names = 0, iter(VGG_NAMES)
    for channels in VGG:
        if channels == "M":
            x, place = F.max_pool2d(x, 2), place + 1
        else:
            x = convolve(weights, f"conv{next(names)}" if caffe else f"features.{place}", x, padding=1)
            place += 2
    return dense(weights, ("fc6", "fc7") if caffe else ("classifier.0", "classifier.3"), x.flatten(1))


def alexnet_dense(weights, x, caffe):
    names = [f"conv{n}" for n in range(1, 6)] if caffe else [f"features.{n}" for n in (0, 3, 6, 8, 10)]
    for name, size, groups in zip(names, (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), strict=True):
        options = {"stride": 4, "padding": 0} if size == 11 else {"padding": size // 2}
        x = convolve(weights, name, x, groups=groups if caffe else 1, **options)
        if name in (names[0], names[1], names[4]):
            x = F.max_pool2d(x, 3, 2)
        if caffe and name in names[:2]:
            x = lrn(x)
    return dense(weights, ("fc6", "fc7") if caffe else ("classifier.1", "classifier.4"), x.flatten(1))


@pytest.mark.parametrize("caffe", [True, False], ids=["Caffe", "torchvision"])
@pytest.mark.parametrize(
    ("network", "shapes", "reference", "first", "native"),
    [(FCN32s, vgg, vgg_dense, "conv1.conv1_1", (224, 1)), (FCNAlexNet, alexnet, alexnet_dense, "conv1", (227, 0))],
)
@torch.no_grad()
def test_dense_layers_are_convolutions_on_an_image_of_the_native_size(network, shapes, reference, first, native, caffe):
    weights, (side, padding) = drawn(shapes(caffe, 16)), native
    options = {"trunk": "caffe" if caffe else "torchvision"} if network is FCNAlexNet else {}
    model = network(width=1 / 16, **options).eval()
    model.load_published(weights)
    convolution = model.get_submodule(first)
    assert convolution.padding == (100, 100)
    convolution.padding = (padding, padding)
    model.fc7.register_forward_hook(lambda _, __, output: found.append(output))
    found = []
    model(image(side))
    expected = reference(weights, image(side), caffe)
    assert found[0].shape == (1, 256, 1, 1)
    assert expected.std() > 0.1
    torch.testing.assert_close(found[0].flatten(1), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def googlenet_features(weights, x, caffe):
    """Compute the output of the last inception module with the classifier's padding of 3 px."""

    def unit(caffe_name, name, x, **options):
        if caffe:
            return convolve(weights, caffe_name, x, **options)
        y = F.conv2d(x, weights[f"{name}.conv.weight"], **options)
        bn = [weights[f"{name}.bn.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return F.relu(F.batch_norm(y, *bn, eps=0.001))

    def pool(x, size=3):
        return F.max_pool2d(x, size, 2, ceil_mode=True)

    norm = lrn if caffe else lambda x: x
    x = norm(pool(unit("conv1/7x7_s2", "conv1", x, stride=2, padding=3)))
    x = unit("conv2/3x3", "conv3", unit("conv2/3x3_reduce", "conv2", x), padding=1)
    x = pool(norm(x))
    for name in INCEPTIONS:
        own, given = f"inception_{name}/", f"inception{name}.branch"
        three = unit(f"{own}3x3", f"{given}2.1", unit(f"{own}3x3_reduce", f"{given}2.0", x), padding=1)
        five = unit(f"{own}5x5_reduce", f"{given}3.0", x)
        five = unit(f"{own}5x5", f"{given}3.1", five, padding=2 if caffe else 1)
        project = unit(f"{own}pool_proj", f"{given}4.1", F.max_pool2d(x, 3, 1, 1))
        x = torch.cat([unit(f"{own}1x1", f"{given}1", x), three, five, project], 1)
        if name in ("3b", "4e"):
            x = pool(x, 3 if caffe or name == "3b" else 2)
    return x


@pytest.mark.parametrize("caffe", [True, False], ids=["Caffe", "torchvision"])
@torch.no_grad()
def test_googlenet_sees_what_the_classifier_sees(caffe):
    weights = drawn(googlenet(caffe, 8))
    model = FCNGoogLeNet(trunk="caffe" if caffe else "torchvision", width=1 / 8).eval()
    model.load_published(weights)
    assert model.conv1.conv.padding == (100, 100)
    model.conv1.conv.padding = (3, 3)
    found = []
    model.inception5b.register_forward_hook(lambda _, __, output: found.append(output))
    model(image(224))
    expected = googlenet_features(weights, image(224), caffe)
    assert found[0].shape == (1, 128, 7, 7)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_score_layers_of_a_published_fcn_are_loaded():
    def fcn(*layers):
        shapes = {name: shape for name, shape in vgg(True, 16).items() if "fc8" not in name}
        shapes |= {"fc6.weight": (256, 32, 7, 7), "fc7.weight": (256, 256, 1, 1)}
        for name, *shape in layers:
            shapes |= {f"{name}.weight": shape} if name.startswith("up") else layer(name, *shape)
        return drawn(shapes)

    score, skip = ("score_fr", 21, 256, 1, 1), ("score_pool4", 21, 32, 1, 1)
    weights = fcn(score, skip, ("upscore2", 21, 21, 4, 4), ("upscore16", 21, 21, 32, 32))
    model = FCN16s(width=1 / 16)
    assert model.load_published(weights) == []
    for name in ("score_fr.weight", "score_pool4.bias", "upscore16.weight"):
        assert torch.equal(model.state_dict()[name], weights[name])
    model = FCN16s(width=1 / 16)
    assert model.load_published(fcn(score, ("upscore", 21, 21, 64, 64))) == ["upscore.weight"]
    assert model.score_fr.weight.abs().sum() > 0
    assert not model.score_pool4.weight.any()
