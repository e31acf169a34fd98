import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core.configuration import Loss, Output
from mnist_core.loss import OutputError, losses

A = np.array([[0.8, 0.4], [0.5, 0.5]])
Y = np.array([[1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(
    ("loss", "output", "expected"),
    [
        ("quadratic", "sigmoid", [0.5 * (0.04 + 0.16), 0.5 * (0.25 + 0.25)]),
        ("quadratic", "softmax", [0.5 * (0.04 + 0.16), 0.5 * (0.25 + 0.25)]),
        ("cross_entropy", "sigmoid", [-math.log(0.8) - math.log(0.6), -2 * math.log(0.5)]),
        ("cross_entropy", "softmax", [-math.log(0.8), -math.log(0.5)]),
    ],
)
def test_losses_worked_by_hand(loss: Loss, output: Output, expected: list[float]) -> None:
    np.testing.assert_allclose(losses(loss, output, A, Y), expected, rtol=1e-14)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_an_output_rounded_to_0_or_1_costs_a_finite_amount(output: Output) -> None:
    outputs = np.array([[0.0, 1.0]], np.float32)
    wrong = losses("cross_entropy", output, outputs, np.array([[1.0, 0.0]], np.float32))
    right = losses("cross_entropy", output, outputs, np.array([[0.0, 1.0]], np.float32))
    assert 15 < wrong[0] < 40
    assert 0 <= right[0] < 1e-6


@pytest.mark.parametrize(
    ("loss", "output"), list(itertools.product(["quadratic", "cross_entropy"], ["sigmoid", "softmax"]))
)
def test_output_error_is_the_loss_by_z(loss: Loss, output: Output) -> None:
    z = np.array([[0.3, -1.2, 0.8]])
    y = np.array([[0.0, 1.0, 0.0]])

    def outputs(z: NDArray[np.float64]) -> NDArray[np.float64]:
        e = np.exp(z)
        a: NDArray[np.float64] = e / (1 + e) if output == "sigmoid" else e / e.sum()
        return a

    expected = []
    for step in np.eye(3) * 1e-6:
        above = losses(loss, output, outputs(z + step), y)
        below = losses(loss, output, outputs(z - step), y)
        expected.append((above - below) / 2e-6)
    delta = np.empty_like(z)
    OutputError(loss, output, z.dtype).write(outputs(z), y, delta, np.empty_like(z))
    np.testing.assert_allclose(delta, np.array(expected).T, rtol=1e-8)
