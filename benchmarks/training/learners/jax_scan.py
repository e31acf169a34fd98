"""JAX: one jit-compiled function an epoch, a lax.scan over its mini-batches, each gathered inside."""

from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data, initial_layers
from numpy.typing import NDArray

Layers = list[tuple[Any, Any]]


def forward(layers: Layers, images: Any) -> Any:
    """Returns the outputs (B, C) of images (B, I), uint8, before their sigmoid."""
    a = images.astype(jnp.float32) / 255
    *hidden, (weights, biases) = layers
    for w, b in hidden:
        a = jax.nn.sigmoid(a @ w + b)
    return a @ weights + biases


class Learner:
    """Parameters, images and labels on JAX's device, the processor."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        self.versions = {"jax": jax.__version__, "jaxlib": jaxlib.__version__}
        self._batch_size = configuration.batch_size
        self._rng = np.random.default_rng(0)
        self._layers: Layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in initial_layers(configuration)]
        self._images, self._labels = jnp.asarray(data.images), jnp.asarray(data.labels)

        def loss(layers: Layers, images: Any, labels: Any) -> Any:
            z, targets = forward(layers, images), jax.nn.one_hot(labels, 10)
            if configuration.loss == "quadratic":
                losses = (jax.nn.sigmoid(z) - targets) ** 2 / 2
            else:
                losses = -targets * jax.nn.log_sigmoid(z) - (1 - targets) * jax.nn.log_sigmoid(-z)
            return losses.sum() / len(images)

        def epoch(layers: Layers, images: Any, labels: Any, order: Any) -> Layers:
            def step(layers: Layers, indices: Any) -> tuple[Layers, None]:
                gradient = jax.grad(loss)(layers, images[indices], labels[indices])
                return jax.tree.map(lambda p, g: p - configuration.learning_rate * g, layers, gradient), None

            whole = len(order) // self._batch_size * self._batch_size
            layers, _ = jax.lax.scan(step, layers, order[:whole].reshape(-1, self._batch_size))
            if whole < len(order):
                layers, _ = step(layers, order[whole:])
            return layers

        self._epoch = jax.jit(epoch, donate_argnums=0)

    def epoch(self) -> None:
        """One call, and waiting for it."""
        order = self._rng.permutation(len(self._images)).astype(np.int32)
        self._layers = jax.block_until_ready(self._epoch(self._layers, self._images, self._labels, order))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the outputs before their sigmoid, which changes no order."""
        return np.asarray(forward(self._layers, jnp.asarray(images)))
