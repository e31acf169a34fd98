import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_core.pictures.finding import MOST, Found, find

Mask = NDArray[np.bool_]
Place = tuple[int, int]

# Down and right of the middle of each digit, as they are read.
THREE_ROWS = [(60, 50), (50, 150), (66, 250), (160, 60), (172, 250), (270, 40), (262, 140)]


def page(places: list[Place], *, size: Place = (330, 320)) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A picture of (height, width) with a 0, 60 pixels high, at each place."""
    image = Image.new("1", size[::-1])
    draw = ImageDraw.Draw(image)
    for row, column in places:
        draw.ellipse((column - 18, row - 30, column + 18, row + 30), outline=1, width=7)
    return image, draw


def found(image: Image.Image) -> list[Found]:
    mask = np.asarray(image)
    return find(mask, mask)


def places(digits: list[Found]) -> list[Place]:
    return [(round(digit.middle), (digit.left + digit.right - 1) // 2) for digit in digits]


def test_rows_from_the_top_each_from_the_left() -> None:
    image, _ = page(THREE_ROWS)
    digits = found(image)
    np.testing.assert_allclose(places(digits), THREE_ROWS, atol=1)
    for digit in digits:
        assert (digit.bottom - digit.top, digit.right - digit.left) == digit.mask.shape == (61, 37)


def test_specks_commas_and_dashes_are_none() -> None:
    image, draw = page(THREE_ROWS)
    draw.rectangle((190, 85, 198, 95), fill=1)  # a decimal point
    draw.rectangle((190, 155, 215, 160), fill=1)  # a dash
    draw.rectangle((300, 300, 302, 302), fill=1)
    np.testing.assert_allclose(places(found(image)), THREE_ROWS, atol=1)


def test_the_cells_of_a_form() -> None:
    image, draw = page([(60, 50), (60, 110), (60, 170)], size=(130, 250))
    for left in (20, 80, 140):
        draw.rectangle((left, 20, left + 60, 100), outline=1, width=3)
    np.testing.assert_allclose(places(found(image)), [(60, 50), (60, 110), (60, 170)], atol=1)


def test_ruled_lines_join_nothing() -> None:
    image, draw = page(THREE_ROWS)
    for row in (95, 200, 305):
        draw.line((0, row - 10, 330, row - 6), fill=1, width=3)
    digits = found(image)
    assert len(digits) == len(THREE_ROWS)
    np.testing.assert_allclose(places(digits), THREE_ROWS, atol=6)


def test_a_digit_in_two_pieces_is_one() -> None:
    image, draw = page([(60, 50)], size=(130, 250))
    draw.line((120, 40, 150, 40), fill=1, width=6)  # the bar of a 5, above the rest of it
    draw.arc((115, 50, 155, 92), -100, 130, fill=1, width=6)
    digits = found(image)
    assert len(digits) == 2
    assert digits[1].top <= 38
    assert digits[1].bottom >= 90


def test_a_1_beside_a_0_is_another_digit() -> None:
    image, draw = page([(60, 50)], size=(130, 250))
    draw.line((82, 32, 80, 90), fill=1, width=6)
    assert len(found(image)) == 2


def test_what_the_border_cuts_is_left_out_if_there_is_more() -> None:
    image, _ = page([(60, 50), (60, 150), (60, 248)], size=(130, 250))
    np.testing.assert_allclose(places(found(image)), [(60, 50), (60, 150)], atol=1)
    alone, _ = page([(60, 10)], size=(130, 250))
    assert len(found(alone)) == 1


@pytest.mark.parametrize("share", [0.02, 0.2, 0.6])
def test_noise_makes_no_more_than_the_most(share: float) -> None:
    mask = np.random.default_rng(0).random((600, 800)) < share
    assert len(find(mask, mask)) <= MOST


def test_nothing_is_nothing() -> None:
    mask = np.zeros((50, 50), dtype=bool)
    assert find(mask, mask) == []
