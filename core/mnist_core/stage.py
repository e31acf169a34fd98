"""A stage is a convolution, its pooling and its activation; stages follow each other up to the dense layers.

Pooling comes before bias and activation: both keep the order of numbers, so that the largest is the same one,
and there is a quarter of the numbers left to do it to.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import Activation, Array
from mnist_core.architecture import Architecture, Block, Stage
from mnist_core.convolution import Folding, KernelGradient, unfold, unfolded_shape, windows
from mnist_core.pooling import Pooling, max_pool

# Images that go through together: what lies between the steps stays in a core's cache.
EXAMPLES = 32
# Numbers that are in memory at a time: fewer images where each has many.
_NUMBERS = 2**22


def examples_at_a_time(architecture: Architecture) -> int:
    """Returns how many images go through the stages together, 1 to 32."""
    return max(1, min(EXAMPLES, _NUMBERS // max(1, architecture.numbers)))


def features(
    rows: NDArray[Any],
    architecture: Architecture,
    blocks: Sequence[Block],
    activation: Activation,
    unit: float,
) -> Array:
    """Returns what images (B, I) are to the dense layers, (B, F).

    F is row by row, column by column, feature by feature. unit: what 1 in the images is worth.
    """
    dtype = blocks[0].block.dtype
    found = np.empty((len(rows), architecture.dense[0]), dtype)
    together = examples_at_a_time(architecture)
    for start in range(0, len(rows), together):
        part = rows[start : start + together]
        first = architecture.stages[0]
        a = part.T.astype(dtype, order="C").reshape(first.height, 1, first.width, len(part))
        for stage, block in zip(architecture.stages, blocks, strict=False):
            unfolded = np.empty(unfolded_shape(stage, len(part)), dtype)
            unfold(a, stage, unfolded)
            weights = (
                np.multiply(block.weights.T, np.asarray(unit, dtype)) if stage is first else block.weights.T
            )
            z = np.matmul(weights, windows(unfolded, stage))
            z = z.reshape(stage.rows, stage.features, stage.columns, len(part))
            if stage.pooled:
                z = max_pool(z)
            np.add(z, block.biases[:, None, None], out=z)
            activation.apply(z, z)
            a = z
        found[start : start + together] = a.transpose(3, 0, 2, 1).reshape(len(part), -1)
    return found


class StageBatch:
    """B images at one stage of a network that learns; everything is allocated here, once."""

    def __init__(
        self,
        stage: Stage,
        images: Array,
        below: Array | None,
        block: Block,
        into: Block,
        activation: Activation,
        *,
        unit: float,
        scale: float,
    ) -> None:
        """images: (H, C, W, B), which what is below writes. below: where their errors go, if anybody asks.

        unit: what 1 in the images is worth. scale x gradients is added to `into`.
        """
        dtype, examples = images.dtype, images.shape[-1]
        self._stage, self._images, self._activation, self._block, self._into = (
            stage, images, activation, block, into,
        )  # fmt: skip
        self._unit, self._scale = np.asarray(unit, dtype), np.asarray(scale, dtype)
        self._unfolded = np.empty(unfolded_shape(stage, examples), dtype)
        self._windows = windows(self._unfolded, stage)
        z = np.empty((stage.rows, stage.features, stage.columns, examples), dtype)
        z_delta = np.empty_like(z)
        self._products = z.reshape(stage.rows, stage.features, -1)
        rows, columns, channels = stage.outputs
        self.a = np.empty((rows, channels, columns, examples), dtype) if stage.pooled else z
        """What comes out, (H', O, W', B)."""
        self.delta = np.empty_like(self.a) if stage.pooled else z_delta
        """Its errors, which what is above writes: ∂loss/∂a at first."""
        self._slope = np.empty_like(self.a)
        self._pooling = Pooling(z, self.a, self.delta, z_delta) if stage.pooled else None
        self._gradient = KernelGradient(stage, self._windows, z_delta, into.weights, scale * unit)
        self._folding = None if below is None else Folding(stage, block.weights, z_delta, below)

    def forward(self) -> None:
        """Writes what comes out."""
        unfold(self._images, self._stage, self._unfolded)
        weights = self._block.weights.T
        if self._unit != 1:
            weights = np.multiply(weights, self._unit)
        np.matmul(weights, self._windows, out=self._products)
        if self._pooling is not None:
            self._pooling.forward()
        np.add(self.a, self._block.biases[:, None, None], out=self.a)
        self._activation.apply(self.a, self.a)

    def backward(self) -> None:
        """Adds the gradient, and writes the errors of what is below."""
        self._activation.slope(self.a, self._slope)
        np.multiply(self.delta, self._slope, out=self.delta)  # BP2: ... ⊙ σ'(z)
        runs = self.delta.reshape(*self.delta.shape[:2], -1)
        biases = runs.sum(axis=2).sum(axis=0)  # BP3
        np.add(self._into.biases, np.multiply(biases, self._scale, out=biases), out=self._into.biases)
        if self._pooling is not None:
            self._pooling.send_back()
        self._gradient.add()
        if self._folding is not None:
            self._folding.send_back()


class Stages:
    """B images on their way through all stages of a network that learns."""

    def __init__(
        self,
        architecture: Architecture,
        blocks: Sequence[Block],
        into: Sequence[Block],
        activation: Activation,
        examples: int,
        *,
        scale: float,
    ) -> None:
        """scale x gradients is added to `into`."""
        first = architecture.stages[0]
        dtype = blocks[0].block.dtype
        self._pixels = np.empty((first.height, 1, first.width, examples), dtype)
        self._stages: list[StageBatch] = []
        images, below, unit = self._pixels, None, 1 / 255
        for stage, block, there in zip(architecture.stages, blocks, into, strict=False):
            batch = StageBatch(stage, images, below, block, there, activation, unit=unit, scale=scale)
            self._stages.append(batch)
            images, below, unit = batch.a, batch.delta, 1.0
        self._last = self._stages[-1]

    def forward(self, images: NDArray[np.uint8], features: Array) -> None:
        """Writes what images (B, I) are to the dense layers, (B, F)."""
        self._pixels.reshape(-1, len(images))[...] = images.T
        for stage in self._stages:
            stage.forward()
        by_example = self._last.a.transpose(3, 0, 2, 1)
        features[...] = by_example.reshape(len(images), -1)

    def backward(self, delta: Array) -> None:
        """Adds the gradients, given ∂loss/∂ features, (B, F)."""
        rows, channels, columns, examples = self._last.delta.shape
        by_example = delta.reshape(examples, rows, columns, channels)
        self._last.delta[...] = by_example.transpose(1, 3, 2, 0)
        for stage in reversed(self._stages):
            stage.backward()
