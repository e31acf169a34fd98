"""A plate is what a digit lies on, where the picture goes on beyond it: a sheet on a table, a meter's window.

As it differs from what is around it, it passes for ink, and the digit for a hole in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_core.pictures.cleaning import EIGHT, Mask, box_of
from mnist_core.pictures.ink import DARKEST, Levels, Pixels, reduce

_APART = 0.15  # in logarithms, that a sheet differs from what it lies on
_COARSE = 128  # pixels of the longer side of what sheets are looked for in
_SMALLEST = 32  # pixels of its shorter side
_LEAST, _MOST = 0.004, 0.35  # shares of a plate that are holes
_BROAD = 0.3  # of the picture's shorter side: too broad for a stroke, so that no hole has to be seen
# Of the smallest rectangle around it, turned as may be, a plate covers more than an oval does, pi / 4.
_RECTANGULAR = 0.88
# A zero or an eight of a thick pen is as wide all around its holes, which are solid: the widest of four sides
# is at most so many times the narrowest; where the holes are a small share, as a one on a sheet is, so many.
_SOLID, _SMALL_HOLES = 0.55, 0.08
_RING_SIDES, _RING_SIDES_OF_SMALL = 2.0, 1.3
_RIM = 0.03  # of the shorter side of a plate is its rim, where there may be shadow


class Plate(NamedTuple):
    """A plate, and where."""

    inside: Mask  # (H, W) of the box, without the rim
    top: int
    bottom: int  # exclusive, as right
    left: int
    right: int


def find_plates(pixels: Pixels, mask: Mask, levels: Levels) -> list[Plate]:
    """Returns what may be plates on (H, W, K), of which none lies over another.

    mask, levels: where it is inked, and how much.
    """
    if min(mask.shape) < 2 * _SMALLEST:
        return []
    found = _among(mask, levels)
    for plate in _among(*_unlike_the_border(pixels)):
        if not any(_meet(plate, other) for other in found):
            found.append(plate)
    return found


def _meet(one: Plate, other: Plate) -> bool:
    return (
        one.top < other.bottom
        and other.top < one.bottom
        and one.left < other.right
        and other.left < one.right
    )


def _among(mask: Mask, levels: Levels) -> list[Plate]:
    """Returns the parts of a mask (H, W) that are rectangles, about, and have holes in them or are broad.

    levels: they show the gaps between windows that stand close together.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask, EIGHT)
    found = []
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        top, bottom, left, right = box_of(box)
        shorter = min(bottom - top, right - left)
        sides = (top == 0) + (left == 0) + (bottom == mask.shape[0]) + (right == mask.shape[1])
        if shorter < _SMALLEST or sides > 1:  # what runs out of the picture at two sides is rather a shadow
            continue
        least = _LEAST if shorter < _BROAD * min(mask.shape) else 0
        part = parts[box] == number
        area = int(part.sum())
        if area < 0.5 * part.size:
            continue
        filled = ndimage.binary_fill_holes(part)
        whole = int(filled.sum())
        if not least <= 1 - area / whole <= _MOST or whole < _RECTANGULAR * _around(filled):
            continue
        if _is_ring(filled & ~part, mask[box] & ~part):
            continue
        inside = ndimage.distance_transform_edt(np.pad(filled, 1))[1:-1, 1:-1] > max(2, _RIM * shorter)
        inside &= ~_gaps(levels[box])
        found.append(Plate(inside, top, bottom, left, right))
    return found


