import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_core.pictures.plates import find_plates, on


def card(turned: float = 0, hole: bool = True) -> NDArray[np.uint8]:
    """A light card, 160 x 120, on a dark table of 300 x 240, with a dark stroke on it."""
    image = Image.new("L", (160, 120), 220)
    if hole:
        image.paste(40, (70, 30, 82, 90))
    table = Image.new("L", (300, 240), 60)
    turn = image.rotate(turned, expand=True, fillcolor=60)
    table.paste(turn, ((300 - turn.width) // 2, (240 - turn.height) // 2))
    return np.asarray(table)


def blob(
    image: NDArray[np.uint8],
) -> NDArray[np.bool_]:
    return image > 140


@pytest.mark.parametrize("turned", [0, 4, 11, 30])
@pytest.mark.parametrize("hole", [True, False])
def test_a_card_is_a_plate_however_it_lies(turned: float, hole: bool) -> None:
    image = card(turned, hole)
    mask = blob(image)
    [plate] = find_plates(image[..., np.newaxis], mask, mask.astype(np.float32))
    rows, columns = np.nonzero(mask)
    box = (plate.top, plate.bottom, plate.left, plate.right)
    expected = (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1)
    np.testing.assert_allclose(box, expected, atol=3)
    seen = on(plate, image[..., np.newaxis])
    assert set(np.unique(seen)) <= {40, 220}  # nothing of the table
    assert (seen == 40).any() == hole


def test_an_oval_is_none_nor_is_a_bar() -> None:
    rows, columns = np.mgrid[-1:1:240j, -1:1:240j]
    ring = (rows**2 + columns**2 > 0.2) & (rows**2 + columns**2 < 0.7)
    bar = (np.abs(rows) < 0.7) & (np.abs(columns) < 0.15)
    for ink in (ring, bar):
        image = np.where(ink, 30, 220).astype(np.uint8)
        assert not find_plates(image[..., np.newaxis], ink, ink.astype(np.float32))


def test_a_blank_picture_has_none_nor_has_a_small_one() -> None:
    for size in (28, 200):
        blank = np.full((size, size, 3), 90, np.uint8)
        assert not find_plates(blank, np.zeros((size, size), bool), np.zeros((size, size), np.float32))
    small = card()[::5, ::5]
    assert not find_plates(small[..., np.newaxis], blob(small), blob(small).astype(np.float32))


def test_what_runs_out_of_the_picture_at_two_sides_is_a_shadow() -> None:
    image = np.full((240, 300), 220, np.uint8)
    image[:, 180:] = 110
    image[90:150, 100:200] -= 60
    assert not find_plates(image[..., np.newaxis], blob(image), blob(image).astype(np.float32))
    image[:60] = image[200:] = 220  # of a card at the edge of the picture only one side is missing
    shaded = image < 140
    [plate] = find_plates(image[..., np.newaxis], shaded, shaded.astype(np.float32))
    assert (plate.top, plate.bottom, plate.right) == (60, 200, 300)


@pytest.mark.parametrize("width", [20, 34, 46, 58])
@pytest.mark.parametrize("radius", [0, 15, 60])
@pytest.mark.parametrize("holes", [1, 2])
def test_a_digit_of_a_thick_pen_is_none(width: int, radius: int, holes: int) -> None:
    """A zero, and an eight, of square corners and of round ones."""
    image = Image.new("L", (280, 280), 255)
    draw = ImageDraw.Draw(image)
    box = (75, 30, 205, 250)
    draw.rounded_rectangle(box, radius=radius, outline=0, width=width)
    if holes == 2:
        draw.rectangle((75, 140 - width // 3, 205, 140 + width // 3), fill=0)
    pixels = np.asarray(image)
    mask = pixels < 128
    assert find_plates(pixels[..., np.newaxis], mask, mask.astype(np.float32)) == []


@pytest.mark.parametrize("columns", [4, 6])
def test_a_plate_with_many_small_figures_is_one(columns: int) -> None:
    """Each is less than a tenth of all that is not plate."""
    image = np.full((300, 400), 230, np.uint8)
    image[50:250, 60:340] = 40
    for top in range(70, 250, 45):
        for left in range(80, 80 + 43 * columns, 43):
            image[top : top + 25, left : left + 20] = 230
    mask = image < 140
    [plate] = find_plates(image[..., np.newaxis], mask, mask.astype(np.float32))
    assert (plate.top, plate.bottom, plate.left, plate.right) == (50, 250, 60, 340)
