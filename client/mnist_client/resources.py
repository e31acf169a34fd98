"""Resources are what a server keeps, each by its name: jobs, data sets, models; and the server itself.

States are words in upper case ('RUNNING'), times are aware datetimes in UTC, and what is absent on the wire
is None. Shapes: H x W pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from mnist_client.history import Epoch
from mnist_client.hyperparameters import Environment, ResolvedConfig

# Jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training job as it was when asked about."""

    name: str
    """jobs/{j}"""
    state: str
    """'QUEUED', 'RUNNING', 'PAUSED', 'SUCCEEDED', 'FAILED' or 'CANCELLED'."""
    model: str
    """The model it makes a version of, models/{m}."""
    config: ResolvedConfig
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    last_epoch: Epoch | None
    last_sequence: int
    model_version: str | None
    """What it made, models/{m}/versions/{n}."""
    reason: str | None
    """Why it failed, or why the server itself paused it."""


# Data sets


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatasetSplit:
    """What the server says of one split of a data set."""

    split: str
    """'train', 'validation' or 'test'."""
    images: int
    class_counts: tuple[int, ...]
    """Images of each class, from 0 on."""
    constant_images: int
    """Images whose pixels are all alike: most likely blank ones."""
    mean_image: NDArray[np.float32] | None
    """(H, W), 0 = paper, 255 = ink; None in a list."""
    images_sha256: str
    labels_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredDataset:
    """A data set that a server keeps. It never changes."""

    name: str
    """datasets/{sha256}, what its images and labels are called on every server."""
    create_time: datetime
    height: int
    width: int
    bytes: int
    """On the server's disk."""
    splits: tuple[DatasetSplit, ...]
    """Those that hold images, in the order train, validation, test."""

    @property
    def images(self) -> int:
        """Images of all splits."""
        return sum(split.images for split in self.splits)


# Models and the server


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What a network is made of, and the images that it takes."""

    layer_sizes: tuple[int, ...]
    """Inputs, hidden neurons, classes: (784, 30, 10). Of a convolution, what comes out after pooling."""
    height: int
    width: int
    activation: str
    """Of the hidden layers: 'sigmoid', 'tanh' or 'relu'."""
    output: str
    """Of the last layer: 'sigmoid' or 'softmax'."""
    loss: str
    """What its training made small: 'quadratic' or 'cross_entropy'."""
    dtype: str
    """'float32' or 'float64'."""
    layers: str = ""
    """The hidden layers where some are no plain dense ones: '20C5-P-40C5-P-150-D0.5'."""
    class_names: tuple[str, ...] = ()
    """What the classes are called; none: by their numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One immutable version of a model."""

    name: str
    """models/{m}/versions/{n}"""
    version: int
    create_time: datetime
    job: str | None
    """The job that made it; None: it was imported."""
    config: ResolvedConfig | None
    """How it was made; None: it was imported."""
    last_epoch: Epoch | None
    parameters: int
    """Numbers it learnt."""
    weights_hash: str
    network: Network
    provenance: Mapping[str, str]
    """What the file that it was imported from says of its making, unproven; empty if it was made here."""
    temperature: float | None
    """What makes its confidences true, fitted on the validation split; None: nothing was fitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A name under which versions are served."""

    name: str
    """models/{m}"""
    versions: tuple[ModelVersion, ...]
    """Newest first."""
    aliases: Mapping[str, int]
    """Alias to version; `default` answers where a model is named without one."""
    etag: str
    """Changes whenever an alias or a version does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server takes, at most."""

    max_message_bytes: int
    max_images_per_request: int
    max_encoded_images: int
    max_encoded_pixels: int
    max_image_pixels: int
    max_dataset_images: int
    max_dataset_bytes: int
    max_parameters: int
    max_queued_jobs: int
    max_streams: int
    max_model_bytes: int
    max_running_jobs: int
    max_watchers: int
    max_stored_dataset_bytes: int
    max_classes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The server as it was when asked."""

    version: str
    start_time: datetime
    limits: Limits
    threads: int
    """Threads that answer unary calls, of each worker."""
    workers: int
    """Processes that answer."""
    environment: Environment
    models_loaded: tuple[str, ...]
    """models/{m}/versions/{n}"""
