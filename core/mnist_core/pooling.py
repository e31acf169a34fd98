"""Pooling keeps the largest of each 2 x 2 numbers; errors go back to where it was found, the first on a tie.

Images lie with the batch last, (H, C, W, B). Of two rows the larger numbers first, then of two columns: that
is three quarters of the comparisons, all between long runs.
"""

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import Array


def max_pool(images: Array) -> Array:
    """Returns (H / 2, C, W / 2, B) of images with an even number of rows and of columns."""
    tall = np.maximum(images[0::2], images[1::2])
    return np.maximum(tall[:, :, 0::2], tall[:, :, 1::2])


class Pooling:
    """Pooling of images and of their errors, at one place in memory."""

    def __init__(self, images: Array, out: Array, delta: Array, below: Array) -> None:
        """images: (H, C, W, B). out: what comes out. delta: its errors. below: the images' errors."""
        tall = np.empty_like(images[0::2])
        error = np.empty_like(tall)
        self._rows = _Pairs(images[0::2], images[1::2], tall, error, below[0::2], below[1::2])
        self._columns = _Pairs(
            tall[:, :, 0::2], tall[:, :, 1::2], out, delta, error[:, :, 0::2], error[:, :, 1::2]
        )

    def forward(self) -> None:
        """Writes what comes out, and notes where it came from."""
        self._rows.forward()
        self._columns.forward()

    def send_back(self) -> None:
        """Writes the images' errors."""
        self._columns.send_back()
        self._rows.send_back()


class _Pairs:
    """The larger of each two numbers."""

    def __init__(
        self, first: Array, second: Array, out: Array, delta: Array, to_first: Array, to_second: Array
    ) -> None:
        self._pair = (first, second)
        self._out = out
        self._delta = delta
        self._to = (to_first, to_second)
        self._is_first: NDArray[np.bool_] = np.empty(out.shape, np.bool_)

    def forward(self) -> None:
        np.maximum(*self._pair, out=self._out)
        np.greater_equal(*self._pair, out=self._is_first)

    def send_back(self) -> None:
        to_first, to_second = self._to
        np.multiply(self._delta, self._is_first, out=to_first)
        np.subtract(self._delta, to_first, out=to_second)  # all of it or nothing, exactly
