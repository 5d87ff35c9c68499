"""Writes docs/networks.md: what every network of ``network_table.py`` sees."""

import functools
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/networks")]

from network_table import NETWORKS  # noqa: E402

from medpos.core.files import write_text  # noqa: E402
from medpos.explain.fields import fields, table  # noqa: E402

COMMAND = "python tests/explain/network_fields.py"
PAGE = ROOT / "docs/networks.md"
NARROWEST = 1 / 64  # of the channels: what a network sees doesn't rest on them


@functools.cache
def fields_of(name):
    """Of one network; a strip of an image is enough."""
    network = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = network.build(NARROWEST).eval()
        # All channels, or some layer might have as many as there are classes; a mean mask needs its labels.
        with torch.device("meta" if network.parameters else "cpu"):
            whole = network.build(1).eval()
    return fields(whole, network.native[0], min(network.sizes[0]), narrow)


def page():
    """The text of the page."""
    return table({name: functools.partial(fields_of, name) for name in NETWORKS}, COMMAND)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_text(PAGE, page())
