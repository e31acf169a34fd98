"""Dropout multiplies outputs by a mask: 0 by chance, and what makes up for it elsewhere."""

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnist_core.activation import Array


class Mask:
    """A mask (B, O), drawn anew for every mini-batch. rate: share that is left out."""

    def __init__(self, examples: int, outputs: int, rate: float, dtype: DTypeLike) -> None:
        self.values: Array = np.ones((examples, outputs), dtype)
        """0 or 1 / (1 - rate)."""
        self._rate = np.asarray(rate, np.float32)
        self._factor = np.asarray(1 / (1 - rate), dtype)
        # float32 in any case: one seed leaves out the same in both precisions.
        self._noise: NDArray[np.float32] = np.empty((examples, outputs), np.float32)
        self._kept: NDArray[np.bool_] = np.empty((examples, outputs), np.bool_)

    def draw(self, rng: np.random.Generator) -> None:
        """Draws which are left out."""
        rng.random(dtype=np.float32, out=self._noise)
        np.greater_equal(self._noise, self._rate, out=self._kept)
        np.multiply(self._kept, self._factor, out=self.values)
