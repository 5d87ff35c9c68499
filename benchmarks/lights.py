"""Measure what the lights and the predicted Dice of ``medpos predict`` cost: a run with each against one without it.

python -m benchmarks.lights --run RUN --images FOLDER

RUN is a run after ``python -m medpos calibrate``. Each case is read, segmented, measured and
written, as by ``predict``.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.memory import keep_freed_memory
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.runs.files import DETECTORS, QUALITY

MOST = 1.05


def main() -> None:
    """Print two rows of the table."""
    parser = options(__doc__ or "", 5)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", required=True)
    arguments = parser.parse_args()
    begin(arguments)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = {"plain": (DETECTORS, QUALITY), "lights": (QUALITY,), "all": ()}
        runs = {name: copy_without(arguments.run, folder / name, left_out) for name, left_out in names.items()}
        sources = inputs.find_cases([arguments.images], folder)

        def task(run: Path) -> Callable[[], float]:
            ensemble = Ensemble([Model(run, device="cpu")])

            def predict() -> float:
                out = Path(tempfile.mkdtemp(dir=folder))
                return timed(lambda: cohort.predict_cases(ensemble, sources, out), arguments.clock)

            predict()  # warms up
            return predict

        about = f"{arguments.run.resolve().parent.name}, {len(sources)} images"
        for more, less, what in (
            ("lights", "plain", "with lights / without"),
            ("all", "lights", "with predicted Dice / without"),
        ):
            ratios = by_turns(task(runs[more]), task(runs[less]), arguments.repeats)
            row(f"{about}: predict {what}", ratios, at_most=MOST)


def copy_without(run: Path, target: Path, left_out: Sequence[str]) -> Path:
    """Copy a run without its evaluations and these files."""
    return Path(shutil.copytree(run, target, ignore=shutil.ignore_patterns("evaluate*", "robust*", *left_out)))


if __name__ == "__main__":
    main()
