"""Ink is what differs from the paper around it, however the light falls: pixels become grey levels of ink."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float32]
Pixels = NDArray[np.uint8]

# Levels of 255 by which ink must differ from paper: below, a picture is blank.
_MIN_CONTRAST = 16
# A border is plain if half of it is within so many levels of one colour, and little of the rest is near it:
# that rest is ink which touches the border.
_PLAIN_LEVELS = 3
_NEAR_LEVELS = 40
# What the paper is like is judged on a picture whose longer side has at most so many pixels.
_COARSE = 128
# Widths that are tried, as shares of the picture's shorter side.
_ON_PLANE = 0.07  # a border that is no further from its plane, in logarithms, is on it
_KERNELS = (0.45, 0.3, 0.2, 0.13, 0.08)
# What find_ink is asked for once there is doubt: `widest` and `opposite`.
GUESSES = ((0.2, False), (0.13, False), (0.2, True))
_SLENDER = 4.0
_CLEAR = 1.5  # a vote on which is ink that is longer is not doubted
# Grain is smoothed away, by so many pixels, in pictures of more than so many.
_GRAIN = 0.7
_FINE = 64
DARKEST = 12.0  # levels that are added to all, so that the noise of the darkest counts for little


class Ink(NamedTuple):
    """Grey levels of ink, and how they were found."""

    levels: Levels  # (H, W), 0 = paper, about 1 = full ink
    contrast: float  # of full ink to paper, 0 to 1
    noise: float  # standard deviation of paper, in units of full ink


def find_ink(pixels: Pixels | Levels, widest: float | None = None, *, opposite: bool = False) -> Ink:
    """Returns the ink on (H, W, K). A blank picture has none: levels all 0.

    widest: what is wider than this share of the shorter side is paper, or a shadow on it. Without it, what
        the picture itself suggests.
    opposite: whether ink is light where it seems dark, and dark where it seems light.
    """
    image = pixels.astype(np.float32, copy=False)
    if widest is not None:
        return _evened(image, widest, opposite)
    paper = plain_paper(image)
    if paper is not None:
        away: Levels = image - paper
        return _scaled(away @ _unit(_axis(away)))
    return _evened(image)


def plain_paper(pixels: Pixels | Levels) -> Levels | None:
    """Returns the colour (K,) of a paper (H, W, K) that is the same everywhere; None for one that is not."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).astype(np.float32)
    paper: Levels = np.sort(border, axis=0)[len(border) // 2]
    distance = np.abs(border - paper).max(axis=1)
    plain = distance <= _PLAIN_LEVELS
    return paper if plain.mean() >= 0.5 and (plain | (distance > _NEAR_LEVELS)).mean() >= 0.75 else None


def _evened(image: Levels, widest: float | None = None, opposite: bool = False) -> Ink:
    from scipy import ndimage

    raw = _uneven(image, widest, opposite)
    return _scaled(ndimage.gaussian_filter(raw, _GRAIN) if max(raw.shape) > _FINE else raw)


def _axis(away: Levels) -> Levels:
    """Returns the direction, (K,), in which ink differs from paper: the longer, the clearer that is.

    `away` (H, W, K) is each pixel less its paper. Ink is the minority that is far away, so the third moment
    points at it: this settles both polarity and colour. Its ratio to the second, to the power of 1.5, is the
    larger the smaller the minority.
    """
    squares = (away * away).sum(axis=2)
    moment = np.tensordot(squares, away, axes=2).astype(np.float64)
    axis: Levels = (moment / squares.size / max(float(squares.mean()), 1e-6) ** 1.5).astype(np.float32)
    return axis


def _unit(axis: Levels) -> Levels:
    length = float(np.sqrt(axis @ axis))
    return axis / length if length > 1e-6 else np.full(len(axis), -1 / np.sqrt(len(axis)), np.float32)


def _uneven(image: Levels, widest: float | None = None, opposite: bool = False) -> Levels:
    """Returns how far (H, W, K) is from a paper that is not the same everywhere, towards ink: (H, W).

    widest, opposite: as of `find_ink`.
    """
    from scipy import ndimage

    factor = max(1, -(-max(image.shape[:2]) // _COARSE))
    # Light multiplies: to logarithms a shadow is a small step, and ink, dark or light, a large one.
    coarse = np.log(reduce(image, factor) + DARKEST)
    longer = max(coarse.shape[:2])
    # What the border suggests is wrong in hard shadows, what is around where strokes are thick: a vote.
    paper, trust = _from_border(coarse)
    votes = [_axis(coarse - paper) * trust]
    votes += [_axis(coarse - ndimage.gaussian_filter(coarse, (longer / n, longer / n, 0))) for n in (6, 16)]
    vote = np.sum(votes, axis=0)
    axis = -_unit(vote) if opposite else _unit(vote)
    projected = image @ axis
    smooth = ndimage.gaussian_filter(projected, _GRAIN) if max(image.shape) > _FINE else projected
    if widest is None:
        kernel, slender = _kernel(smooth, factor)
    else:
        kernel = max(3, round(widest * (min(image.shape[:2]) // factor))) * factor
        slender = _SLENDER
    if slender < _SLENDER and vote @ vote < _CLEAR**2:  # no stroke: perhaps the paper was taken for ink
        other, more = _kernel(-smooth, factor)
        if more >= max(_SLENDER, 2 * slender):
            axis, projected, smooth, kernel = -axis, -projected, -smooth, other
    # Paper is what is left when all that is narrower than a stroke can be is taken away.
    background = _opened(smooth, kernel)
    raw: Levels = projected - background
    if axis.sum() < 0:  # dark ink takes away a share of the light, so that there is less to take in a shadow
        lightest = max(float(-np.median(background)), 1.0)
        raw *= np.float32(lightest) / np.maximum(-background, np.float32(0.15 * lightest))
    return raw


def _from_border(image: Levels) -> tuple[Levels, float]:
    """Returns the paper (H, W, K) that the border of (H, W, K), in logarithms, suggests, and the trust in it.

    It is a plane through most of the border; the trust is large where it goes through nearly all of it.
    """
    height, width = image.shape[:2]
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(rows), rows, columns, rows * columns, rows**2, columns**2], axis=2)
    ring = np.zeros((height, width), dtype=bool)
    ring[[0, -1]] = ring[:, [0, -1]] = True
    levels, known = image[ring], terms[ring]
    weights = np.ones(len(levels), np.float32)
    for _ in range(5):
        plane, *_ = np.linalg.lstsq(known * weights[:, None], levels * weights[:, None], rcond=None)
        off = np.abs(levels - known @ plane).max(axis=1)
        weights = np.sqrt(1 / (1 + (off / (1.5 * np.median(off) + 0.01)) ** 2))
    paper: Levels = (terms @ plane).astype(np.float32)
    return paper, 1.0 if (off < _ON_PLANE).mean() > 0.65 else 0.5


def _kernel(smooth: Levels, factor: int) -> tuple[int, float]:
    """Returns how wide, in pixels, what is taken away from (H, W) to leave the paper must be.

    And how slender the stroke is that is found so.

    Wider than the digit's strokes, or they would pass for paper; no wider than need be, or what lies between
    two shadows would pass for ink. So the widest at which the most ink is a stroke, longer than it is
    wide, or the narrowest that leaves as much of that stroke.
    """
    from scipy import ndimage

    small = ndimage.maximum_filter(smooth, factor)[factor // 2 :: factor, factor // 2 :: factor]
    side = min(small.shape)
    sizes = [max(3, round(share * side)) for share in _KERNELS]
    found = [_stroke(small - _opened(small, size)) for size in sizes]
    chosen = max(range(len(sizes)), key=lambda place: (found[place][1] >= _SLENDER, -place, found[place][1]))
    if found[chosen][1] < _SLENDER:
        chosen = max(range(len(sizes)), key=lambda place: found[place][1])
    area = found[chosen][0]
    while chosen + 1 < len(sizes) and found[chosen + 1][0] > 0.8 * area and found[chosen + 1][1] >= _SLENDER:
        chosen += 1
    return sizes[chosen] * factor, found[chosen][1]


def _stroke(levels: Levels) -> tuple[int, float]:
    """Returns the area of the main stroke that stands out of (H, W), and how many times longer than wide."""
    from scipy import ndimage

    parts, count = ndimage.label(levels > 0.45 * _full(levels), np.ones((3, 3)))
    if not count:
        return 0, 0.0
    weights = np.bincount(parts.ravel(), minlength=count + 1).astype(float)
    weights[0] = 0
    inner = weights.copy()
    inner[np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = 0
    best = int(inner.argmax() if inner.max() > 0.1 * weights.max() else weights.argmax())
    mask = np.pad(parts == best, 1)
    depths = ndimage.distance_transform_edt(mask)[mask]
    width = 4 * (float(depths.mean()) - 0.25)  # of a strip, distances to the edge are a quarter on average
    return len(depths), float(len(depths)) / width**2


def _opened(levels: Levels, size: int) -> Levels:
    from scipy import ndimage

    opened: Levels = ndimage.grey_opening(levels, size=(size, size), mode="nearest")
    return opened


def _scaled(raw: Levels) -> Ink:
    """Returns what is raw, in levels of 255, as shares of full ink."""
    levels = np.maximum(raw, 0)
    full = _full(levels)
    if full < _MIN_CONTRAST:
        return Ink(np.zeros_like(levels), full / 255, 0.0)
    quiet = levels[levels < 0.25 * full]
    noise = float(np.sqrt(np.mean(quiet**2))) / full if quiet.size else 0.0
    return Ink((levels / full).astype(np.float32), full / 255, noise)


def _full(levels: Levels) -> float:
    """Returns the level of full ink: the median of what is at least half as strong as the strongest."""
    strongest = float(np.percentile(levels, 99.8)) if levels.size > 5000 else float(levels.max())
    strongest = max(strongest, 0.6 * float(levels.max()))
    return float(np.median(levels[levels >= 0.5 * strongest])) if strongest > 0 else 0.0


def reduce(image: Levels, factor: int) -> Levels:
    """Returns (H, W, K) averaged over squares of `factor` pixels; what is left over at the edges goes."""
    if factor == 1:
        return image
    height, width = (max(side // factor, 1) for side in image.shape[:2])
    whole = image[: height * factor, : width * factor]
    if min(whole.shape[:2]) < factor:
        return image
    averaged: Levels = whole.reshape(height, factor, width, factor, -1).mean(axis=(1, 3))
    return averaged
