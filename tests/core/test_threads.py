import pytest

from mnist_core import Convolution, Dense, MaxPool
from mnist_core.architecture import Architecture
from mnist_core.threads import blas_threads


@pytest.mark.parametrize(
    ("sizes", "batch_size", "threads"),
    [
        ((784, 30, 10), 10, 1),
        ((784, 100, 10), 10, 1),
        ((784, 100, 10), 51, 1),
        ((784, 100, 10), 52, 2),
        ((784, 800, 10), 100, 2),
        ((784, 10, 2000, 10), 200, 2),  # not only the first layer counts
        ((2, 1), 1, 1),
    ],
)
def test_threads_are_looked_up(sizes: tuple[int, ...], batch_size: int, threads: int) -> None:
    assert blas_threads(Architecture.of_sizes(sizes), batch_size) == threads


def test_convolutions_have_one_whatever_their_size() -> None:
    layers = (Convolution(20, 5), MaxPool(), Convolution(40, 5), MaxPool(), Dense(3000))
    assert blas_threads(Architecture.of_layers((28, 28), layers, 10), 1000) == 1
