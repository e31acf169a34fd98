"""The machine's limit: NumPy's product of 2,048 x 2,048 matrices, for as many operations as an epoch has."""

import math

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from threadpoolctl import threadpool_limits

SIZE = 2048


class Learner:
    """Learns nothing; its `epoch` takes the time that the epoch's products would take at the limit."""

    versions = {"numpy": np.__version__}  # noqa: RUF012  # the protocol has it of the instance

    def __init__(self, configuration: Configuration, data: Data) -> None:
        threadpool_limits(limits=configuration.threads, user_api="blas")
        self._count = math.ceil(configuration.flops / (2 * SIZE**3))
        self.share = self._count * 2 * SIZE**3 / configuration.flops
        rng = np.random.default_rng(0)
        self._a, self._b = rng.standard_normal((2, SIZE, SIZE), np.float32)
        self._out = np.empty_like(self._a)

    def epoch(self) -> None:
        """Multiplies."""
        for _ in range(self._count):
            np.dot(self._a, self._b, out=self._out)
