"""The textbook loop: Nielsen's network.py (chapters 1 and 2), which goes through examples one at a time."""

import random
from typing import Any

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data, initial_layers
from numpy.typing import NDArray

Array = NDArray[Any]
Example = tuple[Array, Array]


class Learner:
    """Column vectors, a list of pairs (x, y), parameters in float64 as NumPy draws them: as in the book."""

    share = 1.0
    versions = {"numpy": np.__version__}  # noqa: RUF012  # the protocol has it of the instance

    def __init__(self, configuration: Configuration, data: Data) -> None:
        self._random = random.Random(0)
        self._batch_size = configuration.batch_size
        self._learning_rate = configuration.learning_rate
        layers = initial_layers(configuration)
        self._weights: list[Array] = [weights.T.astype(np.float64, order="C") for weights, _ in layers]
        self._biases: list[Array] = [biases.reshape(-1, 1).astype(np.float64) for _, biases in layers]
        xs = (data.images / np.float32(255)).reshape(-1, 784, 1)
        ys = np.eye(10)[data.labels].reshape(-1, 10, 1)
        self._examples: list[Example] = list(zip(xs, ys, strict=True))

    def epoch(self) -> None:
        """Shuffles the list and goes through its mini-batches."""
        self._random.shuffle(self._examples)
        for start in range(0, len(self._examples), self._batch_size):
            self._update(self._examples[start : start + self._batch_size])

    def predict(self, images: NDArray[np.uint8]) -> Array:
        """Returns the output activations."""
        a: Array = (images / np.float32(255)).T
        for w, b in zip(self._weights, self._biases, strict=True):
            a = sigmoid(w @ a + b)
        return a.T

    def _update(self, mini_batch: list[Example]) -> None:
        nabla_b = [np.zeros(b.shape) for b in self._biases]
        nabla_w = [np.zeros(w.shape) for w in self._weights]
        for x, y in mini_batch:
            delta_b, delta_w = self._backprop(x, y)
            nabla_b = [nb + db for nb, db in zip(nabla_b, delta_b, strict=True)]
            nabla_w = [nw + dw for nw, dw in zip(nabla_w, delta_w, strict=True)]
        step = self._learning_rate / len(mini_batch)
        self._weights = [w - step * nw for w, nw in zip(self._weights, nabla_w, strict=True)]
        self._biases = [b - step * nb for b, nb in zip(self._biases, nabla_b, strict=True)]

    def _backprop(self, x: Array, y: Array) -> tuple[list[Array], list[Array]]:
        activation = x
        activations = [x]
        zs = []
        for w, b in zip(self._weights, self._biases, strict=True):
            z = np.dot(w, activation) + b
            zs.append(z)
            activation = sigmoid(z)
            activations.append(activation)
        delta = (activations[-1] - y) * sigmoid_prime(zs[-1])
        nabla_b, nabla_w = [delta], [np.dot(delta, activations[-2].T)]
        for layer in range(2, len(self._weights) + 1):
            delta = np.dot(self._weights[-layer + 1].T, delta) * sigmoid_prime(zs[-layer])
            nabla_b.insert(0, delta)
            nabla_w.insert(0, np.dot(delta, activations[-layer - 1].T))
        return nabla_b, nabla_w


def sigmoid(z: Array) -> Array:
    """σ(z)."""
    a: Array = 1.0 / (1.0 + np.exp(-z))
    return a


def sigmoid_prime(z: Array) -> Array:
    """σ'(z)."""
    slope: Array = sigmoid(z) * (1 - sigmoid(z))
    return slope
