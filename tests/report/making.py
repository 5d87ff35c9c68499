"""Make runs and studies for the tests of the report."""

import json

import numpy as np

from medpos.core.files import write_csv
from medpos.core.labels import ACDC, JSRT
from medpos.metrics import case_metrics
from medpos.runs.cases import CaseView, save_cases
from medpos.runs.subgroups import COLUMNS as SUBGROUP_COLUMNS
from medpos.runs.subgroups import measure_subgroups
from medpos.runs.tables import COLUMNS, summarize_conditions

HOSTILE = '</script><script>console.error("ran")</script><img src=x onerror=alert(1)>'
CLEAN = ("none", 0, "0")
ROBUST = [CLEAN, *(("gaussian_noise", s, "0") for s in range(1, 6))]
SHIFTED = [CLEAN, *(("none", 0, shift) for shift in ("x+8", "x-8", "y+8", "y-8"))]


def discs(shape, labels, dx):
    """Draw each organ as a disc (in a volume a rod), moved dx pixels to the right."""
    x, y = np.indices(shape)[:2]
    out = np.zeros(shape, np.uint8)
    for label in labels[1:]:
        out[(x - 10 * label.index - dx) ** 2 + (y - 20) ** 2 < (2 + label.index) ** 2] = label.index
    return out


def views(labels, shape, phases, number=6):
    """Make cases that get worse with their number; the first one is perfect."""
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    truth = discs(shape, labels, 0)
    entropy = image if len(shape) == 2 else None  # runs of earlier versions have none
    return [
        CaseView(
            f"s{n:02d}{phase and '_'}{phase}",
            f"s{n:02d}",
            phase,
            (2.0, 1.5, 10.0)[: len(shape)],
            image,
            truth,
            p,
            entropy,
        )
        for n in range(number)
        for p in [discs(shape, labels, n)]
        for phase in phases
    ]


def rows(cases, labels, conditions):
    return [
        {
            "case": c.case,
            "subject": c.subject,
            "split": "test",
            **dict(zip(("degradation", "severity", "shift"), condition, strict=True)),
            **measured,
            "dice": measured["dice"] * (1 - 0.1 * condition[1]),
        }
        for condition in conditions
        for c in cases
        for measured in case_metrics(c.prediction, c.truth, labels, c.spacing_mm)
    ]


def evaluation(folder, cases, labels, data, bundle, phantom, conditions=(CLEAN,)):
    found = rows(cases, labels, conditions)
    write_csv(folder / "metrics.csv", COLUMNS, found)
    about = {
        "bundle": bundle,
        "data": data,
        "phantom": phantom,
        "split": "test",
        "conditions": summarize_conditions(found),
    }
    (folder / "summary.json").write_text(json.dumps(about))
    (folder / "environment.json").write_text(
        json.dumps({"command": ["__main__.py", "run", "--config_file", "b.json"], "seed": 0, "commit": "abc123"})
    )


def make_run(folder, data="acdc", phantom=False, with_cases=True, bundle=None, keep=slice(None), whole=True, number=6):
    """Make a run folder as a bundle does; without later evaluations unless ``whole``."""
    labels, shape, phases = (ACDC, (48, 40, 8), ("ED", "ES")) if data == "acdc" else (JSRT, (48, 40), ("",))
    cases = views(labels, shape, phases, number)[keep]
    bundle = bundle or f"{data}_small"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for part, conditions in (("", (CLEAN,)), ("robustness", ROBUST), ("shift", SHIFTED))[: 3 if whole else 1]:
        evaluation(folder / part, cases, labels, data, bundle, phantom, conditions)
    if with_cases:
        save_cases(cases, folder / "cases.npz")
    entries = [{"case": case.case, "phase": case.phase} for case in cases]
    if subgroups := measure_subgroups(rows(cases, labels, (CLEAN,)), entries, cases, labels):
        write_csv(folder / "subgroups.csv", SUBGROUP_COLUMNS, subgroups)
    return folder


def make_study(folder, whole=True, **more):
    """Make a study folder of two runs with texts that try to run a script."""
    run = make_run(folder / "runs/a/0", bundle="a", whole=whole)
    make_run(folder / "runs/b/0", bundle="b", with_cases=False, whole=whole)
    (folder / "figures").mkdir()
    (folder / "figures/own.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    )
    content = {
        "name": "position",
        "title": f"Does position help? {HOSTILE}",
        "claim": HOSTILE,
        "verdict": "contradicted",
        "criteria": [
            {"data": "acdc", "text": "better", "verdict": "confirmed", "value": 0.25, "ci95": [0.1, 0.4], "n": 12}
        ],
        "phantom": False,
        "models": [
            {"data": "acdc", "model": HOSTILE, "seed": 3, "run": str(run.relative_to(folder))},
            {"data": "acdc", "model": "plain $x_1$", "seed": 3, "run": "runs/b/0"},
        ],
        "failed": [{"name": "third", "error": "out of memory"}],
        "published": [{"data": "acdc", "model": "U-Net", "metric": "Dice", "value": "about 0.9", "source": "a paper"}],
        "comparisons": [
            {
                "data": "acdc",
                "a": "one",
                "b": "two",
                "organ": "lv_cavity",
                "condition": "clean",
                "n": 12,
                "subjects": 6,
                "mean_difference": 0.125,
                "ci95": [0.1, 0.2],
                "p": 1e-5,
                "p_holm": 0.03,
            }
        ],
        "tables": [
            {"title": "Extra", "note": "n", "columns": ["k", "v"], "rows": [["a", 2], [HOSTILE, 10], ["c", None]]}
        ],
        "figures": [{"title": "Own figure", "alt": "a square", "name": "own"}],
        "command": "python -m medpos study position",
        **more,
    }
    (folder / "study.json").write_text(json.dumps(content))
    return folder
