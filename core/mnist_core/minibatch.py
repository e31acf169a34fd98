"""A mini-batch is some examples going through a network together: activations forward, errors back.

Nielsen, Neural Networks and Deep Learning, chapter 2, for B examples at once. Rows are examples, so what the
book sums over a mini-batch is a product of matrices here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import ACTIVATIONS, OUTPUTS, Array
from mnist_core.configuration import Loss
from mnist_core.loss import OutputError
from mnist_core.network import Network, layers_of
from mnist_core.product import product

Call = Callable[[], object]


@dataclass(slots=True)
class _Pass:
    """What a layer of I inputs and O outputs does while B examples go through it."""

    weigh: Call  # z = a w + b, times the factor that its activation asks for
    a: Array  # (B, O), z at first, then a hidden layer's activations
    above: Array | None  # (B, O), the next layer's inputs without the last column; None for the output layer
    slope: Array  # (B, O), σ'(z)
    delta: Array  # (B, O), errors δ = ∂loss/∂z
    send_back: Call | None  # δ wᵀ, into the delta of the layer below; None for the first layer
    add: Call  # scale x aᵀ δ, added to what is kept of `into`
    weights: Array  # (I, O)
    into: Array  # (I, O), where the weights' gradient goes
    decayed: Array | None  # (I, O), what the penalty adds to it; None for nothing


class MiniBatch:
    """B examples in a network; everything between pixels and gradient is allocated here, once.

    `backward` adds a gradient to `keep` x what is in `into`, (P,), which lies as the parameters do: `scale` x
    the sum of the examples' gradients and `decay` x the weights. With scale = 1/B, decay = weight_decay and
    nothing kept, that is the gradient of the mean loss with its penalty; with the parameters themselves, kept
    whole, and scale = -η/B, it is a step of gradient descent. Mini-batches may share `into`.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        examples: int,
        into: Array,
        *,
        scale: float,
        decay: float = 0.0,
        keep: float = 0.0,
    ) -> None:
        dtype = network.dtype
        self._decay = np.asarray(decay, dtype)
        self._hidden = ACTIVATIONS[network.activation](dtype)
        self._output = OUTPUTS[network.output](dtype)
        self._output_error = OutputError(loss, network.output, dtype)
        inputs = [np.ones((examples, size + 1), dtype) for size in network.sizes[:-1]]
        # Pixels stay 0 to 255; what 1 in the inputs is worth is a matter of the products.
        inputs[0][:, -1] = 255
        units = [1 / 255, *[1.0] * (len(inputs) - 1)]
        factors = [*[self._hidden.factor] * (len(inputs) - 1), self._output.factor]
        deltas = [np.empty((examples, size), dtype) for size in network.sizes[1:]]
        self._layers = []
        for index, (layer, there) in enumerate(
            zip(network.layers, layers_of(network.sizes, into), strict=True)
        ):
            a, delta = np.empty_like(deltas[index]), deltas[index]
            self._layers.append(
                _Pass(
                    weigh=product(inputs[index], layer.block, a, scale=units[index] * factors[index]),
                    a=a,
                    above=inputs[index + 1][:, :-1] if index + 1 < len(inputs) else None,
                    slope=np.empty_like(delta),
                    delta=delta,
                    send_back=product(delta, layer.weights.T, deltas[index - 1]) if index else None,
                    add=product(inputs[index].T, delta, there.block, scale=scale * units[index], keep=keep),
                    weights=layer.weights,
                    into=there.weights,
                    decayed=np.empty_like(layer.weights) if decay else None,
                )
            )
        self._pixels = inputs[0][:, :-1]
        self._last = self._layers[-1]
        self._downwards = list(zip(self._layers[::-1], [*self._layers[-2::-1], None], strict=True))

    def forward(self, images: NDArray[np.uint8], outputs: Array) -> None:
        """Writes the network's outputs (B, C) for images (B, I)."""
        self._pixels[...] = images
        for layer in self._layers:
            layer.weigh()  # z = a w + b
            if layer.above is not None:
                self._hidden.of_scaled(layer.a, layer.a)  # a = σ(z)
                layer.above[...] = layer.a
        self._output.of_scaled(self._last.a, outputs)

    def backward(self, outputs: Array, targets: Array) -> None:
        """Adds the gradient, given what `forward` wrote and what it should have, both (B, C)."""
        last = self._last
        self._output_error.write(outputs, targets, last.delta, last.slope)  # BP1: δ = ∇ₐ ⊙ σ'(z)
        for layer, below in self._downwards:
            if below is not None and layer.send_back is not None:
                layer.send_back()  # BP2: δ = δ⁺ wᵀ ...
                self._hidden.slope(below.a, below.slope)
                np.multiply(below.delta, below.slope, below.delta)  # ... ⊙ σ'(z)
            if layer.decayed is not None:
                np.multiply(layer.weights, self._decay, layer.decayed)
            # BP4, ∂/∂w = aᵀ δ, and in the row of the biases, whose input is 1, BP3: ∂/∂b = Σ δ
            layer.add()
            if layer.decayed is not None:
                np.add(layer.into, layer.decayed, layer.into)
