"""A configuration says what network to train, and how: its defaults are the classic run of Nielsen's book."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, get_args

from mnist_core.architecture import Architecture
from mnist_core.augmentation import Augmentation
from mnist_core.errors import InvalidValue
from mnist_core.layer import Dense, Layer, checked_layers, described
from mnist_core.schedule import Schedule

Activation = Literal["sigmoid", "tanh", "relu"]
Output = Literal["sigmoid", "softmax"]
Loss = Literal["quadratic", "cross_entropy"]
Initialization = Literal["normal", "scaled", "he"]
Optimizer = Literal["sgd", "adamw"]
Dtype = Literal["float32", "float64"]

MAX_HIDDEN_LAYERS = 32
MAX_LAYER_SIZE = 65_536
MAX_CLASSES = 1000
MAX_NAME = 64  # characters of what a class is called
MAX_EPOCHS = 100_000
MAX_BATCH_SIZE = 65_536
MAX_THREADS = 1024
# float32 keeps no number above 3.4e38; a step or penalty of this size is no longer learning.
MAX_RATE = 1e6


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters. Raises InvalidValue, naming the first one that is out of its range.

    hidden_sizes: neurons a hidden layer, each 1 to 65,536; at most 32 layers; none is allowed.
    layers: the hidden layers where some are no plain dense ones: see `layer`. hidden_sizes is not read then.
    classes: 2 to 1,000.
    activation: of the hidden layers. output: of the last layer. loss: what training makes small.
    initialization: "normal" draws weights and biases from the standard normal distribution (Nielsen ch. 1);
        "scaled" divides the weights by the square root of the layer's inputs (ch. 3); "he" by that of half of
        them, and has biases of 0.
    epochs: 1 to 100,000. batch_size: examples a mini-batch, 1 to 65,536; an epoch's last may be shorter.
    optimizer: "sgd" steps along the mean gradient of a mini-batch; "adamw" divides each number's mean by its
        size, both over the last steps: see `optimizer`.
    learning_rate: of a step, greater than 0, at most 1e6. With adamw, some 0.001 to 0.003.
    schedule, warm_up: how the learning rate goes on from step to step; "constant", or to 0 with "cosine". For
        the share warm_up of all steps, 0 to 1, it rises first: see `schedule`.
    weight_decay: adds 1/2 weight_decay |w|^2 to the mean loss, for weights, not biases; 0 to 1e6. With n
        training images it is Nielsen's lambda / n, scikit-learn's alpha / batch_size. With adamw, the share
        of themselves that a step of learning rate 1 would take off weights.
    momentum: share of the last step that is carried on (Nielsen ch. 3, mu), 0 to 1, 1 excluded; sgd alone.
    clip_norm: a mini-batch's gradient that is longer is shortened to this, greater than 0, at most 1e6.
    augmentation: how images are varied before they are learnt from.
    patience: stop after so many epochs without a better accuracy on the validation split, at least 1.
    until_accuracy: stop after an epoch with such an accuracy on the validation split, above 0, at most 1.
    keep_best: what is made is the network of the epoch that did best on the validation split.
    seed: 0 to 2^64 - 1; fixes the initial parameters, the order of the examples and all else that is drawn.
    dtype: of parameters and arithmetic. threads: of BLAS, 1 to 1024. Both decide the last bits.
    """

    hidden_sizes: tuple[int, ...] = (30,)
    layers: tuple[Layer, ...] | None = None
    classes: int = 10
    activation: Activation = "sigmoid"
    output: Output = "sigmoid"
    loss: Loss = "quadratic"
    initialization: Initialization = "normal"
    epochs: int = 30
    batch_size: int = 10
    optimizer: Optimizer = "sgd"
    learning_rate: float = 3.0
    schedule: Schedule = "constant"
    warm_up: float = 0.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    clip_norm: float | None = None
    augmentation: Augmentation | None = None
    patience: int | None = None
    until_accuracy: float | None = None
    keep_best: bool = False
    seed: int = 0
    dtype: Dtype = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        self._check_hidden_sizes()
        if self.layers is not None:
            self._set("layers", checked_layers(self.layers))
        self._check_integer("classes", 2, MAX_CLASSES)
        self._check_word("activation", Activation)
        self._check_word("output", Output)
        self._check_word("loss", Loss)
        self._check_word("initialization", Initialization)
        self._check_integer("epochs", 1, MAX_EPOCHS)
        self._check_integer("batch_size", 1, MAX_BATCH_SIZE)
        self._check_word("optimizer", Optimizer)
        self._check_number("learning_rate", lambda rate: 0 < rate <= MAX_RATE, "greater than 0, at most 1e6")
        self._check_word("schedule", Schedule)
        self._check_number("warm_up", lambda share: 0 <= share <= 1, "from 0 to 1")
        self._check_number("weight_decay", lambda decay: 0 <= decay <= MAX_RATE, "at least 0, at most 1e6")
        self._check_number("momentum", lambda share: 0 <= share < 1, "at least 0, less than 1")
        if self.momentum and self.optimizer != "sgd":
            raise InvalidValue("momentum", self.momentum, f"0 with {self.optimizer}, which has its own")
        if self.clip_norm is not None:
            self._check_number("clip_norm", lambda norm: 0 < norm <= MAX_RATE, "greater than 0, at most 1e6")
        self._check_augmentation()
        if self.patience is not None:
            self._check_integer("patience", 1, MAX_EPOCHS)
        if self.until_accuracy is not None:
            self._check_number("until_accuracy", lambda share: 0 < share <= 1, "greater than 0, at most 1")
        if not isinstance(self.keep_best, bool):
            raise InvalidValue("keep_best", self.keep_best, "True or False")
        self._check_integer("seed", 0, 2**64 - 1)
        self._check_word("dtype", Dtype)
        self._check_integer("threads", 1, MAX_THREADS)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON has them; `TrainingConfig(**fields)` is the way back."""
        fields = asdict(self) | {"hidden_sizes": list(self.hidden_sizes)}
        if self.layers is not None:
            fields["layers"] = [described(layer) for layer in self.layers]
        return fields

    def architecture(self, image: tuple[int, int]) -> Architecture:
        """Returns the shape of the network for images of this height and width. Raises InvalidValue."""
        hidden = self.layers
        if hidden is None:
            hidden = tuple(Dense(size) for size in self.hidden_sizes)
        return Architecture.of_layers(image, hidden, self.classes)

    def _set(self, field: str, value: object) -> None:
        object.__setattr__(self, field, value)

    def _check_hidden_sizes(self) -> None:
        expected = f"at most {MAX_HIDDEN_LAYERS} integers from 1 to {MAX_LAYER_SIZE}"
        value: Any = self.hidden_sizes
        try:
            sizes = tuple(_integer(size) for size in value)
        except TypeError:
            raise InvalidValue("hidden_sizes", value, expected) from None
        if len(sizes) > MAX_HIDDEN_LAYERS or not all(1 <= size <= MAX_LAYER_SIZE for size in sizes):
            raise InvalidValue("hidden_sizes", value, expected)
        self._set("hidden_sizes", sizes)

    def _check_augmentation(self) -> None:
        value: Any = self.augmentation
        if isinstance(value, dict):
            try:
                value = Augmentation(**value)
            except TypeError:
                raise InvalidValue("augmentation", value, "the fields of Augmentation") from None
            except InvalidValue as error:
                raise InvalidValue(f"augmentation.{error.field}", error.value, error.expected) from None
            self._set("augmentation", value)
        if value is not None and not isinstance(value, Augmentation):
            raise InvalidValue("augmentation", value, "an Augmentation")

    def _check_integer(self, field: str, least: int, most: int) -> None:
        value = getattr(self, field)
        try:
            integer = _integer(value)
        except TypeError:
            raise InvalidValue(field, value, f"an integer from {least} to {most}") from None
        if not least <= integer <= most:
            raise InvalidValue(field, value, f"an integer from {least} to {most}")
        self._set(field, integer)

    def _check_number(self, field: str, fits: Callable[[float], bool], range_: str) -> None:
        value = getattr(self, field)
        try:
            number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
        except OverflowError:
            number = math.inf
        if not fits(number):  # nor does NaN
            raise InvalidValue(field, value, f"a finite number {range_}")
        self._set(field, number)

    def _check_word(self, field: str, words: Any) -> None:
        value = getattr(self, field)
        if value not in get_args(words):
            raise InvalidValue(field, value, "one of " + ", ".join(get_args(words)))


def check_class_names(field: str, names: Sequence[object], classes: int | None = None) -> None:
    """Raises InvalidValue unless these can be the names of so many classes, or of 2 to 1,000."""
    least, most = (2, MAX_CLASSES) if classes is None else (classes, classes)
    if not least <= len(names) <= most:
        expected = f"{least} to {most}" if classes is None else f"{classes}, one a class"
        raise InvalidValue(field, f"{len(names)} names", expected)
    seen: set[object] = set()
    for index, name in enumerate(names):
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            expected = f"1 to {MAX_NAME} printable characters"
            raise InvalidValue(f"{field}[{index}]", name, expected)
        if name in seen:
            raise InvalidValue(f"{field}[{index}]", name, "each name once")
        seen.add(name)


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]  # raises TypeError, which is what we ask it
