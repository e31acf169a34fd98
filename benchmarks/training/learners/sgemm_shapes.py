"""The limit at a network's own shapes: the products of an epoch in NumPy, and nothing else."""

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from threadpoolctl import threadpool_limits


class Learner:
    """Learns nothing; `epoch` is the products of each step, on the same operands every time."""

    share = 1.0
    versions = {"numpy": np.__version__}  # noqa: RUF012  # the protocol has it of the instance

    def __init__(self, configuration: Configuration, data: Data) -> None:
        threadpool_limits(limits=configuration.threads, user_api="blas")
        rng = np.random.default_rng(0)
        self._steps = -(-configuration.images // configuration.batch_size)
        self._products = [
            (
                rng.standard_normal((m, k), np.float32),
                rng.standard_normal((k, n), np.float32),
                np.empty((m, n), np.float32),
            )
            for m, k, n in configuration.products
        ]

    def epoch(self) -> None:
        """Multiplies."""
        for _ in range(self._steps):
            for a, b, out in self._products:
                np.dot(a, b, out=out)
