"""An optimizer turns the gradient of a mini-batch into a step of all parameters at once."""

import math
from collections.abc import Callable

import numpy as np

from mnist_core.activation import Array
from mnist_core.configuration import TrainingConfig
from mnist_core.network import Network

BETAS = (0.9, 0.99)
"""How much AdamW keeps, a step, of its means of gradients and of their squares."""
_EPSILON = 1e-8
# Numbers worked on at a time: what lies between the operations stays in a core's cache.
_CHUNK = 2**15

# Takes a gradient (P,), which it may overwrite, a learning rate, and how many steps there were before.
Step = Callable[[Array, float, int], None]


def optimizer(
    network: Network, velocity: Array | None, moments: Array | None, config: TrainingConfig
) -> Step:
    """Returns what takes a step with a gradient of the mean loss, first shortened to config.clip_norm."""
    step = _adamw(network, moments, config) if moments is not None else _sgd(network, velocity, config)
    norm = config.clip_norm
    if norm is None:
        return step

    def clipped(gradient: Array, rate: float, steps: int) -> None:
        length = math.sqrt(float(np.dot(gradient, gradient)))
        if length > norm:
            np.multiply(gradient, np.asarray(norm / length, gradient.dtype), out=gradient)
        step(gradient, rate, steps)

    return clipped


def _sgd(network: Network, velocity: Array | None, config: TrainingConfig) -> Step:
    """w -> w - η (∇ + λ w); with momentum v -> μ v - η (∇ + λ w), w -> w + v (Nielsen ch. 3, eq. 107)."""
    parameters, architecture = network.parameters, network.architecture
    keep = np.asarray(config.momentum, network.dtype)
    decay = np.asarray(config.weight_decay, network.dtype)

    def step(gradient: Array, rate: float, steps: int) -> None:
        if config.weight_decay:
            for layer, there in zip(network.layers, architecture.blocks(gradient), strict=True):
                np.add(there.weights, layer.weights * decay, out=there.weights)
        np.multiply(gradient, np.asarray(-rate, gradient.dtype), out=gradient)
        if velocity is None:
            np.add(parameters, gradient, out=parameters)
        else:
            np.multiply(velocity, keep, out=velocity)
            np.add(velocity, gradient, out=velocity)
            np.add(parameters, velocity, out=parameters)

    return step


def _adamw(network: Network, moments: Array, config: TrainingConfig) -> Step:
    """m -> β₁ m + (1 - β₁) ∇, v -> β₂ v + (1 - β₂) ∇², w -> w - η λ w - η m̂ / (√v̂ + ε), where
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) after t steps (Loshchilov and Hutter 2019, Decoupled Weight Decay
    Regularization, algorithm 2).
    """
    dtype = network.dtype
    means, squares = moments
    scratch = np.empty(min(_CHUNK, network.parameters.size), dtype)
    fresh = [np.asarray(1 - beta, dtype) for beta in BETAS]

    def step(gradient: Array, rate: float, steps: int) -> None:
        if config.weight_decay:
            kept = np.asarray(1 - rate * config.weight_decay, dtype)
            for layer in network.layers:
                np.multiply(layer.weights, kept, out=layer.weights)
        # √v̂ + ε is (√v + ε √(1 - β₂ᵗ)) / √(1 - β₂ᵗ).
        first, second = (1 - beta ** (steps + 1) for beta in BETAS)
        size = np.asarray(rate * math.sqrt(second) / first, dtype)
        epsilon = np.asarray(_EPSILON * math.sqrt(second), dtype)
        for start in range(0, len(gradient), _CHUNK):
            part = slice(start, start + _CHUNK)
            g, m, v, w = gradient[part], means[part], squares[part], network.parameters[part]
            s = scratch[: len(g)]
            np.subtract(g, m, out=s)
            np.multiply(s, fresh[0], out=s)
            np.add(m, s, out=m)
            np.multiply(g, g, out=s)
            np.subtract(s, v, out=s)
            np.multiply(s, fresh[1], out=s)
            np.add(v, s, out=v)
            np.sqrt(v, out=s)
            np.add(s, epsilon, out=s)
            np.divide(m, s, out=s)
            np.multiply(s, size, out=s)
            np.subtract(w, s, out=w)

    return step
