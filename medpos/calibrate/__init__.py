"""Learn from the cases of a training how far its network can be trusted, and store it in the run.

``outputs`` runs the network on the cases of a split, ``temperatures`` fits temperatures on the validation split,
``lights`` fits detectors of strange images on the training split and sets their threshold on the validation split.
"""

from pathlib import Path

from medpos.calibrate.lights import describe_light, fit_lights
from medpos.calibrate.temperatures import fit_scaling, format_temperatures
from medpos.predict.model import Model
from medpos.predict.run_files import open_training_data, read_run_files

__all__ = ["calibrate_run"]


def calibrate_run(run: Path, dataset_dir: Path | None = None, device: str = "") -> list[str]:
    """Fit temperatures and detectors to a run, and write ``temperatures.json`` and ``detectors.npz`` into it.

    Args:
        run: run folder.
        dataset_dir: its training data, if they have moved.
        device: device to compute on; empty: CUDA if there is one.

    Returns:
        Texts on what was found.

    Raises:
        InputError: the folder is no run of a segmentation, its data are not found or have too few cases, or it can't be
            written to.
    """
    model = Model(run, dataset_dir, device)
    model.check_segments()
    source = open_training_data(run, read_run_files(run, dataset_dir).config, dataset_dir)
    return [format_temperatures(fit_scaling(model, source)), describe_light(fit_lights(model, source))]
