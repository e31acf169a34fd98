"""Normalization draws ink as MNIST does: 20 pixels high or wide, of MNIST's stroke width, centred in 28 x 28.

The rule is MNIST's own (LeCun, Cortes and Burges, "The MNIST database of handwritten digits"): the ink's
bounding box is fitted into 20 x 20 pixels keeping its aspect ratio, grey where ink covers part of a pixel,
and placed in 28 x 28 so that its centre of mass is at the centre.
"""

import math

import numpy as np
from numpy.typing import NDArray

from mnist_core.pictures.ink import Levels, Pixels

SIZE = 28  # height and width of a digit
BOX = 20  # the longer side of its ink
CENTER = SIZE // 2  # the pixel that holds the centre of mass, in all 70,000 digits of MNIST

# The level from which a pixel counts in the bounding box. Found by sending back MNIST digits, enlarged,
# blurred, as JPEG: less takes in JPEG's ripples, more cuts soft edges off.
_INK = 0.2
# Stroke widths, in pixels of the digit: MNIST's are 1.8 to 4.4 in nine of ten digits, half of them from 2.2
# to 3.1. Those further off are brought to the other two.
_THINNEST, _THIN_BECOMES = 1.8, 2.4
_THICKEST, _THICK_BECOMES = 4.4, 3.5
# Strokes are redrawn on so many pixels for each of the digit; where there are no more to begin with, on half
# as many, which is all that a small picture has time for.
_FINE = 8


def is_mnist(ink: Pixels) -> bool:
    """Says whether (H, W) is in MNIST's form: every digit of MNIST is, and hardly anything else.

    That is: 28 x 28; the darkest ink 254 or 255; all that is not 0 in a box whose longer side is 19 or 20;
    the centre of mass within 0.53 of a pixel, down and across, of the centre of pixel (14, 14).
    """
    if ink.shape != (SIZE, SIZE) or ink.max() < 254:
        return False
    top, bottom, left, right = bounds(ink > 0)
    if max(bottom - top, right - left) not in (BOX - 1, BOX):
        return False
    return all(abs(center - CENTER) < 0.53 for center in center_of_mass(ink))


def normalize(levels: Levels) -> Pixels:
    """Returns the digit (28, 28), 0 = paper, 255 = full ink, that levels (H, W), 0 to 1, show."""
    if levels.max() <= _INK:
        return np.zeros((SIZE, SIZE), dtype=np.uint8)
    top, bottom, left, right = bounds(levels > _INK)
    return center(fit(restroke(levels[top:bottom, left:right])))


def restroke(levels: Levels) -> Levels:
    """Returns ink (H, W), cut out, with strokes as wide as MNIST's, if they are much thinner or thicker."""
    from PIL import Image
    from scipy import ndimage

    each = _FINE if max(levels.shape) > BOX * _FINE // 2 else _FINE // 2
    scale = BOX * each / max(levels.shape)
    height, width = (max(1, round(side * scale)) for side in levels.shape)
    fine = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC))
    if (fine > 0.5).sum() < 0.7 * scale**2 * (levels > 0.5).sum():
        # Of a hair line less is left than can be redrawn: it is made a pixel of these wide.
        wide = ndimage.maximum_filter(levels, math.ceil(1 / scale))
        fine = np.asarray(Image.fromarray(wide).resize((width, height), Image.Resampling.BICUBIC))
    mask = np.zeros((height + 2, width + 2), dtype=bool)
    mask[1:-1, 1:-1] = fine > 0.5
    inside = ndimage.distance_transform_edt(mask)
    depths = inside[mask]
    if not depths.size:
        return levels
    stroke = 4 * (float(depths.mean()) - 0.25) / each
    if _THINNEST <= stroke <= _THICKEST:
        return levels
    aim = _THIN_BECOMES if stroke < _THINNEST else _THICK_BECOMES
    grow = (aim - stroke) / 2 * each
    room = 2 * each  # for strokes that grow
    outside = ndimage.distance_transform_edt(~np.pad(mask, room))
    signed = np.where(outside == 0, np.pad(inside, room) - 0.5, 0.5 - outside)
    if grow < 0:
        # No more than leaves the thinner strokes of an uneven pen standing.
        ridge = depths[(ndimage.maximum_filter(inside, 3) == inside)[mask]]
        grow = max(grow, -0.6 * float(np.percentile(ridge, 10)))
    drawn: Levels = np.clip(signed + grow + 0.5, 0, 1).astype(np.float32)
    top, bottom, left, right = bounds(drawn > _INK)
    return drawn[top:bottom, left:right]


def fit(levels: Levels) -> Pixels:
    """Returns ink (H, W), cut out, as uint8 whose longer side is 20; the darkest is 255, as in MNIST."""
    from PIL import Image

    scale = BOX / max(levels.shape)
    height, width = (max(1, round(side * scale)) for side in levels.shape)
    # HAMMING is the filter of Pillow's that brought enlarged MNIST digits back best; it does not overshoot.
    small = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.HAMMING))
    fitted: Pixels = np.rint(np.clip(small * (255 / small.max()), 0, 255)).astype(np.uint8)
    return fitted


def center(fitted: Pixels) -> Pixels:
    """Returns (28, 28) with what was fitted so placed that its centre of mass is at the centre."""
    height, width = fitted.shape
    row, column = (math.ceil(CENTER - 0.5 - middle) for middle in center_of_mass(fitted))
    row = min(max(row, 0), SIZE - height)
    column = min(max(column, 0), SIZE - width)
    digit = np.zeros((SIZE, SIZE), dtype=np.uint8)
    digit[row : row + height, column : column + width] = fitted
    return digit


def bounds(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Returns top, bottom, left, right of what is true in (H, W), bottom and right exclusive."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def center_of_mass(ink: Pixels) -> tuple[float, float]:
    """Returns the row and column of the ink's centre of mass, counted from the centre of pixel (0, 0)."""
    rows, columns = ink.sum(axis=1, dtype=np.int64), ink.sum(axis=0, dtype=np.int64)
    total = rows.sum()
    return float(rows @ np.arange(len(rows)) / total), float(columns @ np.arange(len(columns)) / total)
