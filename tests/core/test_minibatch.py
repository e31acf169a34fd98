import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core import Network
from mnist_core.loss import losses
from mnist_core.minibatch import MiniBatch

EXAMPLES = 7


def targets_for(output: str, classes: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Arbitrary targets from 0 to 1, for softmax summing to 1."""
    targets = rng.random((EXAMPLES, classes))
    return targets / targets.sum(axis=1, keepdims=True) if output == "softmax" else targets


CASES = list(
    itertools.product(["sigmoid", "tanh", "relu"], ["sigmoid", "softmax"], ["quadratic", "cross_entropy"])
)


@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), (6, 5, 4, 3), (2, 3, 2), (1, 1, 2)])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(("activation", "output", "loss"), CASES)
def test_gradient_is_the_slope_of_the_loss_in_any_direction(
    activation: Any, output: Any, loss: Any, decay: float, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(11)
    network = Network.initialize(
        sizes, activation=activation, output=output, initialization="scaled", dtype="float64", rng=rng
    )
    images = rng.integers(0, 256, (20, sizes[0]), np.uint8)
    chosen = rng.choice(20, EXAMPLES, replace=False)
    targets = targets_for(output, sizes[-1], rng)
    if activation == "relu":
        _assert_away_from_the_kink(network, images[chosen])

    gradient = np.empty_like(network.parameters)
    batch = MiniBatch(network, loss, EXAMPLES, gradient, scale=1 / EXAMPLES, decay=decay)
    outputs = np.empty((EXAMPLES, sizes[-1]))
    batch.forward(images[chosen], outputs)
    batch.backward(outputs, targets)

    def objective(parameters: NDArray[Any]) -> float:
        other = Network(sizes, activation, output, parameters)
        penalty = sum(float((layer.weights**2).sum()) for layer in other.layers)
        mean = losses(loss, output, other.forward(images[chosen]), targets).mean()
        return float(mean) + 0.5 * decay * penalty

    for _ in range(5):
        direction = rng.standard_normal(network.parameters.shape)
        step = 1e-5 * direction / np.linalg.norm(direction)
        slope = (objective(network.parameters + step) - objective(network.parameters - step)) / 2
        assert float(gradient @ step) == pytest.approx(slope, rel=1e-6, abs=1e-13)


def _assert_away_from_the_kink(network: Network, images: NDArray[np.uint8]) -> None:
    a = images / 255
    for layer in network.layers[:-1]:
        z = a @ layer.weights + layer.biases
        assert np.abs(z).min() > 5e-5  # the steps are of 1e-5
        a = np.maximum(z, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_forward_agrees_with_the_networks_own(output: Any, dtype: str) -> None:
    rng = np.random.default_rng(12)
    network = Network.initialize((12, 9, 8, 5), activation="tanh", output=output, dtype=dtype, rng=rng)
    images = rng.integers(0, 256, (EXAMPLES, 12), np.uint8)
    outputs = np.empty((EXAMPLES, 5), dtype)
    batch = MiniBatch(network, "quadratic", EXAMPLES, np.empty_like(network.parameters), scale=1.0)
    for order in (np.arange(EXAMPLES), np.arange(EXAMPLES)[::-1].copy()):
        batch.forward(images[order], outputs)
        tolerance = 20 * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(outputs, network.forward(images[order]), rtol=tolerance, atol=tolerance)
