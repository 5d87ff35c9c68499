import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from running import parser

from medpos.core import device
from medpos.core.device import has_fast_bf16, memory_format
from medpos.inferers import FastInferer
from medpos.inferers import fast as fast_path
from medpos.networks import SmallCNN
from medpos.networks.layers.folding import fold_batch_norms


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
        plain = fold_batch_norms(network)(image.contiguous(memory_format=memory_format(image.device)))
    assert torch.equal(out, plain)


@pytest.mark.parametrize("fast", [True, False])
def test_fast_path_is_near_and_float32(fast, network, monkeypatch):
    for module in (device, fast_path):
        monkeypatch.setattr(module, "has_fast_bf16", lambda _: fast)
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
    monkeypatch.setattr(device, "_cpu_has_bf16_units", lambda: False)
    assert not has_fast_bf16(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert not has_fast_bf16("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert has_fast_bf16("cuda:1")


def test_fast_path_gives_the_same_labels_of_a_trained_network(trained, prepared):
    """Expect the same label at more than 99.5 % of the pixels."""
    config = parser("jsrt_small_pe", dataset_dir=str(prepared["jsrt"]), image_size=64)
    network = config.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    images = torch.stack([item["image"] for item in config.get_parsed_content("dataset")])
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        for module in (device, fast_path):
            patch.setattr(module, "has_fast_bf16", lambda _: True)
        fast, exact = (FastInferer(SimpleInferer(), amp)(images, network).argmax(1) for amp in (True, False))
    assert exact.unique().numel() > 1
    assert (fast == exact).float().mean() > 0.995


@pytest.mark.parametrize("fast", [True, False])
def test_one_window_gives_what_the_windows_give(fast, network, monkeypatch):
    """Expect bit-identical results in the same batches; MONAI handles anything but one window of weight 1."""
    for module in (device, fast_path):
        monkeypatch.setattr(module, "has_fast_bf16", lambda _: fast)
    image, volume = torch.randn(3, 3, 32, 24), torch.randn(2, 3, 32, 24, 5)
    cases = [
        (SlidingWindowInferer((32, 24), sw_batch_size=2), image),
        (SliceInferer(2, (32, 24), sw_batch_size=3), volume),
        (SliceInferer(0, (24, 32), sw_batch_size=4), volume.movedim(4, 2).transpose(3, 4)),
        (SliceInferer(1, (32, 24), sw_batch_size=4), volume.movedim(4, 3)),
    ]
    for inferer, inputs in cases:
        sizes = []

        def spy(x, sizes=sizes):
            sizes.append(tuple(x.shape))
            return network(x)

        with torch.no_grad():
            short = FastInferer(inferer)(inputs, spy)
            direct = list(sizes)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(fast_path, "_is_one_window", lambda *_: False)
                windows = FastInferer(inferer)(inputs, spy)
        assert fast_path._is_one_window(inferer, inputs)
        assert sizes == direct * 2
        assert torch.equal(short, windows)
        assert short.dtype == windows.dtype == torch.float32
        assert short.stride(1) == 1


def test_several_windows_and_special_ones_are_left_to_monai():
    image, volume = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32, 4)
    for inferer, inputs in (
        (SlidingWindowInferer((32, 16)), image),
        (SlidingWindowInferer((48, 48)), image),
        (SlidingWindowInferer((32, 32), mode="gaussian"), image),
        (SlidingWindowInferer((32, 32), device="cpu"), image),
        (SliceInferer(2, (16, 32)), volume),
        (SliceInferer(2, (32, 32)), image),
        (SimpleInferer(), image),
    ):
        assert not fast_path._is_one_window(inferer, inputs)


def test_without_a_compiler_the_network_runs_as_it_is(network, monkeypatch, caplog):
    monkeypatch.setattr(fast_path, "find_compile_fault", lambda _: "no C++ compiler")
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        plain, inferer = FastInferer(SimpleInferer())(image, network), FastInferer(SimpleInferer(), compile=True)
        assert torch.equal(inferer(image, network), plain)
        inferer(image, network)
    assert caplog.text.count("torch.compile doesn't work on cpu (no C++ compiler): the network runs as it is") == 1


def test_a_network_is_compiled_once_while_its_weights_change(monkeypatch):
    """Train and evaluate in turns; the compiled folded network gets the new weights."""
    compiled = []

    def trace(network):
        compiled.append(network)
        return lambda x: network(x)

    monkeypatch.setattr(fast_path, "find_compile_fault", lambda _: "")
    monkeypatch.setattr(torch, "compile", trace)
    network, image = SmallCNN(in_channels=3), torch.randn(2, 3, 16, 16)
    training, testing = (FastInferer(SimpleInferer(), amp=False, compile=True) for _ in range(2))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(3):
        training(image, network.train()).square().mean().backward()
        optimizer.step()
        network.eval()
        with torch.no_grad():
            found, wanted = testing(image, network), FastInferer(SimpleInferer(), amp=False)(image, network)
        assert torch.equal(found, wanted)
    assert len(compiled) == 2
    assert compiled[0] is network
    assert compiled[1] is not network


@pytest.mark.slow
@pytest.mark.torture
def test_a_compiled_network_computes_the_same(network):
    if fault := device.find_compile_fault("cpu"):
        pytest.skip(f"torch.compile doesn't work here: {fault}")
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        found, wanted = (FastInferer(SimpleInferer(), amp=False, compile=c)(image, network) for c in (True, False))
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.gpu
def test_a_compiled_network_trains_on_a_gpu():
    network, image = SmallCNN(in_channels=3).cuda(), torch.randn(4, 3, 64, 64, device="cuda")
    inferer = FastInferer(SimpleInferer(), compile=True)
    inferer(image, network).square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
