"""Threads: how many BLAS is to have for a training, from a table that was measured beforehand.

Their number decides the last bits of a product. Measured when a job runs, one configuration would give other
weights on another day.
"""

from itertools import pairwise

from mnist_core.architecture import Architecture

# Multiplications in the largest product of a step, and threads from there on. On two cores, 784-300-10 with
# mini-batches of 20 (4.7 million) takes 0.8 of the time with two threads, 784-800-10 with 100 (63 million)
# 0.55; 784-100-10 with 10 (0.8 million) gains nothing.
_TABLE = ((4_000_000, 2), (0, 1))


def blas_threads(architecture: Architecture, batch_size: int) -> int:
    """Returns the BLAS threads for a network and mini-batches of B.

    Convolutions have one: their mini-batches are halved between two threads of Python's instead.
    """
    if architecture.stages:
        return 1
    work = batch_size * max(inputs * outputs for inputs, outputs in pairwise(architecture.dense))
    return next(threads for least, threads in _TABLE if work >= least)
