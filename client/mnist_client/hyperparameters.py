"""Hyperparameters decide, with data and environment, every bit of what a training job makes.

Enumerations are words in lower case ('sigmoid', 'float32').
"""

from dataclasses import dataclass


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
