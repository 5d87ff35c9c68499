"""Learn from the cases of a training how far its network can be trusted, and store it in the run.

``outputs`` runs the network on the cases of a split, ``temperatures`` fits temperatures on the validation split.
"""

from medpos.calibrate.temperatures import fit_run

__all__ = ["fit_run"]
