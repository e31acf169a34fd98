"""Results: what the server's answers become, small frozen dataclasses of plain values and NumPy arrays.

Enumerations are words in lower case ('sigmoid', 'float32'), states in upper case ('RUNNING'), times are
aware datetimes in UTC, and what is absent on the wire is None. Shapes: B images, C classes, H x W pixels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

# Prediction


@dataclass(frozen=True, slots=True)
class Box:
    """A box on a picture, in its pixels, turned as its EXIF orientation says."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Which digit one image is."""

    digit: int
    """The most probable class, the lowest on a tie."""
    confidence: float
    """The probability of that digit, 0 to 1."""
    probabilities: NDArray[np.float32]
    """The probability of each class, (C,); their sum is 1."""
    input: NDArray[np.uint8] | None
    """What the network saw, (H, W), 0 = paper, 255 = ink, if it was asked for."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""
    score: float | None = None
    """How much the image looks like a digit at all, 0 to 1, if it was asked for."""
    is_digit: bool | None = None
    """Whether that is enough to call it one, if it was asked for."""
    image: int | None = None
    """Which of the images it is on, from 0, where all digits were asked for."""
    box: Box | None = None
    """Where on that image, if all digits were asked for."""

    @property
    def name(self) -> str:
        """What the image is: the class's name, or its number."""
        return self.class_names[self.digit] if self.class_names else str(self.digit)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Which digits B images are, in columns, in the order asked. Its items are `Prediction`s."""

    model: str
    """The exact version that answered, models/{m}/versions/{n}."""
    digits: NDArray[np.int64]
    """(B,)"""
    confidences: NDArray[np.float32]
    """(B,), 0 to 1."""
    probabilities: NDArray[np.float32]
    """(B, C); the sum of each row is 1."""
    inputs: NDArray[np.uint8] | None
    """What the network saw, (B, H, W), if it was asked for."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""
    scores: NDArray[np.float32] | None = None
    """How much each image looks like a digit at all, (B,), 0 to 1, if it was asked for."""
    are_digits: NDArray[np.bool_] | None = None
    """Whether that is enough to call it one, (B,), if it was asked for."""
    images: NDArray[np.intp] | None = None
    """Which of the images each digit is on, (B,), from 0, where all were asked for: B is their number."""
    boxes: NDArray[np.int64] | None = None
    """Where on that image, (B, 4), as `Box` has it, if all digits were asked for."""

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Prediction:
        return Prediction(
            int(self.digits[index]),
            float(self.confidences[index]),
            self.probabilities[index],
            None if self.inputs is None else self.inputs[index],
            self.class_names,
            None if self.scores is None else float(self.scores[index]),
            None if self.are_digits is None else bool(self.are_digits[index]),
            None if self.images is None else int(self.images[index]),
            None if self.boxes is None else Box(*self.boxes[index].tolist()),
        )

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))


# Evaluation


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How good a model is at one class; each share is 0 to 1, and 0 where it would be 0 / 0."""

    precision: float
    """Of what it named so, the share that was."""
    recall: float
    """Of what was so, the share it named so."""
    f1: float
    """Harmonic mean of the two."""
    support: int
    """Images of this class."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image named wrongly."""

    index: int
    """Where it stood among the images, from 0."""
    label: int
    predicted: int
    confidence: float
    """The probability given to what was predicted, 0 to 1."""
    image: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    """(H, W), 0 = paper, 255 = ink, if images were asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good a model is on images whose labels are known."""

    model: str
    """The exact version judged, models/{m}/versions/{n}."""
    correct: int
    total: int
    accuracy: float
    """correct / total, 0 to 1."""
    accuracy_low: float
    """Lower end of the 95 % confidence interval on the accuracy (Wilson's score interval)."""
    accuracy_high: float
    loss: float
    """Mean of the loss that the model was trained with."""
    confusion_matrix: NDArray[np.int64]
    """(C, C) counts: rows are labels, columns what the model said."""
    per_class: tuple[ClassMetrics, ...]
    """One for each of the C classes."""
    ece: float
    """Expected calibration error over the confidences, 15 bins of one width, 0 to 1."""
    mistakes: tuple[Mistake, ...]
    """The most confident mistakes, the most confident first, at most 20."""
    split: str | None
    """The split judged by, of a data set that the server has; None for images that were sent."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called, (C,), by their numbers where they have no names."""
        return self.class_names or tuple(str(each) for each in range(len(self.confusion_matrix)))


