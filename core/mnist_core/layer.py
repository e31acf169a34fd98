"""A layer, as a configuration names it: what it does to the outputs of the one before it."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from mnist_core.errors import InvalidValue


@dataclass(frozen=True)
class Dense:
    """Neurons that each look at all of what comes in."""

    kind: ClassVar[str] = "dense"
    neurons: int
    """1 to 65,536."""


@dataclass(frozen=True)
class Convolution:
    """Features, each found by one kernel wherever it fits: (H - size + 1) x (W - size + 1) of H x W remain.

    After it, as after every hidden layer, comes the activation.
    """

    kind: ClassVar[str] = "convolution"
    features: int
    """1 to 1,024."""
    size: int
    """Rows and columns of a kernel, 1 to 31."""


@dataclass(frozen=True)
class MaxPool:
    """Of each 2 x 2 outputs of the convolution before it the largest; an odd row or column is left out."""

    kind: ClassVar[str] = "max_pool"


@dataclass(frozen=True)
class Dropout:
    """While training, leaves out outputs of the layer before it by chance, and makes up for it with the rest.

    Srivastava et al. 2014, Dropout, section 10, with the outputs multiplied by 1 / (1 - rate) in training
    instead of the weights by 1 - rate afterwards.
    """

    kind: ClassVar[str] = "dropout"
    rate: float
    """Share that is left out, greater than 0, less than 1."""


Layer = Dense | Convolution | MaxPool | Dropout

MAX_LAYERS = 64
MAX_NEURONS = 65_536
MAX_FEATURES = 1_024
MAX_SIZE = 31
_KINDS: dict[str, type[Layer]] = {kind.kind: kind for kind in (Dense, Convolution, MaxPool, Dropout)}
_RANGES = {"neurons": MAX_NEURONS, "features": MAX_FEATURES, "size": MAX_SIZE}


def checked_layers(layers: object) -> tuple[Layer, ...]:
    """Returns hidden layers, from the input's side, given as layers or as `described` has them.

    Convolutions come first, and a pooling right after one of them; then dense layers. Dropout comes after the
    last convolution or after a dense layer. Raises InvalidValue, naming the layer.
    """
    if not isinstance(layers, list | tuple) or len(layers) > MAX_LAYERS:
        raise InvalidValue("layers", layers, f"at most {MAX_LAYERS} layers")
    found: list[Layer] = []
    for index, value in enumerate(layers):
        field = f"layers[{index}]"
        layer = _parsed(field, value)
        before = found[-1] if found else None
        if isinstance(layer, Convolution) and not all(
            isinstance(each, Convolution | MaxPool) for each in found
        ):
            raise InvalidValue(field, "a convolution", "none after a dense layer or dropout")
        if isinstance(layer, MaxPool) and not isinstance(before, Convolution):
            raise InvalidValue(field, "max_pool", "a convolution right before it")
        if isinstance(layer, Dropout) and (before is None or isinstance(before, Dropout)):
            raise InvalidValue(field, "dropout", "a layer of another kind before it")
        found.append(layer)
    return tuple(found)


def described(layer: Layer) -> dict[str, Any]:
    """Returns a layer as JSON has it, such as {"kind": "convolution", "features": 20, "size": 5}."""
    return {"kind": layer.kind} | asdict(layer)


def _parsed(field: str, value: object) -> Layer:
    if isinstance(value, dict):
        kind = _KINDS.get(str(value.get("kind")))
        if kind is None:
            raise InvalidValue(f"{field}.kind", value.get("kind"), "one of " + ", ".join(_KINDS))
        try:
            value = kind(**{name: each for name, each in value.items() if name != "kind"})
        except TypeError:
            raise InvalidValue(field, value, f"the fields of {kind.__name__}") from None
    if not isinstance(value, Layer):
        raise InvalidValue(field, value, "a layer")
    for name, number in asdict(value).items():
        if name == "rate":
            if isinstance(number, bool) or not isinstance(number, float | int) or not 0 < number < 1:
                raise InvalidValue(f"{field}.rate", number, "a number greater than 0, less than 1")
        elif isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _RANGES[name]:
            raise InvalidValue(f"{field}.{name}", number, f"an integer from 1 to {_RANGES[name]}")
    return value
