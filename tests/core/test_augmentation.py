import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core import Augmentation, Dataset, InvalidValue, augment
from mnist_core.augmentation import basis, draw_maps, look_up

ALL = Augmentation(rotation=12, scale=0.13, shear=0.2, shift=1.75, elastic=30, thickness=0.5)


def varied(images: NDArray[np.uint8], augmentation: Augmentation, seed: int = 1) -> NDArray[np.uint8]:
    return augment(images, augmentation, np.random.default_rng(seed))


def looked_up(
    images: NDArray[np.uint8], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Each image at the places of one map, (H, W)."""
    out = np.empty_like(images)
    maps = [np.tile(places.astype(np.float32), (len(images), 1, 1)) for places in (rows, columns)]
    look_up(images.astype(np.float32), maps[0], maps[1], out)
    return out


def places(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return rows.astype(float), columns.astype(float)


@pytest.fixture
def digits(mnist_5k: Dataset) -> NDArray[np.uint8]:
    return mnist_5k.train.images[:300]


def test_nothing_to_vary_changes_no_byte(digits: NDArray[np.uint8]) -> None:
    assert np.array_equal(varied(digits, Augmentation()), digits)


def test_noise_that_is_not_square_comes_through_unchanged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (21, 5, 9), np.uint8)

    assert np.array_equal(varied(noise, Augmentation()), noise)
    assert varied(noise, ALL).shape == (21, 5, 9)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(rotation=10),
        Augmentation(scale=0.2),
        Augmentation(shear=0.2),
        Augmentation(shift=2),
        Augmentation(elastic=34),
        Augmentation(thickness=0.5),
        ALL,
    ],
)
def test_each_number_varies_images_by_the_seed_alone(
    augmentation: Augmentation, digits: NDArray[np.uint8]
) -> None:
    before = digits.copy()
    once = varied(digits, augmentation)

    assert np.array_equal(varied(digits, augmentation), once)
    assert np.array_equal(digits, before)
    assert (varied(digits, augmentation, seed=2) != once).any(axis=(1, 2)).mean() > 0.9
    # All but a quarter.
    assert 0.65 < (once != digits).any(axis=(1, 2)).mean() < 0.85
    # The same drawing, not another's: moved and bent, it correlates with itself far more than with others.
    itself = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(once, digits, strict=True)]
    others = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(once, digits[::-1], strict=True)]
    assert np.mean(itself) > np.mean(others) + 0.2


def test_about_as_much_ink_as_before_is_left(digits: NDArray[np.uint8]) -> None:
    assert int(varied(digits, ALL).sum()) == pytest.approx(int(digits.sum()), rel=0.05)


def test_what_is_drawn_does_not_depend_on_the_images(digits: NDArray[np.uint8]) -> None:
    alone = varied(digits[:1], ALL)
    rng = np.random.default_rng(1)
    augment(np.zeros_like(digits[:1]), ALL, rng)
    following = augment(digits[:1], ALL, rng)

    rng = np.random.default_rng(1)
    assert np.array_equal(augment(digits[:1], ALL, rng), alone)
    assert np.array_equal(augment(digits[:1], ALL, rng), following)


def test_a_known_shift_shifts(digits: NDArray[np.uint8]) -> None:
    rows, columns = places(28, 28)

    shifted = looked_up(digits, rows - 2, columns + 3)

    expected = np.zeros_like(digits)
    expected[:, 2:, :-3] = digits[:, :-2, 3:]
    assert np.array_equal(shifted, expected)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    images = np.array([[[10, 20, 41]]], np.uint8)
    rows, columns = places(1, 3)

    # (10 + 20) / 2, (20 + 41) / 2 rounded upwards, and the half of 41 that lies beyond the edge.
    assert looked_up(images, rows, columns + 0.5).tolist() == [[[15, 31, 21]]]


def test_far_outside_is_paper() -> None:
    images = np.full((1, 3, 4), 255, np.uint8)
    rows, columns = places(3, 4)

    for far in (1e9, -1e9, 4.0, -4.0):
        assert not looked_up(images, rows + far, columns).any()
        assert not looked_up(images, rows, columns + far).any()


class _Fixed:
    """In a random generator's place: always draws the upper end."""

    def uniform(self, least: float, most: float, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.full(shape, most)

    def random(self, count: int) -> NDArray[np.float64]:
        return np.ones(count)


def test_a_quarter_turn_is_numpys(digits: NDArray[np.uint8]) -> None:
    rng: Any = _Fixed()
    turned = augment(digits, Augmentation(rotation=90), rng)

    difference = np.abs(turned.astype(int) - np.rot90(digits, axes=(1, 2)))
    assert difference.max() <= 1


def test_growing_and_shearing_by_hand() -> None:
    # Half as high again: new row r, counted from the middle, shows old row r / 1.5. Sheared by 0.25: its new
    # column c shows what lies at c - r / 4 of an image half as wide again, so at (c - r / 4) / 1.5.
    rng: Any = _Fixed()
    maps = draw_maps(1, 5, 7, Augmentation(scale=0.5, shear=0.25), rng)

    rows, columns = maps[:, 0]
    assert rows == pytest.approx(np.array([[2, 0], [1 / 1.5, 0]]))
    assert columns == pytest.approx(np.array([[3, 1 / 1.5], [-0.25 / 1.5, 0]]))


def test_strokes_grow_and_shrink() -> None:
    image = np.zeros((1, 5, 5), np.uint8)
    image[0, 1:4, 1:4] = 200

    rng: Any = _Fixed()
    thick = augment(image, Augmentation(thickness=0.5), rng)
    assert thick[0].tolist() == [
        [0, 100, 100, 100, 0],
        [100, 200, 200, 200, 100],
        [100, 200, 200, 200, 100],
        [100, 200, 200, 200, 100],
        [0, 100, 100, 100, 0],
    ]

    centres = [int(varied(image, Augmentation(thickness=0.5), seed)[0, 1, 1]) for seed in range(40)]
    edges = [int(varied(image, Augmentation(thickness=0.5), seed)[0, 0, 1]) for seed in range(40)]
    assert any(ink < 200 for ink in centres)  # shrunk
    assert any(edges)  # grown
    assert 4 <= sum((centre, edge) == (200, 0) for centre, edge in zip(centres, edges, strict=True)) <= 16


def test_elastic_moves_pixels_as_far_as_simards_fields_do() -> None:
    # Uniform noise, -1 to 1, has variance 1/3; a Gaussian along both axes leaves 1 / (4 pi sigma^2) of it,
    # the sum of its squares, away from the edges; neighbours then correlate by exp(-1 / (4 sigma^2)).
    maps = draw_maps(2000, 61, 61, Augmentation(elastic=34), np.random.default_rng(0))
    middle = 30
    waves = basis(61, Augmentation(elastic=34))
    moved = np.einsum("i,nbij,j->nb", waves[middle], maps, waves[middle]) - 30

    assert moved.std() == pytest.approx(34 / math.sqrt(3 * 4 * math.pi * 4**2), rel=0.05)
    neighbour = np.einsum("i,bij,j->b", waves[middle + 1], maps[0], waves[middle])
    assert np.corrcoef(moved[0], neighbour)[0, 1] == pytest.approx(math.exp(-1 / (4 * 4**2)), abs=0.01)
    assert abs(np.corrcoef(moved[0], moved[1])[0, 1]) < 0.1  # rows and columns by themselves


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("rotation", -1, "0 to 180"),
        ("rotation", 181, "0 to 180"),
        ("scale", 1, "0 to 0.9"),
        ("shear", math.nan, "0 to 1"),
        ("shift", math.inf, "0 to 100"),
        ("elastic", "34", "0 to 1000"),
        ("elastic_sigma", 0, "0.5 to 100"),
        ("thickness", True, "0 to 1"),
        ("thickness", None, "0 to 1"),
    ],
)
def test_numbers_out_of_range_are_named(field: str, value: object, expected: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Augmentation(**{field: value})  # type: ignore[arg-type]  # that is the point

    assert caught.value.field == field
    assert expected in caught.value.expected
