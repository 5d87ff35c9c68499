"""Run benchmarks small, to see that they run; their numbers mean nothing here."""

import re

import pytest

from benchmarks import gpu


def test_the_gpu_benchmark_runs_on_a_cpu(prepared, capsys):
    gpu.main(
        ["--device", "cpu", "--dataset_dir", str(prepared["jsrt"]), "--rows", "loading", "epoch", "--repeats", "1"]
    )
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert table[0] == "| what | ratio | seconds | needed | |"
    assert [re.sub(r"[:,].*", "", line) for line in table[1:]] == ["| loading 5 images", *["| epoch"] * 3]
    for line in table[1:]:
        assert re.search(r"\| \d+\.\d\d \| \d+\.\d{3} / \d+\.\d{3} \|", line), line


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("compile", ["epoch: stock MONAI / ours with --compile True"]),
        ("robustness", ["2 epochs, command to table", "robustness of N images x 16 conditions, beyond start-up"]),
    ],
)
def test_longer_rows_run_on_a_cpu(row, expected, prepared, capsys):
    gpu.main(["--device", "cpu", "--dataset_dir", str(prepared["jsrt"]), "--rows", row, "--repeats", "1"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    names = [re.sub(r" \(first.*", "", line.split(" | ")[0][2:]) for line in table]
    assert [re.sub(r"\d+ images", "N images", name) for name in names] == expected
    for line in table:
        assert float(re.findall(r"\| (\d+\.\d+)", line)[0]) > 0, line
