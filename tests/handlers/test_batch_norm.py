"""Check reestimated statistics of batch normalization against sums over all training images."""

import pytest
import torch
from ignite.engine import Engine
from monai.inferers import SimpleInferer
from torch import nn

from medpos.handlers import ReestimateStatistics
from medpos.inferers import FastInferer
from medpos.networks import SegNet


def batches(sizes, channels=1):
    """Make images of brightness that changes from one to the next."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(sum(sizes), channels, 16, 20, generator=generator)
    images = images * torch.linspace(0.5, 3, sum(sizes))[:, None, None, None]
    images += torch.linspace(-1, 2, sum(sizes))[:, None, None, None]
    return [{"image": part, "label": None} for part in images.split(sizes)]


@pytest.fixture
def network():
    """Build SegNet with the benchmark's dropout, after a training step that has changed its statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SegNet(1, 3, dropout=0.5, width=1 / 16)
        made.train()(torch.randn(2, 1, 16, 20))
    return made


def first(network, loader):
    """Compute the inputs of the first batch normalization: [images, C, pixels] of each batch, in double precision."""
    conv = network.conv1.conv1_1.conv
    with torch.no_grad():
        return [conv(batch["image"]).flatten(2).double() for batch in loader]


@pytest.mark.parametrize("sizes", [[3, 3, 3], [4, 4, 1], [9]])
def test_statistics_are_those_of_all_training_images(network, sizes):
    loader = batches(sizes)
    network.conv1.conv1_1.norm.running_mean.fill_(float("nan"))  # as after a training that once diverged
    ReestimateStatistics(network, loader, "cpu", amp=False).estimate()
    norm, parts = network.conv1.conv1_1.norm, first(network, loader)
    everything = torch.cat(parts)
    torch.testing.assert_close(norm.running_mean.double(), everything.mean((0, 2)), rtol=1e-4, atol=1e-5)
    weighed = [part.transpose(0, 1).flatten(1).var(1) * len(part) / sum(sizes) for part in parts]
    torch.testing.assert_close(norm.running_var.double(), torch.stack(weighed).sum(0), rtol=1e-4, atol=1e-5)
    if len(sizes) == 1:
        torch.testing.assert_close(
            norm.running_var.double(), everything.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=0
        )


def test_deeper_layers_get_the_inputs_of_training(network):
    """Check a layer behind batch normalizations that use the batch's own statistics, without dropout."""
    loader, seen = batches([5]), []
    layer = network.conv4_D.conv4_3_D.norm
    watched = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    ReestimateStatistics(network, loader, "cpu", amp=False).estimate()
    watched.remove()
    assert not seen[0].requires_grad
    for dropout in network.modules():
        if isinstance(dropout, nn.Dropout):
            dropout.p = 0.0
    again = []
    layer.register_forward_hook(lambda _, inputs, __: again.append(inputs[0]))
    with torch.no_grad():
        network.train()(loader[0]["image"])
    torch.testing.assert_close(seen[0], again[0])
    torch.testing.assert_close(layer.running_mean, 0.9 * seen[0].mean((0, 2, 3)) + 0.1 * again[0].mean((0, 2, 3)))


def test_nothing_else_changes(network):
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    norms[0].momentum, norms[1].momentum = 0.3, None
    network.conv2.eval()
    modes = [module.training for module in network.modules()]
    weights = {name: value.clone() for name, value in network.named_parameters()}
    ReestimateStatistics(network, batches([4, 4]), "cpu").estimate()
    assert [module.training for module in network.modules()] == modes
    assert [norm.momentum for norm in norms[:3]] == [0.3, None, 0.1]
    assert all(torch.equal(value, weights[name]) and value.grad is None for name, value in network.named_parameters())
    before = [norm.running_mean.clone() for norm in norms]
    ReestimateStatistics(network, batches([4, 4]), "cpu").estimate()
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


def test_modes_are_restored_after_an_error(network):
    with pytest.raises(KeyError):
        ReestimateStatistics(network, [{}], "cpu").estimate()
    assert all(module.training for module in network.modules())
    assert network.conv1.conv1_1.norm.momentum == 0.1


def test_an_evaluator_reestimates_first_and_the_fast_path_follows(network):
    inferer, image = FastInferer(SimpleInferer(), amp=False), torch.randn(1, 1, 16, 20)

    def logits():
        with torch.no_grad():
            return inferer(image, network.eval())

    before = logits()
    engine = Engine(lambda *_: None)
    loader = batches([4, 4, 2])
    ReestimateStatistics(network, loader, "cpu", amp=False).attach(engine)
    engine.run([0])
    after = logits()
    assert not torch.allclose(before, after, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(after, network(image), rtol=0, atol=1e-4)


def test_a_network_without_batch_normalization_is_not_run():
    ReestimateStatistics(nn.Conv2d(1, 1, 1), None, "cpu").estimate()


def _worker(rank, folder, out):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(1))
    loader = batches([3, 2])[rank : rank + 1]
    ReestimateStatistics(network, loader, "cpu", amp=False).estimate()
    torch.save(network.state_dict(), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_several_processes_share_their_statistics(tmp_path):
    torch.multiprocessing.start_processes(_worker, (tmp_path, tmp_path), nprocs=2, start_method="fork")
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = nn.Sequential(nn.BatchNorm2d(1))
    ReestimateStatistics(alone, batches([3, 2]), "cpu", amp=False).estimate()
    for name in ("0.running_mean", "0.running_var"):
        torch.testing.assert_close(one[name], alone.state_dict()[name])
        assert torch.equal(one[name], other[name])
