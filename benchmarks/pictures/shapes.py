"""A shape is the ink of one digit, or of something else, before it lies on any paper: coverage, 0 to 1."""

from typing import Any

import numpy as np
from benchmarks.pictures import halves, strokes
from benchmarks.pictures.halves import Half
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

Shape = NDArray[Any]

# Strokes are this share of a digit's height: MNIST's own are 0.13 of it.
THIN, THICK = 0.025, 0.24
SOURCES = {"mnist": 0.4, "writers": 0.1, "strokes": 0.35, "font": 0.15}  # and how often each is asked


def digit(
    half: Half, random: np.random.Generator, width: float | None = None, source: str | None = None
) -> tuple[Shape, int, str]:
    """Returns a digit, some 300 pixels high, its label, and where it is from.

    `width` is the pen's, as a share of the height; without one it is as it comes. `source` is one of SOURCES;
    without one it is any.
    """
    source = source or str(random.choice(list(SOURCES), p=list(SOURCES.values())))
    match source:
        case "mnist":
            images, labels = halves.mnist(half)
            index = random.integers(len(images))
            shape, label = _smooth(images[index].astype(np.float32) / 255, 300 / 20), int(labels[index])
        case "writers":
            images, labels = halves.writers(half)
            index = random.integers(len(images))
            small = np.pad(images[index].astype(np.float32) / 16, 2)
            shape, label = _smooth(small, 300 / 8, 0.15), int(labels[index])
        case "strokes":
            label = int(random.integers(10))
            own = width or random.uniform(0.04, 0.17)
            return trim(strokes.write(label, 300, own, random, half.ways)), label, source
        case _:
            label = int(random.integers(10))
            paths = halves.fonts(half)
            shape = character(str(label), str(paths[random.integers(len(paths))]), random)
    if width is not None:
        shape = pen(shape, min(width, 0.12 if source == "writers" else 1) * 300)
    return trim(shape), label, source


def letter(half: Half, random: np.random.Generator) -> Shape:
    """Returns a letter that looks like no digit, warped as handwriting is."""
    paths = halves.fonts(half)
    text = halves.LETTERS[random.integers(len(halves.LETTERS))]
    return trim(character(text, str(paths[random.integers(len(paths))]), random))


def character(text: str, font: str, random: np.random.Generator) -> Shape:
    """Returns a character of a font, some 300 pixels high, warped a little."""
    face = ImageFont.truetype(font, 300)
    left, top, right, bottom = face.getbbox(text)
    high, wide = int(bottom - top), int(right - left)
    image = Image.new("L", (wide + 160, high + 160))
    ImageDraw.Draw(image).text((80 - left, 80 - top), text, fill=255, font=face)
    scale = 300 / max(high, wide, 1)
    image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BILINEAR)
    return warp(np.asarray(image, np.float32) / 255, random)


def warp(shape: Shape, random: np.random.Generator, strength: float = 1.0) -> Shape:
    """Returns a shape slanted, turned, and bent as by another hand."""
    height, width = shape.shape
    angle, slant = random.normal(0, 0.08 * strength), random.normal(0, 0.12 * strength)
    squeeze = 1 + random.uniform(-0.15, 0.15) * strength
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    y, x = rows - height / 2, columns - width / 2
    x, y = x * squeeze + slant * y, y
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    coarse = random.normal(0, 1, (2, 5, 5))
    for axis, delta in enumerate(coarse):
        bend = np.asarray(
            Image.fromarray(delta.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        )
        if axis:
            x = x + bend * 9 * strength
        else:
            y = y + bend * 9 * strength
    moved = ndimage.map_coordinates(shape, [y + height / 2, x + width / 2], order=1)
    return np.clip(moved, 0, 1).astype(np.float32)


def pen(shape: Shape, width: float) -> Shape:
    """Returns a shape drawn with another pen, `width` pixels wide, as far as its strokes allow."""
    inside = ndimage.distance_transform_edt(shape > 0.5)
    now = 4 * inside[inside > 0].mean() if inside.any() else width
    grow = (width - now) / 2
    padded = np.pad(shape, max(int(grow) + 4, 4))
    signed = ndimage.distance_transform_edt(padded > 0.5) - ndimage.distance_transform_edt(padded <= 0.5)
    if grow < 0:  # no thinner than leaves its thinner parts standing
        ridge = ndimage.maximum_filter(signed, 5) == signed
        thin = np.percentile(signed[ridge & (signed > 0)], 10) if (ridge & (signed > 0)).any() else 0
        grow = max(grow, -0.75 * thin)
    while grow > 1 and _holes(signed + grow > 0) < _holes(signed > 0):  # a filled loop is not legible
        grow *= 0.8
    return np.clip(signed + grow + 0.5, 0, 1).astype(np.float32)


def _holes(mask: NDArray[np.bool_]) -> int:
    return int(ndimage.label(np.pad(~mask, 1, constant_values=True))[1])


def trim(shape: Shape) -> Shape:
    """Returns a shape without the blank around it."""
    rows = np.flatnonzero((shape > 0.1).any(axis=1))
    columns = np.flatnonzero((shape > 0.1).any(axis=0))
    return shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _smooth(image: Shape, scale: float, blur: float = 0.35) -> Shape:
    """Returns a small image enlarged, with the edges that a pen would have made."""
    side = int(image.shape[0] * scale)
    large = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    large = ndimage.gaussian_filter(large, blur * scale)
    return np.clip((large - 0.42) * 10 + 0.5, 0, 1).astype(np.float32)
