"""Share out GPUs among the trainings of a study: which one each gets, and what its process sees of them."""

import json
import os

import pytest
import torch

from medpos.core.errors import InputError
from medpos.core.gpus import IMAGES_SHARE, find_gpus, images_gb, share_out
from medpos.study.engines import LocalEngine, start_process
from medpos.study.jobs import Job


@pytest.mark.parametrize(
    ("gpus", "part", "workers", "expected"),
    [
        (["0"], 1.0, 1, ["0"]),
        (["0", "1"], 0.5, 3, ["0", "1", "0"]),  # a second one only where each has one
        (["0"], 1 / 3, 3, ["0", "0", "0"]),  # thirds round to a sum above 1
        (["GPU-a", "MIG-b"], 0.4, 9, ["GPU-a", "MIG-b", "GPU-a", "MIG-b"]),
        (["0", "1"], 0.75, 4, ["0", "1"]),
    ],
)
def test_every_gpu_gets_one_training_before_any_gets_a_second(gpus, part, workers, expected, caplog):
    assert share_out(gpus, part, workers) == expected
    assert ("trainings at a time instead of" in caplog.text) == (len(expected) < workers)


@pytest.mark.parametrize("part", [0.0, 1.5, -1.0, float("nan")])
def test_a_part_of_a_gpu_is_above_0_and_at_most_1(part):
    with pytest.raises(InputError, match="--gpus-per-training: expected a number above 0 and at most 1"):
        LocalEngine(2, 1, ["0"], part)


def test_as_many_gpus_are_found_as_pytorch_finds():
    assert len(set(find_gpus())) == torch.cuda.device_count()


def test_images_of_all_trainings_leave_memory_for_the_networks():
    assert 4 * images_gb(0.25, 80 * 10**9) == pytest.approx(80 * IMAGES_SHARE)


def test_each_process_sees_the_gpu_of_its_slot_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    bundle = tmp_path / "bundle.json"
    expression = "$print('process', os.getpid(), 'sees', os.environ['CUDA_VISIBLE_DEVICES'])"
    bundle.write_text(json.dumps({"imports": ["$import os"], "run": [expression]}))
    jobs = [
        Job(f"model {n}", str(bundle), {}, str(tmp_path / f"run{n}"), (), True, 1, str(tmp_path / f"{n}.log"))
        for n in range(3)
    ]
    outcomes = list(LocalEngine(2, 1, ["6", "7"], 1.0).run(jobs, lambda job: None))
    assert [outcome.error for outcome in outcomes] == [""] * 3
    logs = [(tmp_path / f"{n}.log").read_text() for n in range(3)]
    seen = {tuple(line.split()[1::2]) for log in logs for line in log.splitlines() if line.startswith("process")}
    assert sorted(gpu for _, gpu in seen) == ["6", "7"]  # one process for each GPU, and none sees both
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6,7"


@pytest.mark.gpu
def test_a_process_finds_one_gpu_where_it_sees_one():
    with start_process(find_gpus()[-1]) as pool:
        assert pool.submit(torch.cuda.device_count).result() == 1
