import numpy as np

from mnist_core.pooling import Pooling, max_pool


def by_hand() -> tuple[np.ndarray, np.ndarray]:
    """One image of one channel, 4 x 4, and what is pooled of it."""
    image = np.array([[1, 2, 5, 5], [4, 3, 5, 5], [-1, -2, 0, -0.5], [-3, -4, -1, 7]], np.float32)
    return image.reshape(4, 1, 4, 1), np.array([[4, 5], [-1, 7]], np.float32).reshape(2, 1, 2, 1)


def test_the_largest_of_four_is_kept() -> None:
    image, pooled = by_hand()
    np.testing.assert_array_equal(max_pool(image), pooled)


def test_errors_go_back_to_the_largest_alone_and_on_a_tie_to_the_first() -> None:
    image, pooled = by_hand()
    out, below = np.empty_like(pooled), np.full_like(image, np.nan)
    delta = np.array([[10, 20], [30, 40]], np.float32).reshape(2, 1, 2, 1)
    pooling = Pooling(image, out, delta, below)
    pooling.forward()
    np.testing.assert_array_equal(out, pooled)
    pooling.send_back()
    expected = [[0, 0, 20, 0], [10, 0, 0, 0], [30, 0, 0, 0], [0, 0, 0, 40]]
    np.testing.assert_array_equal(below.reshape(4, 4), expected)


def test_every_error_arrives_once_whatever_the_shape() -> None:
    rng = np.random.default_rng(51)
    image = rng.integers(0, 3, (6, 3, 4, 5)).astype(np.float64)  # with many ties
    out, delta = np.empty((3, 3, 2, 5)), rng.random((3, 3, 2, 5))
    below = np.empty_like(image)
    pooling = Pooling(image, out, delta, below)
    pooling.forward()
    pooling.send_back()
    np.testing.assert_array_equal(out, max_pool(image))
    squares = below.reshape(3, 2, 3, 2, 2, 5).transpose(0, 2, 3, 5, 1, 4).reshape(3, 3, 2, 5, 4)
    np.testing.assert_array_equal(squares.sum(axis=-1), delta.transpose(0, 1, 2, 3))
    assert (np.count_nonzero(squares, axis=-1) == 1).all()
    values = image.reshape(3, 2, 3, 2, 2, 5).transpose(0, 2, 3, 5, 1, 4).reshape(3, 3, 2, 5, 4)
    np.testing.assert_array_equal(values[squares > 0].reshape(out.shape), out)
