"""Steps are what a picture goes through, here one more each time, to see what that one is worth."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_core.pictures import read, to_digit
from mnist_core.pictures.cleaning import clean
from mnist_core.pictures.decoding import decode, distance_from_border
from mnist_core.pictures.ink import find_ink
from mnist_core.pictures.normalization import SIZE, bounds, center, fit, is_mnist, normalize

Pixels = NDArray[np.uint8]


def resized(encoded: bytes) -> Pixels:
    """Grey, scaled to 28 x 28."""
    return _small(_grey(encoded))


def polarity(encoded: bytes) -> Pixels:
    """And turned to light on dark, if most of its border is light."""
    return _small(_light_on_dark(_grey(encoded)))


def contrast(encoded: bytes) -> Pixels:
    """And stretched, so that the lightest is 255 and the border is 0."""
    return _small(_stretched(_light_on_dark(_grey(encoded))))


def centered(encoded: bytes) -> Pixels:
    """And cut out by its bounding box, fitted into 20 x 20, with its centre of mass at the centre."""
    pixels = decode(encoded).pixels
    if is_mnist(ink := distance_from_border(pixels)):
        return ink
    levels = _stretched(ink).astype(np.float32) / np.float32(255)
    if levels.max() <= 0.2:
        return np.zeros((SIZE, SIZE), np.uint8)
    top, bottom, left, right = bounds(levels > 0.2)
    return center(fit(levels[top:bottom, left:right]))


def cleaned(encoded: bytes) -> Pixels:
    """And with the paper's own light, ruled lines, specks and what touches the border removed."""
    pixels = decode(encoded).pixels
    if is_mnist(ink := distance_from_border(pixels)):
        return ink
    levels = clean(find_ink(pixels))
    if levels.max() <= 0.2:
        return np.zeros((SIZE, SIZE), np.uint8)
    top, bottom, left, right = bounds(levels > 0.2)
    return center(fit(levels[top:bottom, left:right]))


def redrawn(encoded: bytes) -> Pixels:
    """And with strokes as wide as MNIST's."""
    pixels = decode(encoded).pixels
    if is_mnist(ink := distance_from_border(pixels)):
        return ink
    return normalize(clean(find_ink(pixels)))


def once(encoded: bytes) -> Pixels:
    """And if it is on a sheet or a card, with nothing of what is around that."""
    return read(encoded, again=False).digit


STEPS: dict[str, Callable[[bytes], Pixels]] = {
    "resized": resized,
    "+ polarity": polarity,
    "+ contrast": contrast,
    "+ bounding box and centre of mass": centered,
    "+ background and clean-up": cleaned,
    "+ stroke width": redrawn,
    "+ plates": once,
    "+ looking again: all of preparing": to_digit,
}


def _grey(encoded: bytes) -> Pixels:
    return np.rint(decode(encoded).pixels.mean(axis=2)).astype(np.uint8)


def _small(grey: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BOX))


def _light_on_dark(grey: Pixels) -> Pixels:
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 255 - grey if np.median(border) > 127 else grey


def _stretched(grey: Pixels) -> Pixels:
    levels = grey.astype(np.float32)
    border = np.median(np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]]))
    levels = np.clip(levels - border, 0, None)
    return np.rint(levels * (255 / max(float(levels.max()), 1.0))).astype(np.uint8)
