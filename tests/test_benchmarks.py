"""Run benchmarks small, to see that they run; their numbers mean nothing here."""

import re

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
