"""Handle the events of a training or an evaluation: metrics, tables, pictures, TensorBoard, checkpoints, progress."""

from medpos.handlers.batch_norm import ReestimateStatistics
from medpos.handlers.calibration import Calibration
from medpos.handlers.cases import Cases
from medpos.handlers.checkpoint import Checkpoint, LoadModel, better, replace_weights, train
from medpos.handlers.classification import ClassTable, TopK
from medpos.handlers.metrics import CaseMetrics, every
from medpos.handlers.overlays import Overlays
from medpos.handlers.progress import EpochLog, Progress
from medpos.handlers.results import ResultTable, ResultWriter
from medpos.handlers.schedule import LearningRate
from medpos.handlers.scores import Scores
from medpos.handlers.tensorboard import ScalarLog, TensorBoard
from medpos.handlers.unfreezing import GradualUnfreezing

__all__ = [
    "Calibration",
    "CaseMetrics",
    "Cases",
    "Checkpoint",
    "ClassTable",
    "EpochLog",
    "GradualUnfreezing",
    "LearningRate",
    "LoadModel",
    "Overlays",
    "Progress",
    "ReestimateStatistics",
    "ResultTable",
    "ResultWriter",
    "ScalarLog",
    "Scores",
    "TensorBoard",
    "TopK",
    "better",
    "every",
    "replace_weights",
    "train",
]
