import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core.activation import ACTIVATIONS, Array, Sigmoid, softmax

DTYPES = [np.float32, np.float64]


def sigmoid(z: float, dtype: type) -> float:
    out: Array = np.array([[z]], dtype)
    with np.errstate(over="ignore"):
        Sigmoid(out.dtype).apply(out, out)
    return float(out[0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("z", [-80.0, -30.0, -5.0, -1e-3, 0.0, 1e-3, 5.0, 30.0, 80.0])
def test_sigmoid_is_accurate_relative_to_its_size(z: float, dtype: type) -> None:
    exact = math.exp(z) / (1 + math.exp(z))  # exact where z < 0, and where it is near 1
    # exp's relative error grows with |z|, by half an epsilon for each unit of z's own rounding.
    assert sigmoid(z, dtype) == pytest.approx(exact, rel=(4 + abs(z)) * float(np.finfo(dtype).eps), abs=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_of_huge_inputs_is_0_or_1(dtype: type) -> None:
    assert [sigmoid(z, dtype) for z in (-math.inf, -1e30, 1e30, math.inf)] == [0, 0, 1, 1]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slope_is_the_derivative(name: str) -> None:
    activation = ACTIVATIONS[name](np.dtype(np.float64))
    z = np.array([[-3.0, -0.7, 0.4, 2.5]])

    def apply(z: NDArray[np.float64]) -> NDArray[np.float64]:
        out = np.empty_like(z)
        activation.apply(z.copy(), out)
        return out

    slope = np.empty_like(z)
    activation.slope(apply(z), slope)
    np.testing.assert_allclose(slope, (apply(z + 1e-6) - apply(z - 1e-6)) / 2e-6, rtol=1e-8, atol=1e-9)


def test_values_that_are_known() -> None:
    z = np.array([[-1.0, 0.0, 2.0]])
    known = {
        "sigmoid": [1 / (1 + math.e), 0.5, 1 / (1 + math.exp(-2))],
        "tanh": [math.tanh(-1), 0.0, math.tanh(2)],
        "relu": [0.0, 0.0, 2.0],
    }
    assert set(known) == set(ACTIVATIONS)
    for name, expected in known.items():
        out = np.empty_like(z)
        ACTIVATIONS[name](z.dtype).apply(z.copy(), out)
        np.testing.assert_allclose(out, [expected], rtol=1e-14)


def test_softmax_sums_to_1_and_does_not_overflow() -> None:
    z = np.array([[0.0, math.log(2), math.log(5)], [1e30, 1e30, -1e30]])
    out = np.empty_like(z)
    softmax(z, out)
    np.testing.assert_allclose(out, [[1 / 8, 2 / 8, 5 / 8], [0.5, 0.5, 0]], rtol=1e-14)
