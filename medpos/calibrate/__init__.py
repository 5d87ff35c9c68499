"""Learn from the cases of a training how far its network can be trusted, and store it in the run.

``outputs`` runs the network on the cases of a split, ``temperatures`` fits temperatures on the validation split,
``lights`` fits detectors of strange images on the training split and sets their threshold on the validation split,
``noticed`` measures what they notice.
"""

from collections.abc import Sequence
from pathlib import Path

from medpos.calibrate.lights import describe_light, fit_lights
from medpos.calibrate.noticed import COLUMNS, format_noticed, measure_noticed
from medpos.calibrate.temperatures import fit_scaling, format_temperatures
from medpos.core.errors import InputError
from medpos.core.files import write_csv
from medpos.data.conditions import named
from medpos.predict.model import Model
from medpos.predict.run_files import open_training_data, read_run_files
from medpos.runs.files import NOTICED
from medpos.runs.text import PHANTOM_NOTE

__all__ = ["calibrate_run"]


def calibrate_run(
    run: Path, dataset_dir: Path | None = None, device: str = "", conditions: Sequence[str] = ()
) -> list[str]:
    """Fit temperatures and detectors to a run, and write ``temperatures.json`` and ``detectors.npz`` into it.

    Args:
        run: run folder.
        dataset_dir: its training data, if they have moved.
        device: device to compute on; empty: CUDA if there is one.
        conditions: ``degradations``, ``shifts`` or both: those of the run, under which the detectors judge its test
            images, for ``noticed.csv``.

    Returns:
        Texts on what was found, and that the images are phantoms if they are.

    Raises:
        InputError: the folder is no run of a segmentation, its data are not found or have too few cases, or it can't be
            written to.
    """
    model = Model(run, dataset_dir, device)
    model.check_segments()
    config = read_run_files(run, dataset_dir).config
    source = open_training_data(run, config, dataset_dir)
    scaling, light = fit_scaling(model, source), fit_lights(model, source)
    texts = [format_temperatures(scaling), describe_light(light)]
    if conditions:
        if not source.cases("test"):
            raise InputError(f"{source.folder}: expected test cases, to judge them under conditions, got none")
        table, pixels = config.get("degradation_table", "study"), config.get("shift_pixels", [])
        chosen = named(conditions, table, pixels)
        rows = measure_noticed(model, light, source, chosen, table, int(config.get("noise_seed", 0)))
        write_csv(model.home / NOTICED, COLUMNS, rows)
        texts.append(format_noticed(rows))
    return [*texts, *([PHANTOM_NOTE] if source.phantom else [])]
