import copy
import hashlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mnist_core import InvalidValue, Network
from mnist_core.architecture import Architecture


def network(*sizes: int, seed: int = 0, **options: Any) -> Network:
    return Network.initialize(sizes, rng=np.random.default_rng(seed), **options)


def test_the_books_network_worked_by_hand() -> None:
    # [2, 3, 1]; weights (I, O) of the hidden layer, its biases, then weights and bias of the output.
    # x = (1, 0): z = first row of weights + biases = (ln 3, 0, -ln 3), a = (3/4, 1/2, 1/4),
    # z' = 3/4 * 4 + 1/2 * 2 + 1/4 * -16 + b = b = ln 3, a' = 3/4.
    ln3 = math.log(3)
    parameters = [ln3 - 1, 0, -ln3, 5, 6, 7, 1, 0, 0, 4, 2, -16, ln3]
    net = Network((2, 3, 1), "sigmoid", "sigmoid", np.array(parameters))
    np.testing.assert_allclose(net.forward(np.array([[1.0, 0.0]])), [[0.75]], rtol=1e-15)
    np.testing.assert_allclose(net.forward(np.array([[255, 0]], np.uint8)), [[0.75]], rtol=1e-15)


def test_layers_are_views_of_the_flat_parameters() -> None:
    net = network(2, 3, 1)
    assert net.parameters.shape == (13,) == (Architecture.of_sizes((2, 3, 1)).parameters,)
    assert [layer.weights.shape for layer in net.layers] == [(2, 3), (3, 1)]
    assert [layer.biases.shape for layer in net.layers] == [(3,), (1,)]
    net.parameters[:] = range(13)
    np.testing.assert_array_equal(net.layers[0].weights, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(net.layers[0].biases, [6, 7, 8])
    np.testing.assert_array_equal(net.layers[1].block.ravel(), [9, 10, 11, 12])


def test_initialization_is_standard_normal_and_scaled_by_the_inputs() -> None:
    normal = network(400, 300, 10)
    scaled = network(400, 300, 10, initialization="scaled")
    for layer in normal.layers:
        assert abs(float(layer.weights.mean())) < 0.1
        assert float(layer.weights.std()) == pytest.approx(1, abs=0.05)
    for one, other in zip(normal.layers, scaled.layers, strict=True):
        np.testing.assert_allclose(other.weights, one.weights / math.sqrt(len(one.weights)), rtol=1e-6)
        np.testing.assert_array_equal(other.biases, one.biases)


def test_initialization_for_relu_is_scaled_by_half_of_the_inputs_and_has_no_biases() -> None:
    normal = network(400, 300, 10)
    he = network(400, 300, 10, initialization="he")
    for one, other in zip(normal.layers, he.layers, strict=True):
        np.testing.assert_allclose(other.weights, one.weights / math.sqrt(len(one.weights) / 2), rtol=1e-6)
        np.testing.assert_array_equal(other.biases, 0)


def test_a_seed_is_one_network_in_both_dtypes() -> None:
    single, double = network(5, 4, 3), network(5, 4, 3, dtype="float64")
    assert (single.dtype.name, double.dtype.name) == ("float32", "float64")
    np.testing.assert_array_equal(single.parameters, double.parameters.astype(np.float32))
    assert network(5, 4, 3, seed=1).weights_hash() != single.weights_hash()


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("sizes", [(6, 4), (6, 5, 4), (6, 7, 5, 4)])
def test_probabilities_sum_to_1_and_keep_the_order_of_the_outputs(
    sizes: tuple[int, ...], activation: str, output: str
) -> None:
    net = network(*sizes, activation=activation, output=output)
    images = np.random.default_rng(1).integers(0, 256, (50, 2, 3), np.uint8)
    outputs, probabilities = net.forward(images), net.predict(images)
    assert probabilities.shape == (50, 4)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), outputs.argmax(axis=1))
    if output == "softmax":
        np.testing.assert_array_equal(probabilities, outputs)
    else:
        np.testing.assert_allclose(probabilities, outputs / outputs.sum(axis=1, keepdims=True), rtol=1e-6)


def test_sigmoid_outputs_that_are_all_0_are_uniform() -> None:
    net = Network((1, 4), "sigmoid", "sigmoid", np.array([-1e6] * 4 + [0] * 4, np.float32))
    np.testing.assert_array_equal(net.predict(np.array([[1.0], [0.0]])), [[0.25] * 4, [0.25] * 4])
    np.testing.assert_array_equal(net.forward(np.array([[1.0]])), [[0] * 4])


