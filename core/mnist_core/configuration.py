"""A configuration says what network to train, and how: its defaults are the classic run of Nielsen's book."""

import math
import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any, Literal, get_args

from mnist_core.errors import InvalidValue

Activation = Literal["sigmoid", "tanh", "relu"]
Output = Literal["sigmoid", "softmax"]
Loss = Literal["quadratic", "cross_entropy"]
Initialization = Literal["normal", "scaled"]
Dtype = Literal["float32", "float64"]

MAX_HIDDEN_LAYERS = 32
MAX_LAYER_SIZE = 65_536
MAX_CLASSES = 256
MAX_EPOCHS = 100_000
MAX_BATCH_SIZE = 65_536
MAX_THREADS = 1024
# float32 keeps no number above 3.4e38; a step or penalty of this size is no longer learning.
MAX_RATE = 1e6


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters. Raises InvalidValue, naming the first one that is out of its range.

    hidden_sizes: neurons a hidden layer, each 1 to 65,536; at most 32 layers; none is allowed.
    classes: 2 to 256, since a label is a byte.
    activation: of the hidden layers. output: of the last layer. loss: what training makes small.
    initialization: "normal" draws weights and biases from the standard normal distribution (Nielsen ch. 1);
        "scaled" divides the weights by the square root of the layer's inputs (ch. 3).
    epochs: 1 to 100,000. batch_size: examples a mini-batch, 1 to 65,536; an epoch's last may be shorter.
    learning_rate: step along the mean gradient of a mini-batch, greater than 0, at most 1e6.
    weight_decay: adds 1/2 weight_decay |w|^2 to the mean loss, for weights, not biases; 0 to 1e6. With n
        training images it is Nielsen's lambda / n, scikit-learn's alpha / batch_size.
    momentum: share of the last step that is carried on (Nielsen ch. 3, mu), 0 to 1, 1 excluded.
    patience: stop after so many epochs without a better accuracy on the validation split, at least 1.
    until_accuracy: stop after an epoch with such an accuracy on the validation split, above 0, at most 1.
    keep_best: what is made is the network of the epoch that did best on the validation split.
    seed: 0 to 2^64 - 1; fixes the initial parameters and the order of the examples.
    dtype: of parameters and arithmetic. threads: of BLAS, 1 to 1024. Both decide the last bits.
    """

    hidden_sizes: tuple[int, ...] = (30,)
    classes: int = 10
    activation: Activation = "sigmoid"
    output: Output = "sigmoid"
    loss: Loss = "quadratic"
    initialization: Initialization = "normal"
    epochs: int = 30
    batch_size: int = 10
    learning_rate: float = 3.0
    weight_decay: float = 0.0
    momentum: float = 0.0
    patience: int | None = None
    until_accuracy: float | None = None
    keep_best: bool = False
    seed: int = 0
    dtype: Dtype = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        self._check_hidden_sizes()
        self._check_integer("classes", 2, MAX_CLASSES)
        self._check_word("activation", Activation)
        self._check_word("output", Output)
        self._check_word("loss", Loss)
        self._check_word("initialization", Initialization)
        self._check_integer("epochs", 1, MAX_EPOCHS)
        self._check_integer("batch_size", 1, MAX_BATCH_SIZE)
        self._check_number("learning_rate", lambda rate: 0 < rate <= MAX_RATE, "greater than 0, at most 1e6")
        self._check_number("weight_decay", lambda decay: 0 <= decay <= MAX_RATE, "at least 0, at most 1e6")
        self._check_number("momentum", lambda share: 0 <= share < 1, "at least 0, less than 1")
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
        return asdict(self) | {"hidden_sizes": list(self.hidden_sizes)}

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


def _integer(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]  # raises TypeError, which is what we ask it
