"""Pixels: arrays of images of every shape, brought to one."""

from typing import Any

import numpy as np
import pytest

from mnist_client.errors import InvalidInput
from mnist_client.pixels import to_images, to_labels


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), (1, 28, 28)),
        ((20, 30), (1, 20, 30)),
        ((4, 4), (1, 4, 4)),  # 4 is a square number, but of the rows too
        ((5, 28, 28), (5, 28, 28)),
        ((5, 20, 30), (5, 20, 30)),
        ((1, 784), (1, 28, 28)),
        ((7, 784), (7, 28, 28)),
        ((784, 784), (1, 784, 784)),
        ((0, 28, 28), (0, 28, 28)),
    ],
)
def test_images_become_batches(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    images = to_images("images", array)
    assert images.shape == expected
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images.ravel(), array.ravel())
    assert not images.size or np.shares_memory(images, array)


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((28, 28)), "an array of float64"),
        (np.zeros((28, 28), dtype=np.int64), "an array of int64"),
        (np.zeros((28, 28), dtype=bool), "an array of bool"),
        (np.zeros(784, dtype=np.uint8), "an array of 784 "),
        (np.zeros((2, 28, 28, 1), dtype=np.uint8), "an array of 2 x 28 x 28 x 1 "),
        (np.zeros((3, 0), dtype=np.uint8), "an array of 3 x 0 "),
        (np.zeros((3, 0, 28), dtype=np.uint8), "an array of 3 x 0 x 28 "),
        (np.uint8(3), "an array of a single number "),
    ],
)
def test_what_is_no_image_is_named(array: Any, found: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        to_images("images[3]", np.asarray(array))
    assert str(raised.value).startswith(f"images[3]: {found}")


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64])
def test_labels_may_be_integers_of_any_type(dtype: type[np.integer[Any]]) -> None:
    labels = to_labels("labels", np.array([0, 9, 100], dtype=dtype))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [0, 9, 100]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1, 1000]), r"labels\[1\]: 1000 is not valid: expected a label from 0 to 999"),
        (np.array([1, 2, -1]), r"labels\[2\]: -1 is not valid"),
        (np.array([1.0]), "labels: an array of 1 float64 is not valid: expected whole numbers"),
        (np.array([[1]]), "labels: an array of 1 x 1 int64 is not valid"),
        (np.array(1), "labels: an array of a single number int64 is not valid"),
    ],
)
def test_what_is_no_label_is_named(labels: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{message}"):
        to_labels("labels", labels)
