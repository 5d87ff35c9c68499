"""Compare a bundle's ``robustness``, from reading files to tables, with the forward passes alone on the same images.

    python -m benchmarks.robustness [--bundle jsrt_pe] [--dataset_dir FOLDER] [--checkpoint MODEL.pt]

Without a checkpoint the bundle is trained for some epochs at 96 px: an untrained network scatters its organs over the
image, and then the distances cost more than they ever do.
"""

from functools import partial
from typing import Any

import torch

from benchmarks.bundles import bundle, prepared
from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.device import has_fast_bf16, memory_format
from medpos.data.conditions import degradations

IMAGES, WINDOWS = 4, 8  # X-rays, and slices of a volume, that go through the network at once, as in the bundles


def trained(name: str, settings: dict[str, Any]) -> str:
    """Train the bundle briefly and return the path of its weights."""
    parser = bundle(name, **settings | {"image_size": 96, "max_epochs": 5, "batch_size": 5, "run_name": "short"})
    parser.get_parsed_content("run")
    return str(parser.get_parsed_content("run_folder").model)


def forward(network: torch.nn.Module, batches: list[torch.Tensor]) -> None:
    """Run only the network on the fast path, on prepared windows."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16("cpu")):
        for batch in batches:
            network(batch.contiguous(memory_format=memory_format("cpu")))


def ready_windows(dataset: Any) -> list[torch.Tensor]:
    """Return all images under all conditions in batches [n, C, H, W] of the bundle's number of X-rays or slices."""
    images = [dataset[n]["image"] for n in range(len(dataset))]
    if images[0].ndim == 3:
        return [torch.stack(images[start : start + IMAGES]) for start in range(0, len(images), IMAGES)]
    return [window for image in images for window in image.movedim(-1, 0).split(WINDOWS)]


def main() -> None:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--bundle", default="jsrt_pe")
    parser.add_argument("--dataset_dir")
    parser.add_argument("--checkpoint")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--cases", type=int, default=4, help="to take, those of the test split first")
    arguments = parser.parse_args()
    with prepared(arguments.bundle, arguments.dataset_dir, cases=24) as folders:
        folders |= {"device": "cpu"}
        checkpoint = arguments.checkpoint or trained(arguments.bundle, folders)
        settings = folders | {
            "image_size": arguments.image_size,
            "checkpoint": checkpoint,
            "allow_training_cases": True,
        }
        every = " + ".join(f"@source.cases('{split}')" for split in ("test", "validation", "training"))
        settings |= {"dataset::data": f"$({every})[:{arguments.cases}]"}
        pure = bundle(arguments.bundle, **settings)
        dataset = pure.get_parsed_content("dataset").under(degradations())
        network, batches = pure.get_parsed_content("network").eval(), ready_windows(dataset)
        runs = iter(range(1000))

        def whole() -> None:
            bundle(arguments.bundle, **settings, run_name=f"run{next(runs)}").get_parsed_content("robustness")

        begin(arguments)
        tasks = (whole, partial(forward, network, batches))
        ratios = by_turns(*(partial(timed, task, arguments.clock) for task in tasks), arguments.repeats)
        what = f"{arguments.bundle}, {len(dataset)} cases x conditions: robustness / forward"
        row(what, ratios, at_most=1.1)


if __name__ == "__main__":
    main()
