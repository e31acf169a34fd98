from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_core.pictures.cleaning import clean, ruled
from mnist_core.pictures.ink import Ink

Draw = ImageDraw.ImageDraw


def drawn(*, digit: bool = True, size: tuple[int, int] = (400, 400)) -> tuple[Image.Image, Draw]:
    """A 2 in the middle of a picture of (width, height), light on dark."""
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    if digit:
        for start, stop in pairwise([(130, 120), (200, 90), (260, 150), (140, 300), (270, 300)]):
            draw.line([start, stop], fill=255, width=22)
            draw.ellipse([stop[0] - 11, stop[1] - 11, stop[0] + 11, stop[1] + 11], fill=255)
    return image, draw


def ink(image: Image.Image, noise: float = 0.0) -> Ink:
    return Ink(np.asarray(image, np.float32) / np.float32(255), 1.0, noise)


def assert_same(image: Image.Image, tolerance: float = 0.003) -> None:
    """Cleaned, an image is the 2 alone; uncleaned it is not."""
    alone = np.asarray(drawn()[0]) > 0
    cleaned = clean(ink(image)) > 0.5
    assert (cleaned != alone).sum() <= tolerance * alone.sum()
    assert ((np.asarray(image) > 127) != alone).sum() > max(tolerance * alone.sum(), 20)


def test_specks_are_dropped() -> None:
    image, draw = drawn()
    for x, y in [(20, 30), (370, 40), (60, 350), (200, 200), (380, 380)]:
        draw.ellipse([x, y, x + 5, y + 5], fill=255)
    assert_same(image)


def test_what_is_far_away_is_dropped() -> None:
    image, draw = drawn()
    draw.line([(330, 10), (390, 30)], fill=255, width=12)
    assert_same(image)


def test_a_tables_edge_is_dropped() -> None:
    image, draw = drawn()
    draw.polygon([(0, 0), (40, 0), (25, 400), (0, 400)], fill=255)
    draw.rectangle([0, 385, 400, 400], fill=255)
    assert_same(image)


@pytest.mark.parametrize("slope", [0, 12, -16])
@pytest.mark.parametrize("level", [120, 255])
def test_ruled_lines_are_dropped_and_strokes_across_them_stay(slope: int, level: int) -> None:
    image, draw = drawn(digit=False)
    for y in range(40, 400, 70):
        draw.line([(0, y), (400, y + slope)], fill=level, width=4)
    image = Image.fromarray(np.maximum(np.asarray(image), np.asarray(drawn()[0])))
    if level > 127:
        assert_same(image, tolerance=0.06)
    cleaned = clean(ink(image)) > 0.5
    alone = np.asarray(drawn()[0]) > 0
    assert (alone & ~cleaned).sum() < 0.03 * alone.sum()


def test_squared_paper() -> None:
    image, draw = drawn(digit=False)
    for at in range(30, 400, 60):
        draw.line([(0, at), (400, at + 5)], fill=255, width=3)
        draw.line([(at, 0), (at - 5, 400)], fill=255, width=3)
    assert_same(Image.fromarray(np.maximum(np.asarray(image), np.asarray(drawn()[0]))), tolerance=0.08)


def test_the_bar_of_a_digit_is_no_ruled_line() -> None:
    image, draw = drawn(digit=False)
    draw.line([(40, 60), (360, 60)], fill=255, width=8)
    draw.line([(360, 60), (200, 380)], fill=255, width=8)
    assert ruled(np.asarray(image) > 0) is None
    np.testing.assert_array_equal(clean(ink(image)) > 0.5, np.asarray(image) > 0)


def test_a_digit_that_touches_the_border_is_kept() -> None:
    whole = np.asarray(drawn()[0])
    rows, columns = np.nonzero(whole)
    image = whole[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    np.testing.assert_array_equal(clean(ink(Image.fromarray(image))) > 0.5, image > 0)


def test_a_digit_of_two_strokes_is_kept() -> None:
    image, draw = drawn(digit=False)
    draw.line([(150, 90), (140, 180)], fill=255, width=20)
    draw.arc([120, 170, 260, 310], -100, 130, fill=255, width=20)
    draw.line([(168, 80), (260, 78)], fill=255, width=20)  # the bar of a 5, lifted
    np.testing.assert_array_equal(clean(ink(image)) > 0.5, np.asarray(image) > 0)


def test_a_stroke_that_fades_is_kept_and_a_shadow_as_faint_is_not() -> None:
    image, draw = drawn()
    fading = np.asarray(image, np.float32) * np.linspace(1, 0.35, 400)[:, np.newaxis]
    draw.ellipse([310, 320, 380, 390], fill=90)
    fading[310:, 300:] = np.asarray(image)[310:, 300:]
    cleaned = clean(Ink(fading.astype(np.float32) / np.float32(255), 1.0, 0.0)) > 0
    assert cleaned[np.asarray(drawn()[0]) > 0].mean() > 0.99
    assert not cleaned[320:, 310:].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (40, 40)])
def test_no_ink_stays_none(size: tuple[int, int]) -> None:
    assert not clean(ink(Image.new("L", size))).any()
    assert clean(ink(Image.new("L", size, 255))).all()
