"""The README's table of bundles: every one, once, with the parameters that its network has."""

import re

import pytest
import torch
from running import ALL, ROOT, kept_state, parser

ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([\d,]+) \| ([^|]+) \| ([^|]+) \|$", re.M)
ROWS = {row[0]: row[1:] for row in ROW.findall((ROOT / "README.md").read_text())}


def test_every_bundle_has_one_row():
    names = [row[0] for row in ROW.findall((ROOT / "README.md").read_text())]
    assert sorted(names) == ALL


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_those_of_the_network(name):
    with kept_state(), torch.device("meta"):
        # ImageNet's classes are counted in the data.
        network = parser(name, **({"classes": 1000} if "imagenet" in name else {})).get_parsed_content("network_def")
    assert f"{sum(p.numel() for p in network.parameters()):,}" == ROWS[name][2]
