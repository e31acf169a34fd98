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
from mnist_core.dropout import Mask
from mnist_core.loss import OutputError
from mnist_core.network import Network
from mnist_core.product import product
from mnist_core.stage import Stages

Call = Callable[[], object]


@dataclass(slots=True)
class _Pass:
    """What a dense layer of I inputs and O outputs does while B examples go through it."""

    weigh: Call  # z = a w + b, times the factor that its activation asks for
    a: Array  # (B, O), z at first, then a hidden layer's activations
    above: Array | None  # (B, O), the next layer's inputs without the last column; None for the output layer
    mask: Mask | None  # what dropout leaves of them
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
    whole, and scale = -η/B, it is a step of gradient descent. Mini-batches may share `into`. Gradients of
    convolutions are added to all that is there (keep = 1), and have no penalty.

    in_numpy: products are NumPy's, which lets other threads compute meanwhile: see `product`.
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
        in_numpy: bool = False,
    ) -> None:
        dtype = network.dtype
        architecture = network.architecture
        stages = len(architecture.stages)
        blocks, there = network.layers[stages:], architecture.blocks(into)
        sizes = architecture.dense
        self._decay = np.asarray(decay, dtype)
        self._hidden = ACTIVATIONS[network.activation](dtype)
        self._output = OUTPUTS[network.output](dtype)
        self._output_error = OutputError(loss, network.output, dtype)
        inputs = [np.ones((examples, size + 1), dtype) for size in sizes[:-1]]
        units = [1.0] * len(inputs)
        if not stages:
            # Pixels stay 0 to 255; what 1 in the inputs is worth is a matter of the products.
            inputs[0][:, -1] = 255
            units[0] = 1 / 255
        factors = [*[self._hidden.factor] * (len(inputs) - 1), self._output.factor]
        masks = [
            Mask(examples, size, rate, dtype) if rate else None
            for size, rate in zip(sizes, architecture.dropout, strict=False)
        ]
        self._masks = [mask for mask in masks if mask is not None]
        self._first_mask = masks[0]
        deltas = [np.empty((examples, size), dtype) for size in sizes[1:]]
        self._layers = []
        for index, (layer, gradient) in enumerate(zip(blocks, there[stages:], strict=True)):
            a, delta = np.empty_like(deltas[index]), deltas[index]
            self._layers.append(
                _Pass(
                    weigh=product(
                        inputs[index], layer.block, a, scale=units[index] * factors[index], in_numpy=in_numpy
                    ),
                    a=a,
                    above=inputs[index + 1][:, :-1] if index + 1 < len(inputs) else None,
                    mask=masks[index + 1] if index + 1 < len(inputs) else None,
                    slope=np.empty_like(delta),
                    delta=delta,
                    send_back=(
                        product(delta, layer.weights.T, deltas[index - 1], in_numpy=in_numpy)
                        if index
                        else None
                    ),
                    add=product(
                        inputs[index].T,
                        delta,
                        gradient.block,
                        scale=scale * units[index],
                        keep=keep,
                        in_numpy=in_numpy,
                    ),
                    weights=layer.weights,
                    into=gradient.weights,
                    decayed=np.empty_like(layer.weights) if decay else None,
                )
            )
        self._first = inputs[0][:, :-1]
        self._last = self._layers[-1]
        self._downwards = list(zip(self._layers[::-1], [*self._layers[-2::-1], None], strict=True))
        self._stages: Stages | None = None
        if stages:
            self._stages = Stages(architecture, network.layers, there, self._hidden, examples, scale=scale)
            self._features_delta = np.empty((examples, sizes[0]), dtype)
            self._to_features = product(
                deltas[0], blocks[0].weights.T, self._features_delta, in_numpy=in_numpy
            )

    def forward(
        self, images: NDArray[np.uint8], outputs: Array, rng: np.random.Generator | None = None
    ) -> None:
        """Writes the network's outputs (B, C) for images (B, I).

        rng: draws what dropout leaves out; without one, what was left out before.
        """
        if rng is not None:
            for mask in self._masks:
                mask.draw(rng)
        if self._stages is None:
            self._first[...] = images
        else:
            self._stages.forward(images, self._first)
        if self._first_mask is not None:
            np.multiply(self._first, self._first_mask.values, self._first)
        for layer in self._layers:
            layer.weigh()  # z = a w + b
            if layer.above is not None:
                self._hidden.of_scaled(layer.a, layer.a)  # a = σ(z)
                if layer.mask is None:
                    layer.above[...] = layer.a
                else:
                    np.multiply(layer.a, layer.mask.values, layer.above)
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
                if below.mask is not None:
                    np.multiply(below.delta, below.mask.values, below.delta)
            if layer.decayed is not None:
                np.multiply(layer.weights, self._decay, layer.decayed)
            # BP4, ∂/∂w = aᵀ δ, and in the row of the biases, whose input is 1, BP3: ∂/∂b = Σ δ
            layer.add()
            if layer.decayed is not None:
                np.add(layer.into, layer.decayed, layer.into)
        if self._stages is not None:
            self._to_features()
            if self._first_mask is not None:
                np.multiply(self._features_delta, self._first_mask.values, self._features_delta)
            self._stages.backward(self._features_delta)
