"""A product of matrices is one prepared call that adds a b to what is there: c <- scale a b + keep c.

That is BLAS's GEMM, which NumPy does not offer whole: with it a step of gradient descent is part of the
product that finds the gradient. SciPy offers it; without SciPy, NumPy takes three calls.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from mnist_core.activation import Array


def product(
    a: Array, b: Array, c: Array, *, scale: float = 1.0, keep: float = 0.0, in_numpy: bool = False
) -> Callable[[], object]:
    """Returns a call that writes c, of shape (M, N), from a (M, K) and b (K, N), all of one dtype.

    Each is a C-contiguous array or the transpose of one, c the former. All products of a mini-batch are made
    in one library, SciPy's unless NumPy's is asked for: each has threads of its own, which get in each
    other's way when the two alternate. SciPy's keeps Python's lock, NumPy's lets other threads compute.
    """
    gemm = None if in_numpy else _gemm(c.dtype.char)
    if gemm is None:
        return _in_numpy(a, b, c, scale, keep)
    # Fortran's arrays run down the columns: in its eyes each of ours is its transpose, so c' = b' a' it is.
    return partial(gemm, scale, *_columns(b, a), keep, c.T, *_turned(b, a), 1)


def load_blas() -> None:
    """Loads the library that products are done with, so that its threads can be limited before the first."""
    _gemm("f")


@cache
def _gemm(kind: str) -> Callable[..., Any] | None:
    """Returns SciPy's sgemm or dgemm; None where there is no SciPy. Imported late: predicting needs none."""
    try:
        from scipy.linalg.blas import dgemm, sgemm
    except ImportError:
        return None
    gemm: Callable[..., Any] = {"f": sgemm, "d": dgemm}[kind]
    return gemm


def _columns(*arrays: Array) -> list[Array]:
    return [array.T if array.flags.c_contiguous else array for array in arrays]


def _turned(*arrays: Array) -> list[bool]:
    return [not array.flags.c_contiguous for array in arrays]


def _in_numpy(a: Array, b: Array, c: Array, scale: float, keep: float) -> Callable[[], object]:
    into = np.empty_like(c) if keep else c
    factor, kept = np.asarray(scale, c.dtype), np.asarray(keep, c.dtype)
    # Whichever is smaller is scaled: the errors rather than the step that they make of a layer's weights.
    scaled = np.empty_like(b) if scale != 1 and b.size < c.size else None
    after = scale != 1 and scaled is None

    def call() -> None:
        if scaled is not None:
            np.multiply(b, factor, out=scaled)
        np.dot(a, b if scaled is None else scaled, out=into)
        if after:
            np.multiply(into, factor, out=into)
        if keep:
            if keep != 1:
                np.multiply(c, kept, out=c)
            np.add(c, into, out=c)

    return call