# Training: what was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How images are varied before they are learnt from, anew each time.

    What is drawn for an image is uniform from minus a number to that number; 0 does not vary.
    """

    rotation: float = 0.0
    """Degrees, 0 to 180."""
    scale: float = 0.0
    """What height and width, each by itself, grow by as a share of themselves, 0 to 0.9."""
    shear: float = 0.0
    """What a row moves to the side as a share of its distance from the middle, 0 to 1."""
    shift: float = 0.0
    """Pixels down and pixels to the right, 0 to 100."""
    elastic: float = 0.0
    """What smoothed random fields (Simard 2003, alpha) are multiplied by, in pixels, 0 to 1,000."""
    elastic_sigma: float = 4.0
    """Standard deviation of the Gaussian that smooths them, in pixels, 0.5 to 100."""
    thickness: float = 0.0
    """What a pixel comes closer to the most ink around it, or to the least, as a share, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyperparameters:
    """What to train and how, with every default filled in."""

    model: str
    """The model to make a version of, models/{m}."""
    recipe: str
    """What hyperparameters were taken from that were not given."""
    base_model: str | None
    """models/{m}/versions/{n}, whose weights it began with; None: they were drawn."""
    class_names: tuple[str, ...]
    """What the classes are called; none: by their numbers."""
    hidden_layers: tuple[int, ...]
    """Neurons a layer, from the input's side; () where `layers` says more."""
    activation: str
    """Of the hidden layers: 'sigmoid', 'tanh' or 'relu'."""
    output: str
    """Of the last layer: 'sigmoid' or 'softmax'."""
    loss: str
    """'quadratic' or 'cross_entropy'."""
    initialization: str
    """'normal', 'scaled' or 'he'."""
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    momentum: float
    layers: str = ""
    """The hidden layers where some are no plain dense ones: '20C5-P-40C5-P-150-D0.5'."""
    optimizer: str = "sgd"
    """'sgd' or 'adamw'."""
    schedule: str = "constant"
    """'constant' or 'cosine'."""
    warm_up: float = 0.0
    """Share of all steps for which the learning rate first rises."""
    clip_norm: float | None = None
    """The length that longer gradients are shortened to; None: none are."""
    augmentation: Augmentation | None = None
    """How images are varied before they are learnt from; None: they are not."""
    patience: int | None
    """Epochs without a better accuracy on the validation split after which it stops; None: it does not."""
    until_accuracy: float | None
    """Accuracy on the validation split, 0 to 1, at which it stops; None: it does not."""
    time_budget: float | None
    """Seconds of learning and testing after which it stops, at the end of an epoch; None: it does not."""
    keep_best: bool
    """The version made is of the epoch that did best on the validation split, not of the last."""
    validation_images: int | None
    """How many of the last training images are held back; None: none are."""
    seed: int
    dtype: str
    """'float32' or 'float64'."""
    promote: bool
    """The new version gets the alias `default`."""
    request_id: str
    dataset: str
    """What it learns from, datasets/{sha256}."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Libraries and hardware that decide the last bits of a product of matrices."""

    code_version: str
    numpy_version: str
    blas: str
    blas_version: str
    blas_kernel: str
    blas_threads: int
    scipy_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedConfig:
    """All that decides the bits of a job's weights: the same again gives the same bits."""

    hyperparameters: Hyperparameters
    layer_sizes: tuple[int, ...]
    """Inputs, hidden neurons, classes: (784, 30, 10). Of a convolution, what comes out after pooling."""
    dataset: str
    """datasets/{sha256}, the hash of images and labels."""
    train_images: int
    validation_images: int
    """0 for none."""
    test_images: int
    """0 for none."""
    height: int
    width: int
    environment: Environment


# Training: a job's history


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How a network did in one epoch."""

    epoch: int
    """From 0."""
    correct: int | None
    """Images of the test split (without one, of the validation split) named rightly; None without either."""
    total: int | None
    loss: float
    """Mean loss of the training images as they were learnt from."""
    learning_rate: float
    seconds: float
    """Learning and evaluating."""
    weights_hash: str
    """SHA-256 of the parameters after it."""
    validation_correct: int | None
    validation_total: int | None

    @property
    def accuracy(self) -> float | None:
        """correct / total, 0 to 1; None where nothing was tested."""
        return self.correct / self.total if self.correct is not None and self.total else None

    def __str__(self) -> str:
        """The classic line: 'Epoch 3 : 9321 / 10000', or 'Epoch 3 complete' where nothing was tested."""
        if self.correct is None or self.total is None:
            return f"Epoch {self.epoch} complete"
        return f"Epoch {self.epoch} : {self.correct} / {self.total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry of a job's durable history."""

    job: str
    """jobs/{j}"""
    sequence: int
    """1, 2, 3 ... without a gap."""
    time: datetime
    """When it was written, by the server's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(_Entry):
    """Images and job are durable. Always the first event."""

    config: ResolvedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(_Entry):
    """The job's process has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFinished(Epoch):
    """An epoch is done."""

    job: str
    sequence: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued(_Entry):
    """The job goes on: after its process or the server had died or stopped, or after it was resumed."""

    epoch: int
    """The first epoch done again or anew, from 0."""
    skipped_checkpoints: tuple[str, ...]
    """Newer checkpoints that could not be used, each as 'file: why'."""
    differences: tuple[str, ...]
    """What differs from the environment that the job was accepted in, each as 'name was X, is Y'; from here
    on its weights may differ from those of an undisturbed run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(_Entry):
    """The job ended and made a version of its model."""

    model_version: str
    """models/{m}/versions/{n}"""
    stop_reason: str
    """'epochs', 'early_stopping', 'time_budget' or 'target_accuracy'."""
    epoch: int
    """The epoch whose weights the version holds, from 0: the last, or with keep_best the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Entry):
    """The job ended without making a model."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(_Entry):
    """The job was cancelled, and made no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(_Entry):
    """The job was put aside."""

    reason: str | None
    """Why the server did so itself; None: it was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(_Entry):
    """The job is in the queue again."""

    differences: tuple[str, ...]
    """What differs from the environment that the job was accepted in, each as 'name was X, is Y'."""


Event = Accepted | Started | EpochFinished | Continued | Succeeded | Failed | Cancelled | Paused | Resumed

# Training: what a watch says besides


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remark:
    """What is not history: it is stored nowhere."""

    job: str
    sequence: int
    """The last event's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_Remark):
    """How far an epoch has come."""

    epoch: int
    """The one being done, from 0."""
    images: int
    """Learnt from in this epoch."""
    total_images: int
    loss: float
    """Mean of this epoch so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(_Remark):
    """The server is there and has nothing else to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining(_Remark):
    """The server is stopping. The watch goes on by itself when it is back."""


Notice = Progress | Heartbeat | Draining


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
