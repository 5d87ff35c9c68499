"""Write docs/networks.md: the receptive fields of every network of ``network_table.py``."""

import functools
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/networks")]

from network_table import NETWORKS  # noqa: E402

from medpos.core.files import write_text  # noqa: E402
from medpos.explain.field_table import find_network_fields, render_table  # noqa: E402

COMMAND = "python tests/explain/network_fields.py"
PAGE = ROOT / "docs/networks.md"
# With circular padding a row at the border sees both ends of the image, which no interval describes.
NAMES = [name for name in NETWORKS if "circular" not in name]
NARROWEST = 1 / 64  # share of the channels; receptive fields don't depend on them


@functools.cache
def fields_of(name):
    """Return the receptive fields of one network; a strip of an image is enough."""
    network = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = network.build(NARROWEST).eval()
        # All channels, or some layer might have as many as there are classes; a mean mask needs its labels.
        with torch.device("meta" if network.parameters else "cpu"):
            whole = network.build(1).eval()
    return find_network_fields(whole, network.native[0], min(network.sizes[0]), narrow)


def page():
    """Return the text of the page."""
    return render_table({name: functools.partial(fields_of, name) for name in NAMES}, COMMAND)


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_text(PAGE, page())
