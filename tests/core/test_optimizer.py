import dataclasses
import math

import numpy as np
import pytest

from mnist_core import Network, TrainingConfig
from mnist_core.optimizer import BETAS, optimizer

CONFIG = TrainingConfig(hidden_sizes=(), classes=2, dtype="float64", optimizer="adamw")
RATE = 0.1


def network_of(parameters: list[float]) -> Network:
    """Two weights and two biases: one input, two classes."""
    return Network((1, 2), "sigmoid", "sigmoid", np.array(parameters, np.float64))


def test_a_step_of_adamw_worked_by_hand() -> None:
    # The first step: m = 0.1 g, m̂ = g; v = 0.01 g², v̂ = g². w -> w - η λ w - η g / (|g| + ε): every number
    # moves by η = 0.1 against its gradient, whatever its size; weights lose η λ = 0.05 of themselves first.
    network = network_of([2, -4, 6, 8])
    step = optimizer(network, None, np.zeros((2, 4)), dataclasses.replace(CONFIG, weight_decay=0.5))
    step(np.array([3.0, -1e-3, 500, 0]), RATE, 0)
    np.testing.assert_allclose(network.parameters, [1.9 - 0.1, -3.8 + 0.1, 6 - 0.1, 8], rtol=1e-4)


def test_adamw_agrees_with_its_algorithm_over_many_steps() -> None:
    rng = np.random.default_rng(31)
    network = Network((200, 300), "sigmoid", "sigmoid", rng.standard_normal(201 * 300))  # more than one chunk
    config = dataclasses.replace(CONFIG, weight_decay=0.03)
    moments = np.zeros((2, network.parameters.size))
    step = optimizer(network, None, moments, config)
    theta = network.parameters.astype(np.float64)
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    decayed = np.ones(201 * 300)
    decayed[200 * 300 :] = 0  # not the biases
    for t in range(1, 20):
        g = rng.standard_normal(theta.size)
        rate = RATE / t
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g**2
        m_hat, v_hat = m / (1 - BETAS[0] ** t), v / (1 - BETAS[1] ** t)
        theta = theta - rate * 0.03 * theta * decayed - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
        step(g.copy(), rate, t - 1)
    np.testing.assert_allclose(network.parameters, theta, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(moments, [m, v], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_plain_descent_with_a_penalty_worked_by_hand(momentum: float) -> None:
    # -η (g + λ w) = -0.1 (1 + 0.5 x 2) = -0.2 for the first weight, -0.1 x 3 = -0.3 for the first bias; then
    # the same gradients again at w = 1.8, with half of the last step if there is momentum: -0.19 and -0.3.
    config = dataclasses.replace(CONFIG, optimizer="sgd", momentum=momentum, weight_decay=0.5)
    network = network_of([2, 0, 6, 8])
    velocity = np.zeros(4) if momentum else None
    step = optimizer(network, velocity, None, config)
    step(np.array([1.0, 0, 3, 0]), RATE, 0)
    np.testing.assert_allclose(network.parameters, [1.8, 0, 5.7, 8], rtol=1e-14)
    step(np.array([1.0, 0, 3, 0]), RATE, 1)
    carried = momentum * np.array([-0.2, 0, -0.3, 0])
    np.testing.assert_allclose(network.parameters, np.array([1.61, 0, 5.4, 8]) + carried, rtol=1e-14)


@pytest.mark.parametrize(
    ("norm", "expected"), [(10.0, [-3.0, 0, -4, 0]), (5.0, [-3.0, 0, -4, 0]), (1.0, [-0.6, 0, -0.8, 0])]
)
def test_a_longer_gradient_is_shortened(norm: float, expected: list[float]) -> None:
    network = network_of([0, 0, 0, 0])
    config = dataclasses.replace(CONFIG, optimizer="sgd", clip_norm=norm)
    optimizer(network, None, None, config)(np.array([3.0, 0, 4, 0]), 1.0, 0)
    np.testing.assert_allclose(network.parameters, expected, rtol=1e-14)


def test_what_is_no_number_stays_none() -> None:
    network = network_of([0, 0, 0, 0])
    config = dataclasses.replace(CONFIG, optimizer="sgd", clip_norm=1.0)
    with np.errstate(all="ignore"):
        optimizer(network, None, None, config)(np.array([math.nan, 0, 4, 0]), 1.0, 0)
    assert not np.isfinite(network.parameters).all()  # which training finds at the end of the epoch
