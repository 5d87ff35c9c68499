"""Load batches gathered by index, and compare with items that are transformed and collated one by one."""

import itertools
import logging
import threading

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd
from running import parser

from medpos.core.errors import InputError
from medpos.data import conditions
from medpos.data.cached import CachedDataset, is_random
from medpos.data.conditions import CLEAN, Condition
from medpos.data.loader import BatchLoader, DeviceMemory, Gatherer, load_ahead, split_steps

# Where the images are kept, and the memory of host and device that leads there.
PLACES = {"device": (8.0, True), "host": (8.0, False), "file": (1e-9, False)}


def build(name, part, prepared, **overrides):
    """Build a data set of a bundle, with two cases at most of the hearts."""
    config = parser(name, dataset_dir=str(prepared[name[:4]]), image_size=32, **overrides)
    dataset = config.get_parsed_content(f"{part}dataset")
    dataset.data = dataset.data[:2] if name.startswith("acdc") else dataset.data
    return dataset


def assert_equal(batches, wanted):
    """Compare batches with all their entries."""
    batches, wanted = list(batches), list(wanted)
    assert len(batches) == len(wanted) > 0
    for one, other in zip(batches, wanted, strict=True):
        assert one.keys() == other.keys()
        for key, value in other.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(one[key], value), key
                assert one[key].dtype == value.dtype
            else:
                assert one[key] == value, key


@pytest.fixture(params=PLACES)
def place(request, monkeypatch):
    """Let images be kept in each of the places, whatever the device."""
    memory_gb, is_on_device = PLACES[request.param]
    monkeypatch.setattr(DeviceMemory, "take", lambda self, size: is_on_device)
    monkeypatch.setattr("medpos.data.cached._BATCH", 1)
    return request.param, memory_gb


@pytest.mark.parametrize("part", ["train::", "validate::", ""])
@pytest.mark.parametrize("name", ["jsrt_small_pe", "acdc_small_pe"])
def test_batches_equal_collated_items(name, part, prepared, place):
    where, memory_gb = place
    size = 4 if part == "train::" or name[:4] == "jsrt" else 1
    loader = BatchLoader(build(name, part, prepared, memory_gb=memory_gb), batch_size=size)
    wanted = list(DataLoader(build(name, part, prepared), batch_size=size))
    for _ in range(2):  # the second epoch as the first
        assert_equal(loader, wanted)
    is_one = len(loader.dataset.data) == 1  # the first case is always in memory
    assert loader._gatherer.place == ("host" if where == "file" and is_one else where)
    assert loader._gatherer.is_whole == (size > 1)


@pytest.mark.parametrize("name", ["jsrt_small_pe", "acdc_small_pe"])
def test_batches_of_several_conditions(name, prepared, place):
    many = [CLEAN, *conditions.degradations()[3::4], Condition(shift_x=3), *conditions.probes()[1:5]]
    dataset, other = (build(name, "", prepared, memory_gb=place[1]).under(many) for _ in range(2))
    size = 3 if name[:4] == "jsrt" else 1  # a batch has images under two conditions
    assert_equal(BatchLoader(dataset, batch_size=size), DataLoader(other, batch_size=size))