def _is_ring(holes: Mask, islands: Mask) -> bool:
    """Returns whether what is around holes (H, W) is a thick stroke rather than a plate.

    islands: what is inked and not of it.
    """
    from scipy import ndimage

    area = int(holes.sum())
    if not area or (holes & islands).sum() > 0.05 * area:
        return False
    parts, _ = ndimage.label(holes, EIGHT)
    sizes = np.bincount(parts.ravel())[1:]
    large = [box for box, size in zip(ndimage.find_objects(parts), sizes, strict=True) if size > 0.1 * area]
    if not 1 <= len(large) <= 2:  # many small ones are figures on a plate
        return False
    if any(np.count_nonzero(parts[box]) < _SOLID * parts[box].size for box in large):
        return False
    tops, bottoms, lefts, rights = zip(*map(box_of, large), strict=True)
    high, wide = holes.shape
    sides = (min(tops), high - max(bottoms), min(lefts), wide - max(rights))
    ratio = _RING_SIDES if area >= _SMALL_HOLES * holes.size else _RING_SIDES_OF_SMALL
    return bool(max(sides) <= ratio * min(sides))


def _unlike_the_border(pixels: Pixels) -> tuple[Mask, Levels]:
    """Returns what of (H, W, K) is of another colour or light than most of the border, and how far off it is.

    Ink is found by taking away paper. A sheet larger than that can take is found by this instead.
    """
    factor = max(1, -(-max(pixels.shape[:2]) // _COARSE))
    coarse = np.log(reduce(pixels.astype(np.float32), factor) + DARKEST)
    border = np.concatenate([coarse[0], coarse[-1], coarse[:, 0], coarse[:, -1]])
    off = np.abs(coarse - np.median(border, axis=0)).max(axis=2)
    off = off[_spread(pixels.shape[0], off.shape[0], factor)][
        :, _spread(pixels.shape[1], off.shape[1], factor)
    ]
    return off > max(_otsu(off), _APART), off


def _spread(side: int, coarse: int, factor: int) -> NDArray[np.intp]:
    return np.minimum(np.arange(side) // factor, coarse - 1)


def _otsu(levels: Levels) -> float:
    """Returns the threshold that parts levels into two classes furthest apart (Otsu, 1979, eq. 18)."""
    counts, edges = np.histogram(levels, 64)
    share = np.cumsum(counts) / levels.size
    mean = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2) / levels.size
    apart = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-12)
    return float(edges[1 + int(apart[:-1].argmax())])


def on(plate: Plate, pixels: Pixels) -> Pixels:
    """Returns the plate's part of (H, W, K), with nothing of what is beyond it: it goes on to the corners."""
    from scipy import ndimage

    part = pixels[plate.top : plate.bottom, plate.left : plate.right]
    rows, columns = ndimage.distance_transform_edt(~plate.inside, return_distances=False, return_indices=True)
    painted: Pixels = part[rows, columns]
    return painted


def _gaps(levels: Levels) -> Mask:
    """Returns which columns of a plate (H, W) are gaps between windows, (W,): faint from top to bottom.

    A digit's hole ends within its window, so that above it and below it there is plate.
    """
    from scipy import ndimage

    rim = max(2, round(_RIM * len(levels)))
    strips = [strip.mean(axis=0) for strip in (levels[rim : 3 * rim], levels[-3 * rim : -rim])]
    faint = np.logical_and(*(strip < 0.85 * np.median(strip) for strip in strips))
    return np.asarray(ndimage.binary_dilation(faint, iterations=2), np.bool_)


def _around(filled: Mask) -> float:
    """Returns the area of the smallest rectangle around what is true in (H, W), turned as may be."""
    rows, columns = (axis.astype(float) for axis in np.nonzero(filled & ~_eroded(filled)))
    turns = np.radians(np.arange(-45, 45, 3))
    high = np.outer(np.cos(turns), rows) + np.outer(np.sin(turns), columns)
    wide = np.outer(np.cos(turns), columns) - np.outer(np.sin(turns), rows)
    areas: NDArray[np.float64] = (np.ptp(high, axis=1) + 1) * (np.ptp(wide, axis=1) + 1)
    return float(areas.min())


def _eroded(filled: Mask) -> Mask:
    inner = np.zeros_like(filled)
    inner[1:-1, 1:-1] = (
        filled[1:-1, 1:-1] & filled[:-2, 1:-1] & filled[2:, 1:-1] & filled[1:-1, :-2] & filled[1:-1, 2:]
    )
    return inner
