"""Keep a page of many cases small."""

import json
import re

import nibabel
import numpy as np
import pytest
from making import evaluation
from scipy import ndimage

from medpos.core.labels import ACDC
from medpos.report import build
from medpos.report.pictures import BYTES
from medpos.runs.cases import CaseView, save_cases, to_gray

CASES = 100


def read_cases(folder):
    """Read the phantoms of a prepared folder; the prediction is moved, and the entropy high at outlines."""
    found = []
    about = json.loads((folder / "dataset.json").read_text())
    for entry in [entry for split in ("training", "validation", "test") for entry in about[split]]:
        image, truth = (np.squeeze(nibabel.load(folder / entry[key]).dataobj) for key in ("image", "label"))
        image, truth = image[56:184, 56:184], truth[56:184, 56:184].astype(np.uint8)
        edges = ndimage.gaussian_gradient_magnitude((truth > 0).astype(float), 1.5)
        maps = to_gray(image.astype(float)), truth, np.roll(truth, 2, 0), to_gray(edges)
        found.append((tuple(entry["spacing_mm"])[: truth.ndim], maps))
    return found


@pytest.mark.torture
def test_a_page_of_a_hundred_hearts_stays_below_three_megabytes(prepared, tmp_path):
    known = read_cases(prepared["acdc"])
    cases = []
    for n in range(CASES):
        spacing, maps = known[n % len(known)]
        maps = [np.roll(part, n // len(known), 0) for part in maps]
        cases.append(CaseView(f"c{n:03d}", f"c{n:03d}", "", spacing, *maps))
    run = tmp_path / "runs/one/first"
    run.mkdir(parents=True)
    evaluation(run, cases[:1], ACDC, "acdc", "one", True)  # the metrics of all would take a minute
    (run / "config.json").write_text("{}")
    save_cases(cases, run / "cases.npz")
    page = build([run], tmp_path / "out").read_text(encoding="utf-8")
    assert page.count('<li class="card"') == CASES
    assert page.count("data-entropy=") == CASES
    pictures = sum(map(len, re.findall(r'data-(?:image|labels|entropy)="([^"]*)"', page)))
    assert BYTES / 4 < pictures <= 1.1 * BYTES  # the size follows from a sample
    assert len(page) < 3_000_000