@pytest.mark.parametrize(
    ("name", "part"),
    [pytest.param("retina_unet", "train::", marks=pytest.mark.torture), ("nuclei_unet", "validate::")],
    ids=["random chain", "instances"],
)
def test_other_bundles_have_the_same_batches(name, part, secondary):
    folder = str(secondary[name.split("_")[0]])
    one, other = (parser(name, dataset_dir=folder).get_parsed_content(f"{part}dataset") for _ in range(2))
    loader, plain = BatchLoader(one, batch_size=2), DataLoader(other, batch_size=2)
    assert_equal(itertools.islice(loader, 2), itertools.islice(plain, 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_processes_gives_the_same_batches(workers, prepared):
    dataset = build("jsrt_small_pe", "train::", prepared)
    wanted = list(DataLoader(build("jsrt_small_pe", "train::", prepared), batch_size=2))
    assert_equal(BatchLoader(dataset, batch_size=2, num_workers=workers), wanted)


def test_random_numbers_of_the_network_stay(prepared):
    """Draw from PyTorch's generator after the loaders, as dropout does."""
    drawn = []
    for kind in (BatchLoader, DataLoader):
        loader = kind(build("jsrt_small_pe", "train::", prepared), batch_size=2)
        torch.manual_seed(0)
        drawn += [torch.rand(1) for _ in loader]
    assert torch.equal(torch.cat(drawn[: len(drawn) // 2]), torch.cat(drawn[len(drawn) // 2 :]))


def test_weights_are_the_same_wherever_the_images_are(prepared, place):
    """Train two epochs by hand, on the batches of each place and on collated items."""
    state = []
    for kind, memory_gb in ((BatchLoader, place[1]), (DataLoader, 8.0)):
        config = parser("jsrt_small_pe", dataset_dir=str(prepared["jsrt"]), image_size=32, memory_gb=memory_gb)
        loader = kind(config.get_parsed_content("train::dataset"), batch_size=2)
        torch.manual_seed(0)
        network = config.get_parsed_content("network_def")
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(2):
            for batch in loader:
                torch.nn.functional.cross_entropy(network(batch["image"]), batch["label"]).backward()
                optimizer.step()
        state.append(network.state_dict())
    assert all(torch.equal(state[0][key], state[1][key]) for key in state[1])


def test_deterministic_steps_run_once_for_each_image(prepared):
    config = parser("jsrt_small_pe", dataset_dir=str(prepared["jsrt"]), image_size=32)
    chain = config.get_parsed_content("train::preprocessing").flatten().transforms
    calls = []

    class Counted(type(chain[0])):
        def __call__(self, data):
            calls.append(data["case"])
            return super().__call__(data)

    normalize = Counted("image", subtrahend=0.4, divisor=0.2)
    dataset = build("jsrt_small_pe", "train::", prepared)
    dataset.transform = Compose([normalize, *chain[1:]])
    loader = BatchLoader(dataset, batch_size=2)
    gatherer = Gatherer(dataset, DeviceMemory("cpu"))
    assert [type(step).__name__ for step in gatherer.fixed] == ["Counted"]
    calls.clear()
    for _ in range(3):
        list(loader)
    assert sorted(calls[1:]) == sorted(case["case"] for case in dataset.data)  # the first one is a trial


def test_steps_that_depend_on_the_condition_or_add_channels_run_for_each_batch(prepared):
    dataset = build("jsrt_small_pe", "", prepared)
    fixed, steps = split_steps(dataset.transform, dataset.decoded(0))
    assert (fixed, type(steps[0]).__name__) == ([], "Degraded")
    dataset = build("acdc_small_pe", "train::", prepared)
    fixed, steps = split_steps(dataset.transform, dataset.decoded(0))
    assert [type(step).__name__ for step in fixed] == ["StandardizePerSlice"]
    assert type(steps[0]).__name__ == "PositionChannels"


def test_images_that_do_not_fit_stay_on_the_host_and_the_log_says_so(prepared, caplog):
    caplog.set_level(logging.INFO)
    dataset = build("jsrt_small_pe", "train::", prepared)
    assert Gatherer(dataset, DeviceMemory("meta", 0.0)).place == "host"
    assert "exceed the memory for images on meta: they stay on the host and are copied batch by batch" in caplog.text
    gatherer = Gatherer(dataset, DeviceMemory("meta", 1.0))
    assert (gatherer.place, gatherer.uses_host) == ("device", False)
    assert "training images are on meta (0 MB)" in caplog.text
    assert gatherer([0, 1])["image"].device.type == "meta"


def test_a_device_that_is_full_is_not_used(prepared, monkeypatch, caplog):
    """Let another process take the memory between the question and the answer."""

    def fail(item, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("medpos.data.loader._moved", fail)
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    gatherer = Gatherer(build("jsrt_small_pe", "train::", prepared), DeviceMemory("meta", 1.0))
    assert (gatherer.place, len(gatherer._rows)) == ("host", 5)
    assert "exceed the memory for images on meta" in caplog.text


def test_data_sets_share_the_memory_of_a_device():
    memory = DeviceMemory("meta", 1.0)
    assert memory.take(600_000_000)
    assert not memory.take(600_000_000)
    assert memory.take(400_000_000)
    assert not DeviceMemory("cpu", 1.0).take(1)
    with pytest.raises(InputError, match="device_memory_gb: expected a number of at least 0, got -1"):
        DeviceMemory("cpu", -1)


def test_reasons_for_single_items(prepared):
    dataset = build("jsrt_small_pe", "train::", prepared)
    assert BatchLoader(dataset)._find_obstacle() == ""
    assert "2 processes" in BatchLoader(dataset, num_workers=2)._find_obstacle()
    assert "list serves" in BatchLoader([1, 2])._find_obstacle()
    assert "own" in BatchLoader(dataset, collate_fn=list)._find_obstacle()
    data = CachedDataset(dataset.data, dataset.decode, Compose([RandFlipd("image")]))
    assert "random" in BatchLoader(data)._find_obstacle()
    assert is_random(Compose([Compose([RandFlipd("image")])]))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_load_ahead_keeps_the_order(count):
    assert list(load_ahead(iter(range(1, count + 1)))) == list(range(1, count + 1))


def test_load_ahead_works_before_it_is_asked_and_raises_errors_in_place():
    reached = threading.Event()

    def batches():
        yield 1
        yield 2
        reached.set()
        raise InputError("a file can't be read")

    loaded = load_ahead(batches())
    assert next(loaded) == 1
    assert reached.wait(10)
    assert next(loaded) == 2
    with pytest.raises(InputError, match="can't be read"):
        next(loaded)


@pytest.mark.gpu
@pytest.mark.parametrize("limit_gb", [None, 0.0])
@pytest.mark.parametrize("name", ["jsrt_small_pe", "acdc_small_pe"])
def test_batches_on_a_gpu(name, limit_gb, prepared):
    dataset = build(name, "train::", prepared)
    loader = BatchLoader(dataset, DeviceMemory("cuda", limit_gb), batch_size=2)
    wanted = list(DataLoader(build(name, "train::", prepared), batch_size=2))
    batches = list(loader)
    assert all(batch["image"].is_cuda and batch["label"].is_cuda for batch in batches)
    assert loader._gatherer.place == ("host" if limit_gb == 0 else "device")
    assert_equal([{k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in b.items()} for b in batches], wanted)


@pytest.mark.gpu
def test_degraded_images_are_the_same_on_a_gpu_but_for_the_rounding_of_a_quotient(prepared):
    """The host degrades them; the GPU standardizes them, and multiplies by the reciprocal where a CPU divides."""
    dataset, other = (build("jsrt_small_pe", "", prepared).under(conditions.degradations()) for _ in range(2))
    batches = BatchLoader(dataset, DeviceMemory("cuda"), batch_size=2)
    for one, wanted in zip(batches, DataLoader(other, batch_size=2), strict=True):
        torch.testing.assert_close(one["image"].cpu(), wanted["image"], rtol=1e-6, atol=1e-6)
        assert torch.equal(one["label"].cpu(), wanted["label"])
