"""An activation turns a neuron's weighted input z into its output a.

Every function here writes into `out` and may use `z` as scratch. Slopes are given by the output `a`, since
that is what is still at hand on the way back.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


class Activation(ABC):
    """A function of each neuron's weighted input alone, for arrays of one dtype."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        # A 0-d array as operand takes half the time of a Python scalar.
        self._one = np.ones((), dtype)

    @abstractmethod
    def apply(self, z: Array, out: Array) -> None:
        """Writes a = f(z)."""

    @abstractmethod
    def slope(self, a: Array, out: Array) -> None:
        """Writes f'(z), given a = f(z)."""


class Sigmoid(Activation):
    """σ(z) = 1 / (1 + exp(-z)), from 0 to 1. exp may overflow to infinity, and 1 / inf is the right 0."""

    def apply(self, z: Array, out: Array) -> None:
        """Writes 1 / (1 + exp(-z))."""
        np.negative(z, out=z)
        np.exp(z, out=z)
        np.add(z, self._one, out=z)
        np.reciprocal(z, out=out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes σ'(z) = a (1 - a)."""
        np.subtract(self._one, a, out=out)
        np.multiply(out, a, out=out)


class Tanh(Activation):
    """tanh(z), from -1 to 1."""

    def apply(self, z: Array, out: Array) -> None:
        """Writes tanh(z)."""
        np.tanh(z, out=out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes tanh'(z) = 1 - a²."""
        np.multiply(a, a, out=out)
        np.subtract(self._one, out, out=out)


class ReLU(Activation):
    """max(0, z)."""

    def apply(self, z: Array, out: Array) -> None:
        """Writes max(0, z)."""
        np.maximum(z, 0, out=out)

    def slope(self, a: Array, out: Array) -> None:
        """Writes 1 where z > 0, otherwise 0."""
        np.sign(a, out=out)


ACTIVATIONS: dict[str, type[Activation]] = {"sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU}


def softmax(z: Array, out: Array) -> None:
    """Writes exp(z) / sum over the classes of exp(z), for each row of (B, C)."""
    np.subtract(z, z.max(axis=1, keepdims=True), out=z)  # the same quotient, and exp cannot overflow
    np.exp(z, out=z)
    np.divide(z, z.sum(axis=1, keepdims=True), out=out)
