from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate

from mnist_core import Network
from mnist_core.architecture import MAX_NUMBERS, Architecture
from mnist_core.layer import Convolution, Dense, Dropout, Layer, MaxPool
from mnist_core.loss import losses
from mnist_core.minibatch import MiniBatch
from mnist_core.stage import EXAMPLES, examples_at_a_time

EXAMPLES_LEARNT = 5
ARCHITECTURES: dict[str, tuple[tuple[int, int], list[Layer]]] = {
    "one": ((5, 6), [Convolution(3, 2)]),
    "pooled": ((6, 5), [Convolution(2, 3), MaxPool()]),
    "odd, so that pooling leaves some out": ((7, 8), [Convolution(3, 2), MaxPool(), Dense(4)]),
    "two": ((12, 11), [Convolution(3, 3), MaxPool(), Convolution(4, 2), MaxPool(), Dense(5)]),
    "two, the first not pooled": ((7, 7), [Convolution(2, 3), Convolution(3, 2), MaxPool()]),
    "three": ((9, 9), [Convolution(2, 2), Convolution(3, 2), Convolution(2, 3), Dense(3)]),
    "kernels as large as the image": ((4, 4), [Convolution(3, 4), Dense(3)]),
    "kernels of one pixel": ((4, 4), [Convolution(3, 1), MaxPool()]),
    "dropout": ((6, 6), [Convolution(3, 3), MaxPool(), Dropout(0.3), Dense(6), Dropout(0.5), Dense(4)]),
}


