"""A convolution lays kernels on every place of an image where they fit: one product for each row of places.

Images lie with the batch last, (H, C, W, B), so that every step works on long runs of numbers. Unfolded along
their width alone, (H, K, C, W', B) for kernels of K x K that fit W' times, what lies under the kernels of one
row of places is K rows of that one after the other, as it lies there: a matrix (K K C, W' B) that nothing has
to be copied for. So memory grows by K, where im2col (Chellapilla et al. 2006) takes K².
"""

import numpy as np

from mnist_core.activation import Array
from mnist_core.architecture import Stage


def unfolded_shape(stage: Stage, examples: int) -> tuple[int, ...]:
    """Returns (H, K, C, W', B): only rows that a kernel is laid on."""
    return (stage.rows + stage.size - 1, stage.size, stage.channels, stage.columns, examples)


def unfold(images: Array, stage: Stage, out: Array) -> None:
    """Writes images (H, C, W, B) unfolded along their width."""
    for column in range(stage.size):
        out[:, column] = images[: len(out), :, column : column + stage.columns]


def windows(unfolded: Array, stage: Stage) -> Array:
    """Returns what lies under the kernels, (rows of places, I, W' B): views that overlap."""
    run = unfolded[0, 0, 0].size  # as_strided does the same, and takes ten times as long
    strides = (unfolded.strides[0], run * unfolded.itemsize, unfolded.itemsize)
    return np.ndarray((stage.rows, stage.inputs, run), unfolded.dtype, unfolded, 0, strides)


# Numbers of products that wait to be added up.
_NUMBERS = 2**20


class KernelGradient:
    """The gradient of kernels (I, O), by what lies under them and their errors, for one place in memory."""

    def __init__(self, stage: Stage, under: Array, delta: Array, into: Array, scale: float) -> None:
        """under: `windows`. delta: errors (rows, O, W', B). into: (I, O), to add scale x gradient to."""
        self._under = under
        self._delta = delta.reshape(stage.rows, stage.features, -1).transpose(0, 2, 1)
        together = max(1, min(stage.rows, _NUMBERS // into.size))
        self._rows = [slice(start, start + together) for start in range(0, stage.rows, together)]
        self._each = np.empty((together, *into.shape), delta.dtype)
        self._into = into
        self._scale = np.asarray(scale, delta.dtype)

    def add(self) -> None:
        """Adds scale x Σ xᵀ δ, over rows of places (BP4 of a layer whose examples are all its places)."""
        for rows in self._rows:
            under = self._under[rows]
            each = self._each[: len(under)]
            np.matmul(under, self._delta[rows], out=each)
            total = each.sum(axis=0)
            np.multiply(total, self._scale, out=total)
            np.add(self._into, total, out=self._into)


class Folding:
    """Errors on their way back through kernels to what they were laid on: the transposed convolution."""

    def __init__(self, stage: Stage, weights: Array, delta: Array, below: Array) -> None:
        """weights: (I, O). delta: errors (rows, O, W', B). below: (H, C, W, B), where errors are to go."""
        self._stage = stage
        self._kernel_rows = weights.reshape(stage.size, stage.size * stage.channels, stage.features)
        self._below = below
        self._unfolded = np.empty(unfolded_shape(stage, delta.shape[-1]), delta.dtype)
        # What was under row i of the kernels laid at row h - i gets errors from there: one product for all i,
        # since these rows of errors lie one after the other, from the first to the last.
        self._upwards = np.empty((stage.size * stage.channels, stage.size, stage.features), delta.dtype)
        self._products = []
        weighted = self._upwards.reshape(len(self._upwards), -1)
        for row, errors in enumerate(self._unfolded):
            first, last = max(0, row - stage.size + 1), min(stage.rows - 1, row)
            start = (stage.size - 1 - row + first) * stage.features
            stop = (stage.size - row + last) * stage.features
            laid = delta[first : last + 1].reshape(stop - start, -1)
            self._products.append((weighted[:, start:stop], laid, errors.reshape(len(weighted), -1)))

    def send_back(self) -> None:
        """Writes Σ δ wᵀ (BP2) over all places that a number was under a kernel at."""
        self._upwards[...] = self._kernel_rows[::-1].transpose(1, 0, 2)
        for weights, delta, errors in self._products:
            np.dot(weights, delta, out=errors)
        self._below[...] = 0
        columns = self._stage.columns
        for column in range(self._stage.size):
            reached = self._below[: len(self._unfolded), :, column : column + columns]
            np.add(reached, self._unfolded[:, column], out=reached)