def test_images_may_be_bytes_or_floats_flat_or_not() -> None:
    net = network(6, 5, 3)
    images = np.random.default_rng(2).integers(0, 256, (8, 2, 3), np.uint8)
    expected = net.predict(images)
    np.testing.assert_array_equal(net.predict(images.reshape(8, 6)), expected)
    for dtype in (np.float16, np.float32, np.float64):
        tolerance = 1e-2 if dtype == np.float16 else 1e-5
        np.testing.assert_allclose(net.predict((images / 255).astype(dtype)), expected, atol=tolerance)
    assert net.predict(images[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 5), np.uint8),
        np.zeros(6, np.uint8),
        np.zeros((2, 2, 2), np.uint8),
        np.zeros((1, 1, 2, 3), np.uint8),
        np.zeros((2, 6), np.int64),
        np.zeros((2, 6), bool),
    ],
)
def test_images_of_another_size_or_type_are_refused(images: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match=r"^images: "):
        network(6, 5, 3).predict(images)


@pytest.mark.parametrize(
    ("sizes", "activation", "output", "parameters", "field"),
    [
        ((3,), "sigmoid", "sigmoid", np.zeros(0, np.float32), "sizes"),
        ((), "sigmoid", "sigmoid", np.zeros(0, np.float32), "sizes"),
        ((2, 0), "sigmoid", "sigmoid", np.zeros(0, np.float32), "sizes"),
        ((2, -1), "sigmoid", "sigmoid", np.zeros(0, np.float32), "sizes"),
        ((10**6, 10**6), "sigmoid", "sigmoid", np.zeros(0, np.float32), "sizes"),
        ((2, 1), "softmax", "sigmoid", np.zeros(3, np.float32), "activation"),
        ((2, 1), "sigmoid", "tanh", np.zeros(3, np.float32), "output"),
        ((2, 1), "sigmoid", "sigmoid", np.zeros(4, np.float32), "parameters"),
        ((2, 1), "sigmoid", "sigmoid", np.zeros((1, 3), np.float32), "parameters"),
        ((2, 1), "sigmoid", "sigmoid", np.zeros(3, np.float16), "parameters"),
    ],
)
def test_what_makes_no_network_is_refused(
    sizes: tuple[int, ...], activation: Any, output: Any, parameters: Any, field: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        Network(sizes, activation, output, parameters)
    assert caught.value.field == field


def test_a_network_too_large_is_refused_before_it_is_drawn() -> None:
    with pytest.raises(InvalidValue, match="100000000 parameters"):
        network(10**6, 10**6)
    with pytest.raises(InvalidValue, match=r"^initialization: "):
        network(2, 1, initialization="uniform")


def test_weights_hash_is_of_the_little_endian_bytes() -> None:
    net = Network((1, 1), "sigmoid", "sigmoid", np.array([1, -2], np.float32))
    assert net.weights_hash() == hashlib.sha256(bytes.fromhex("0000803f000000c0")).hexdigest()


def test_a_frozen_network_cannot_be_changed() -> None:
    net = network(2, 3, 1).freeze()
    for array in (net.parameters, net.layers[0].weights, net.layers[1].biases):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_a_deep_copy_has_layers_of_its_own() -> None:
    net = network(2, 3, 1)
    other = copy.deepcopy(net)
    other.layers[0].weights[...] = 0
    assert not np.shares_memory(other.parameters, net.parameters)
    assert other.parameters[0] == 0 != net.parameters[0]
    assert (other.sizes, other.activation, other.output) == (net.sizes, net.activation, net.output)


def test_threads_predict_at_once_and_get_the_same() -> None:
    net = network(784, 30, 10).freeze()
    images = np.random.default_rng(3).integers(0, 256, (200, 784), np.uint8)
    expected = net.predict(images)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: net.predict(images), range(40)):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_floats_of_any_bits_raise_nothing_and_leave_the_others_alone(output: Any) -> None:
    net = network(6, 5, 3, activation="relu", output=output)
    good = np.random.default_rng(6).random((1, 6))
    strange = np.array([[np.nan] * 6, [np.inf, -np.inf] * 3, [1e300] * 6, [-1e38, 1e38] * 3, [5e-324] * 6])
    probabilities = net.predict(np.concatenate([strange, good]))
    np.testing.assert_allclose(probabilities[-1:], net.predict(good), rtol=1e-6)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_widened_it_says_the_same(activation: Any, output: Any) -> None:
    rng = np.random.default_rng(5)
    network = Network.initialize((6, 5, 8, 3, 2), activation=activation, output=output, rng=rng)
    wide = network.widened()
    assert wide.sizes == (6, 8, 8, 4, 2)
    images = rng.random((7, 6), np.float32)
    np.testing.assert_allclose(wide.forward(images), network.forward(images), rtol=1e-5, atol=1e-7)
    assert wide.widened() is wide
    # Inputs and classes are the images' and the labels'.
    assert Network.initialize((5, 3), rng=rng).widened().sizes == (5, 3)
