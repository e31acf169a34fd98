"""A neural network in NumPy, how it learns, and how pictures become its inputs."""

from mnist_core.augmentation import Augmentation, augment
from mnist_core.calibration import calibrated, fit_temperature
from mnist_core.checkpoint import (
    SavedModel,
    load_checkpoint,
    load_model,
    read_model,
    save_checkpoint,
    save_model,
)
from mnist_core.configuration import TrainingConfig
from mnist_core.dataset import Dataset, Split
from mnist_core.errors import CheckpointError, ChecksumError, Diverged, InvalidValue
from mnist_core.evaluation import Evaluation, Mistake, evaluate
from mnist_core.layer import Convolution, Dense, Dropout, MaxPool
from mnist_core.network import Network
from mnist_core.recipes import CLASSIC, RECIPES
from mnist_core.training import EpochReport, Progress, TrainingState, train

__all__ = [
    "CLASSIC",
    "RECIPES",
    "Augmentation",
    "CheckpointError",
    "ChecksumError",
    "Convolution",
    "Dataset",
    "Dense",
    "Diverged",
    "Dropout",
    "EpochReport",
    "Evaluation",
    "InvalidValue",
    "MaxPool",
    "Mistake",
    "Network",
    "Progress",
    "SavedModel",
    "Split",
    "TrainingConfig",
    "TrainingState",
    "augment",
    "calibrated",
    "evaluate",
    "fit_temperature",
    "load_checkpoint",
    "load_model",
    "read_model",
    "save_checkpoint",
    "save_model",
    "train",
]