def textbook(network: Network, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The outputs of a network, by SciPy's correlation and plain loops, in float64."""
    functions: dict[str, Callable[[Any], Any]] = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    }
    f = functions[network.activation]
    stages = network.architecture.stages
    outputs = []
    for image in images:
        maps = [image.astype(np.float64) / 255]
        for stage, layer in zip(stages, network.layers, strict=False):
            kernels = layer.weights.reshape(stage.size, stage.size, stage.channels, stage.features)
            found = []
            for feature in range(stage.features):
                z = sum(correlate(a, kernels[:, :, c, feature], "valid") for c, a in enumerate(maps))
                z = f(z + layer.biases[feature])
                if stage.pooled:
                    rows, columns = z.shape[0] // 2, z.shape[1] // 2
                    z = np.array(
                        [
                            [z[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max() for j in range(columns)]
                            for i in range(rows)
                        ]
                    )
                found.append(z)
            maps = found
        a = np.stack(maps, axis=-1).ravel()  # row by row, column by column, feature by feature
        dense = network.layers[len(stages) :]
        for layer in dense:
            z = a @ layer.weights + layer.biases
            a = z if layer is dense[-1] else f(z)
        outputs.append(np.exp(a) / np.exp(a).sum())
    return np.array(outputs)


def network_of(name: str, activation: Any, dtype: str, seed: int = 21) -> Network:
    image, layers = ARCHITECTURES[name]
    return Network.initialize(
        Architecture.of_layers(image, layers, 3),
        activation=activation,
        output="softmax",
        initialization="scaled",
        dtype=dtype,
        rng=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_forward_agrees_with_the_textbook(name: str, activation: Any) -> None:
    network = network_of(name, activation, "float64")
    images = np.random.default_rng(22).integers(0, 256, (4, *ARCHITECTURES[name][0]), np.uint8)
    expected = textbook(network, images)
    np.testing.assert_allclose(network.forward(images), expected, rtol=1e-12)
    np.testing.assert_allclose(network.forward(images / 255), expected, rtol=1e-12)
    np.testing.assert_allclose(network.predict(images[0:1]), expected[0:1], rtol=1e-12)
    single = network_of(name, activation, "float32")
    np.testing.assert_allclose(single.forward(images), expected, rtol=1e-5)
    assert single.forward(images).dtype == np.float32


def test_any_number_of_images_gives_what_each_gives_alone() -> None:
    network = network_of("two", "relu", "float32")
    images = np.random.default_rng(23).integers(0, 256, (2 * EXAMPLES + 1, 12, 11), np.uint8)
    together = network.forward(images)
    for index in (0, EXAMPLES - 1, EXAMPLES, 2 * EXAMPLES):
        np.testing.assert_allclose(network.forward(images[index : index + 1])[0], together[index], atol=1e-5)
    assert network.forward(images[:0]).shape == (0, 3)


def test_widening_changes_no_output() -> None:
    network = network_of("two", "tanh", "float64")
    wide = network.widened()
    assert wide.architecture.dense[1] == 8
    images = np.random.default_rng(24).integers(0, 256, (3, 12, 11), np.uint8)
    np.testing.assert_allclose(wide.forward(images), network.forward(images), rtol=1e-12)


def test_few_images_go_together_where_each_has_many_numbers() -> None:
    small = Architecture.of_layers((28, 28), [Convolution(20, 5), MaxPool()], 10)
    large = Architecture.of_layers((256, 256), [Convolution(32, 5)], 2)
    assert examples_at_a_time(small) == EXAMPLES
    assert large.numbers <= MAX_NUMBERS
    assert examples_at_a_time(large) == MAX_NUMBERS // (252 * 252 * 32) == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_gradient_is_the_slope_of_the_loss_in_any_direction(name: str, activation: Any) -> None:
    rng = np.random.default_rng(25)
    network = network_of(name, activation, "float64")
    images = rng.integers(0, 256, (EXAMPLES_LEARNT, *ARCHITECTURES[name][0]), np.uint8)
    rows = images.reshape(EXAMPLES_LEARNT, -1)
    targets = np.eye(3)[rng.integers(0, 3, EXAMPLES_LEARNT)]
    outputs = np.empty((EXAMPLES_LEARNT, 3))

    def batch_of(parameters: NDArray[Any], into: NDArray[Any]) -> MiniBatch:
        other = Network(network.architecture, activation, "softmax", parameters)
        batch = MiniBatch(
            other, "cross_entropy", EXAMPLES_LEARNT, into, scale=1 / EXAMPLES_LEARNT, keep=1, in_numpy=True
        )
        batch.forward(rows, outputs, np.random.default_rng(26))  # the same dropout each time
        return batch

    gradient = np.zeros_like(network.parameters)
    batch_of(network.parameters, gradient).backward(outputs, targets)

    def objective(parameters: NDArray[Any]) -> float:
        batch_of(parameters, np.empty_like(gradient))
        return float(losses("cross_entropy", "softmax", outputs, targets).mean())

    for _ in range(5):
        direction = rng.standard_normal(network.parameters.shape)
        # A step so small that no largest of four, nor the sign of a weighted input, changes on it.
        step = 1e-6 * direction / np.linalg.norm(direction)
        slope = (objective(network.parameters + step) - objective(network.parameters - step)) / 2
        assert float(gradient @ step) == pytest.approx(slope, rel=1e-5, abs=1e-14)


def test_gradients_are_added_to_what_is_there() -> None:
    network = network_of("two", "relu", "float64")
    rng = np.random.default_rng(27)
    rows = rng.integers(0, 256, (EXAMPLES_LEARNT, 12 * 11), np.uint8)
    outputs, targets = np.empty((EXAMPLES_LEARNT, 3)), np.eye(3)[rng.integers(0, 3, EXAMPLES_LEARNT)]
    once, twice = np.zeros_like(network.parameters), np.ones_like(network.parameters)
    for into, times in ((once, 1), (twice, 2)):
        batch = MiniBatch(
            network, "cross_entropy", EXAMPLES_LEARNT, into, scale=0.25, keep=1.0, in_numpy=True
        )
        for _ in range(times):
            batch.forward(rows, outputs)
            batch.backward(outputs, targets)
    np.testing.assert_allclose(twice, 1 + 2 * once, rtol=1e-12, atol=1e-12)
    assert np.abs(once).max() > 1e-3


def test_where_several_are_largest_one_of_them_gets_the_error() -> None:
    # Ink everywhere: each place has the same weighted input. Were all four told, the kernel's gradient would
    # be four times as large.
    architecture = Architecture.of_layers((3, 3), [Convolution(1, 2), MaxPool()], 2)
    network = Network(architecture, "relu", "softmax", np.zeros(9))
    network.parameters[:] = [1, 1, 1, 1, 0, 1, 0, 0, 0]
    gradient = np.zeros(9)
    batch = MiniBatch(network, "cross_entropy", 1, gradient, scale=1.0, keep=1.0, in_numpy=True)
    outputs = np.empty((1, 2))
    batch.forward(np.full((1, 9), 255, np.uint8), outputs)
    batch.backward(outputs, np.array([[1.0, 0.0]]))
    # a = 4, z = (4, 0), p = (1 / (1 + e^-4), ...): δ of the output p - y, of a (p - y)_0, of each weight x 1.
    error = 1 / (1 + np.exp(-4.0)) - 1
    np.testing.assert_allclose(gradient, [*[error] * 5, 4 * error, -4 * error, error, -error], rtol=1e-12)
