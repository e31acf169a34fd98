import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_core.pictures.normalization import center, fit, normalize

Levels = NDArray[np.float32]


def seven(width: int) -> Levels:
    """A 7, 200 pixels high, written with a pen of so many pixels: a tenth of that in pixels of MNIST."""
    image = Image.new("L", (260, 320))
    ImageDraw.Draw(image).line([(60, 60), (190, 60), (110, 250)], fill=255, width=width, joint="curve")
    return levels(image)


def levels(image: Image.Image) -> Levels:
    return np.asarray(image, np.float32) / np.float32(255)


def stroke(ink: Levels) -> float:
    """How wide the leg of a 7 is on average, across, as a share of the height."""
    rows = np.flatnonzero(ink.max(axis=1) > 0.5)
    middle = ink[(rows[0] + rows[-1]) // 2 : rows[-1] - len(rows) // 8]
    return float(middle.sum(axis=1).mean() / len(rows))


def without(ink: Levels) -> NDArray[np.uint8]:
    rows, columns = np.nonzero(ink > 0.2)
    return center(fit(ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]))


@pytest.mark.parametrize("width", [20, 26, 36])
def test_strokes_like_mnists_stay_as_they_are(width: int) -> None:
    np.testing.assert_array_equal(normalize(seven(width)), without(seven(width)))


@pytest.mark.parametrize("width", [3, 6, 10])
def test_a_thin_stroke_becomes_as_wide_as_mnists(width: int) -> None:
    before, after = (levels(Image.fromarray(made(seven(width)))) for made in (without, normalize))
    assert stroke(before) < 0.09
    assert 0.1 < stroke(after) < 0.16


@pytest.mark.parametrize("width", [58, 70])
def test_a_thick_stroke_becomes_thinner(width: int) -> None:
    before, after = (levels(Image.fromarray(made(seven(width)))) for made in (without, normalize))
    assert stroke(before) > 0.22
    assert stroke(after) < 0.9 * stroke(before)


def test_a_thin_part_survives_when_a_thick_one_is_thinned() -> None:
    image = Image.new("L", (300, 320))
    draw = ImageDraw.Draw(image)
    draw.line([(40, 80), (260, 80)], fill=255, width=90)
    draw.line([(220, 80), (130, 290)], fill=255, width=26)
    ink = levels(image)
    assert normalize(ink).sum() < without(ink).sum()
    rows = np.flatnonzero(normalize(ink).max(axis=1) > 100)
    assert len(rows) == np.ptp(rows) + 1 >= 18


def test_next_to_nothing_is_blank() -> None:
    assert not normalize(np.full((40, 40), 0.1, np.float32)).any()
    assert normalize(np.eye(1, dtype=np.float32)).max() == 255
