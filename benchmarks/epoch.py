"""Compare an epoch of a bundle's trainer with a bare loop over tensors in memory.

The trainer loads, transforms, logs, and writes its checkpoint; only the validation, which the loop lacks, is left out.

    python -m benchmarks.epoch [--bundle jsrt_small_pe] [--dataset_dir FOLDER]
"""

from functools import partial

import torch
from monai.bundle import ConfigParser

from benchmarks.bundles import bundle, prepared
from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.device import has_fast_bf16, memory_format


def bare_loop(parser: ConfigParser) -> None:
    """Train an epoch by a hand-written loop: the same network, loss, optimizer, batches and fast path."""
    network, loss_function, optimizer, batches = (
        parser.get_parsed_content(key) for key in ("network", "train::loss", "train::optimizer", "batches")
    )
    network.train()
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):
            logits = network(batch["image"].contiguous(memory_format=memory_format("cpu")))
        loss_function(logits.float(), batch["label"]).backward()
        optimizer.step()


def main() -> None:
    parser = options(__doc__, repeats=5)
    parser.add_argument("--bundle", default="jsrt_small_pe")
    parser.add_argument("--dataset_dir")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=4)
    arguments = parser.parse_args()
    with prepared(arguments.bundle, arguments.dataset_dir, cases=40) as folders:
        settings = {k: vars(arguments)[k] for k in ("image_size", "batch_size")} | folders
        settings |= {"max_epochs": 1, "device": "cpu", "val_interval": 2}  # the one epoch ends without validation
        through = bundle(arguments.bundle, **settings)
        bare = bundle(arguments.bundle, **settings, batches="$list(@train::dataloader)")
        begin(arguments)
        for step in through.get("run")[:2]:
            through.update({"step": step})
            through.get_parsed_content("step")
        trainer = through.get_parsed_content("train::trainer")
        whole, loop = (partial(timed, task, arguments.clock) for task in (trainer.run, partial(bare_loop, bare)))
        by_turns(whole, loop, 1)  # the first epochs build and warm up
        ratios = by_turns(whole, loop, arguments.repeats)
        row(f"{arguments.bundle}, epoch of {len(trainer.data_loader)} steps: trainer / bare loop", ratios, at_most=1.03)


if __name__ == "__main__":
    main()
