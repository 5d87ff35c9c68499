"""Compare the test Dice of a bundle that was trained and tested on the fast path with float32 (``--amp False``).

python -m benchmarks.fast_path_accuracy --dataset_dir FOLDER [--image_size 128] [--max_epochs 20]
"""

import argparse
from statistics import fmean
from typing import Any

import torch

from benchmarks.bundles import bundle, prepared
from medpos.core.device import has_fast_bf16

ALLOWED = 0.01


def test_dice(name: str, **settings: Any) -> float:
    """Return the mean foreground Dice on the test split of the best model of one training."""
    parser = bundle(name, **settings)
    parser.get_parsed_content("run")
    return float(parser.get_parsed_content("evaluator").state.metrics["mean_dice"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="acdc_small_pe")
    parser.add_argument("--dataset_dir", help="prepared folder; phantoms by default")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--max_epochs", type=int, default=20)
    parser.add_argument("--train_cases", type=int, help="subjects; all by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    if not has_fast_bf16(arguments.device):
        parser.error(f"{arguments.device} has no fast bf16, so both paths are the same here")
    settings = {k: vars(arguments)[k] for k in ("image_size", "max_epochs", "train_cases", "device")}
    print("| seed | fast path | float32 | difference |\n|---|---|---|---|", flush=True)
    differences = []
    with prepared(arguments.bundle, arguments.dataset_dir, cases=20) as folders:
        for seed in arguments.seeds:
            fast, exact = (
                test_dice(arguments.bundle, **folders, **settings, seed=seed, amp=amp, run_name=f"{seed}_amp_{amp}")
                for amp in (True, False)
            )
            differences.append(fast - exact)
            print(f"| {seed} | {fast:.4f} | {exact:.4f} | {fast - exact:+.4f} |", flush=True)
    mean = fmean(differences)
    verdict = "met" if abs(mean) <= ALLOWED else "MISSED"
    print(f"| mean | | | {mean:+.4f}, allowed {ALLOWED} either way: {verdict} |")


if __name__ == "__main__":
    main()
