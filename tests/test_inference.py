import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from running import parser

import medpos.inference
from medpos.inference import FastInferer, has_fast_bf16, memory_format
from medpos.networks import SmallCNN


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SmallCNN(in_channels=3).eval()


def test_without_amp_it_is_the_network_itself(network):
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        out = FastInferer(SimpleInferer(), amp=False)(image, network)
        assert torch.allclose(out, network(image), atol=1e-5)
        plain = network(image.contiguous(memory_format=memory_format(image.device)))
    assert torch.equal(out, plain)


@pytest.mark.parametrize("fast", [True, False])
def test_fast_path_is_near_and_float32(fast, network, monkeypatch):
    monkeypatch.setattr(medpos.inference, "has_fast_bf16", lambda _: fast)
    seen = []

    def spy(x):
        seen.append((torch.is_autocast_enabled("cpu"), x.is_contiguous(memory_format=torch.channels_last)))
        return network(x)

    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        out = FastInferer(SimpleInferer())(image, spy)
        wanted = network(image)
    assert seen == [(fast, fast)]
    assert out.dtype == torch.float32
    assert torch.allclose(out, wanted, atol=0.1 if fast else 1e-5)
    assert not torch.is_autocast_enabled("cpu")


def test_gradients_pass(network):
    image = torch.randn(2, 3, 16, 16)
    FastInferer(SimpleInferer())(image, network).square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in network.parameters()
    )
    network.zero_grad()


def test_windows_and_slices(network):
    volume = torch.randn(1, 3, 32, 32, 5)
    with torch.no_grad():
        out = FastInferer(SliceInferer(roi_size=(32, 32), sw_batch_size=3, spatial_dim=2), amp=False)(volume, network)
        assert out.shape == (1, 4, 32, 32, 5)
        for z in range(5):
            assert torch.allclose(out[..., z], network(volume[..., z]), atol=1e-5)
        image = torch.randn(1, 3, 48, 40)
        windows = FastInferer(SlidingWindowInferer((32, 32), sw_batch_size=2), amp=False)(image, network)
    assert windows.shape == (1, 4, 48, 40)


def test_where_bf16_is_fast(monkeypatch):
    assert has_fast_bf16("cpu") in (True, False)
    assert not has_fast_bf16("meta")
    monkeypatch.setattr(medpos.inference, "_cpu_has_bf16_units", lambda: False)
    assert not has_fast_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not has_fast_bf16("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert has_fast_bf16("cuda:1")


def test_fast_path_gives_the_same_labels_of_a_trained_network(trained, prepared):
    """On more than 99.5 % of the pixels."""
    config = parser("jsrt_small_pe", dataset_dir=str(prepared["jsrt"]), image_size=64)
    network = config.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    images = torch.stack([item["image"] for item in config.get_parsed_content("dataset")])
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(medpos.inference, "has_fast_bf16", lambda _: True)
        fast, exact = (FastInferer(SimpleInferer(), amp)(images, network).argmax(1) for amp in (True, False))
    assert exact.unique().numel() > 1
    assert (fast == exact).float().mean() > 0.995
