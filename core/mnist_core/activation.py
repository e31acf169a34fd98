"""An activation turns a neuron's weighted input z into its output a.

Every function here writes into `out` and may use `z` as scratch. Slopes are given by the output `a`, since
that is what is still at hand on the way back. NumPy gets its `out` by position: a call on a small array
takes a sixth longer when it is named.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class OutputActivation(ABC):
    """A function of a layer's weighted inputs, (B, O), for arrays of one dtype."""

    factor: ClassVar[float] = 1.0
    """What `of_scaled` wants z multiplied by: the product that makes z does that for nothing."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        # A 0-d array as operand takes half the time of a Python scalar.
        self._one = np.ones((), dtype)
        self._factor = np.asarray(self.factor, dtype)

    def apply(self, z: Array, out: Array) -> None:
        """Writes a = f(z)."""
        if self.factor != 1:
            np.multiply(z, self._factor, z)
        self.of_scaled(z, out)

    @abstractmethod
    def of_scaled(self, z: Array, out: Array) -> None:
        """Writes a = f(z), given factor x z."""


class Activation(OutputActivation):
    """A function of each neuron's weighted input alone, which is what a hidden layer can have."""

    @abstractmethod
    def slope(self, a: Array, out: Array) -> None:
        """Writes f'(z), given a = f(z)."""


class Sigmoid(Activation):
    """σ(z) = 1 / (1 + exp(-z)), from 0 to 1. exp may overflow to infinity, and 1 / inf is the right 0."""

    factor = -1.0

    def of_scaled(self, z: Array, out: Array) -> None:
        """Writes 1 / (1 + exp(-z)), given -z."""
        np.exp(z, z)
        np.add(z, self._one, z)
        np.reciprocal(z, out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes σ'(z) = a (1 - a)."""
        np.subtract(self._one, a, out)
        np.multiply(out, a, out)


class Tanh(Activation):
    """tanh(z), from -1 to 1."""

    def of_scaled(self, z: Array, out: Array) -> None:
        """Writes tanh(z)."""
        np.tanh(z, out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes tanh'(z) = 1 - a²."""
        np.multiply(a, a, out)
        np.subtract(self._one, out, out)


class ReLU(Activation):
    """max(0, z)."""

    def of_scaled(self, z: Array, out: Array) -> None:
        """Writes max(0, z)."""
        np.maximum(z, 0, out=out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes 1 where z > 0, otherwise 0."""
        np.sign(a, out)


class Softmax(OutputActivation):
    """exp(z) / Σ exp(z) over the classes of each row: one distribution an example."""

    def of_scaled(self, z: Array, out: Array) -> None:
        """Writes `softmax`."""
        softmax(z, out)


ACTIVATIONS: dict[str, type[Activation]] = {"sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU}
OUTPUTS: dict[str, type[OutputActivation]] = {"sigmoid": Sigmoid, "softmax": Softmax}


def softmax(z: Array, out: Array) -> None:
    """Writes exp(z) / sum over the classes of exp(z), for each row of (B, C)."""
    np.subtract(z, z.max(axis=1, keepdims=True), z)  # the same quotient, and exp cannot overflow
    np.exp(z, z)
    np.divide(z, z.sum(axis=1, keepdims=True), out)
