import numpy as np

from mnist_core.pictures import mean_of_views, views
from mnist_core.pictures.views import VIEWS


def test_views_are_the_digit_as_it_is_and_moved_towards_each_corner() -> None:
    digits = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    seen = views(digits).reshape(VIEWS, 3, 28, 28)
    np.testing.assert_array_equal(seen[0], digits)
    for view, (down, right) in zip(seen[1:], [(-1, -1), (-1, 1), (1, -1), (1, 1)], strict=True):
        moved = np.roll(digits, (down, right), axis=(1, 2))
        moved[:, 0 if down > 0 else -1] = 0  # what comes in at the edge is paper, not what went out
        moved[:, :, 0 if right > 0 else -1] = 0
        np.testing.assert_array_equal(view, moved)


def test_the_mean_is_over_the_views_of_each_digit() -> None:
    # Two digits and two classes: of the first 0.1, 0.2 ... 0.5 was said, of the second always 1.
    first = [(0.1 * view, 1 - 0.1 * view) for view in range(1, 6)]
    said = np.array([row for of_first in first for row in (of_first, (1, 0))], np.float32)
    np.testing.assert_allclose(mean_of_views(said), [(0.3, 0.7), (1, 0)], rtol=1e-6)
