"""Measure what the lights and the predicted Dice of ``medpos predict`` cost: a run with them against the same without.

python -m benchmarks.lights --run RUN --images FOLDER

RUN is a run after ``python -m medpos calibrate``. Each case is read, segmented, measured and
written, as by ``predict``.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import begin, by_turns, options, row, timed
from medpos.core.memory import keep_freed_memory
from medpos.predict import cohort, inputs
from medpos.predict.ensemble import Ensemble
from medpos.predict.model import Model
from medpos.runs.files import DETECTORS, QUALITY

MOST = 1.05


def main() -> None:
    """Print a row of the table."""
    parser = options(__doc__ or "", 5)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--images", required=True)
    arguments = parser.parse_args()
    begin(arguments)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = shutil.copytree(arguments.run, folder / "plain", ignore=shutil.ignore_patterns("evaluate*", "robust*"))
        for learned in (DETECTORS, QUALITY):
            (plain / learned).unlink(missing_ok=True)
        sources = inputs.find_cases([arguments.images], folder)

        def task(run: Path) -> Callable[[], float]:
            ensemble = Ensemble([Model(run, device="cpu")])

            def predict() -> float:
                out = Path(tempfile.mkdtemp(dir=folder))
                return timed(lambda: cohort.predict_cases(ensemble, sources, out), arguments.clock)

            predict()  # warms up
            return predict

        ratios = by_turns(task(arguments.run), task(plain), arguments.repeats)
        run, what = arguments.run.resolve().parent.name, "predict with lights and predicted Dice / without"
        row(f"{run}, {len(sources)} images: {what}", ratios, at_most=MOST)


if __name__ == "__main__":
    main()
