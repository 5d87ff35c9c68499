"""Reproduce the paper's finding on phantoms: where the image alone is ambiguous, position decides.

The phantoms were designed to show the difference, so this tests the phantoms and says nothing about patients.
"""

import json

import pytest
import torch
from running import run_here

EPOCHS = {"jsrt": 12, "acdc": 6}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsrt", pytest.param("acdc", marks=pytest.mark.torture)])
def test_small_cnn_with_position_beats_the_one_without(kind, tmp_path):
    dice = {}
    torch.set_num_threads(2)
    try:
        for name in (f"{kind}_small", f"{kind}_small_pe"):
            options = {"bundle_root": str(tmp_path), "runs_dir": str(tmp_path / "runs"), "max_epochs": EPOCHS[kind]}
            run = run_here(name, image_size=128, **options)
            [condition] = json.loads((run / "summary.json").read_text())["conditions"]
            dice[name] = condition["mean_foreground_dice"]["mean"]
    finally:
        torch.set_num_threads(1)
    # Gaps of 0.46 to 0.60 were seen, with bf16 and float32 under several instruction sets.
    assert dice[f"{kind}_small_pe"] >= dice[f"{kind}_small"] + 0.15, dice
