"""Cleaning leaves of a picture's ink that of its digit: no specks, no ruled lines, no table's edge."""

import numpy as np
from numpy.typing import NDArray

from mnist_core.pictures.ink import Ink, Levels

Mask = NDArray[np.bool_]

# Ink begins at this level where it is joined to ink of the other, and of that there must be some.
_FAINT, _CLEAR = 0.3, 0.5
_NOISES = 4.5  # standard deviations of the paper that are not ink yet
# Ruled lines cover no more of a picture than this, and are looked for in about so many of their pixels.
_MOST_LINES = 0.2
_SAMPLE = 20_000
EIGHT = np.ones((3, 3), dtype=np.int8)  # pixels that meet at a corner are joined


def clean(ink: Ink) -> Levels:
    """Returns the digit's own ink, (H, W), 0 to 1, all else 0. Where there is no ink, all is 0."""
    return soft(ink, digit_mask(ink_mask(ink), traces(ink)))


def traces(ink: Ink) -> Mask:
    """Returns whatever may be ink, (H, W), however faint."""
    found: Mask = ink.levels > max(0.18, 3 * ink.noise)
    return found


def soft(ink: Ink, kept: Mask) -> Levels:
    """Returns the ink that was kept, (H, W), 0 to 1, with its soft edges."""
    if not kept.any():
        return np.zeros_like(ink.levels)
    from scipy import ndimage

    # Its soft edges belong to it: what lies within two pixels, or within more where pixels are many.
    around = ndimage.maximum_filter(kept.astype(np.uint8), 3 if max(kept.shape) <= 64 else 5) > 0
    low = min(max(0.12, 2 * ink.noise), 0.3)
    levels = np.clip((ink.levels - low) / (0.9 - low), 0, 1)
    return np.where(around, levels, np.float32(0)).astype(np.float32)


def ink_mask(ink: Ink) -> Mask:
    """Returns where there is ink, (H, W): what is faint only beside what is clear."""
    from scipy import ndimage

    clear = ink.levels > max(_CLEAR, min(_NOISES * ink.noise, 0.8))
    faint = ink.levels > max(_FAINT, min(_NOISES * ink.noise, 0.6))
    if not clear.any():
        return clear
    parts, count = ndimage.label(faint, EIGHT)
    wanted = np.zeros(count + 1, dtype=bool)
    wanted[parts[clear]] = True
    wanted[0] = False
    mask: Mask = wanted[parts]
    return mask


def digit_mask(mask: Mask, faint: Mask) -> Mask:
    """Returns the part of the ink (H, W) that is the digit. `faint` has its traces, ruled lines say."""
    from scipy import ndimage

    parts, count = ndimage.label(mask, EIGHT)
    lines = ruled(faint) if count > 1 or _crosses(mask) else None
    if lines is not None:
        parts, count = ndimage.label(mask & ~lines, EIGHT)
    if count == 0:
        return mask
    areas = np.bincount(parts.ravel(), minlength=count + 1).astype(float)
    boxes = ndimage.find_objects(parts)
    edge = edge_parts(parts, count)
    extents = np.array(
        [0] + [max(b[0].stop - b[0].start, b[1].stop - b[1].start) for b in boxes], dtype=float
    )
    weights = areas * extents
    weights[0] = 0
    inner = np.where(edge, 0, weights)
    best = int(inner.argmax())
    if weights[best] < 0.08 * weights.max() or extents[best] < 0.07 * max(mask.shape):
        best, edge = int(weights.argmax()), np.zeros(count + 1, dtype=bool)
    keep = np.zeros(count + 1, dtype=bool)
    keep[best] = True
    top, bottom, left, right = box_of(boxes[best - 1])
    near = [part for part in range(1, count + 1) if not edge[part] and areas[part] >= 0.015 * areas[best]]
    for part in sorted(near, key=lambda part: -areas[part]) * 2:  # what joins may bring others near
        up, down, west, east = box_of(boxes[part - 1])
        gap = max(up - bottom, top - down, west - right, left - east, 0)
        if gap <= (0.25 if areas[part] > 0.08 * areas[best] else 0.1) * extents[best]:
            keep[part] = True
            top, bottom, left, right = min(top, up), max(bottom, down), min(left, west), max(right, east)
    kept: Mask = keep[parts]
    if lines is not None:  # where one crossed a stroke, the stroke goes on
        kept |= mask & (ndimage.grey_closing(kept.astype(np.uint8), 2 * _thickest(mask) + 1) > 0)
    return kept


def edge_parts(parts: NDArray[np.int32], count: int) -> Mask:
    """Returns which of so many labelled parts of (H, W) touch its border, (count + 1,)."""
    edge = np.zeros(count + 1, dtype=bool)
    for side in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        edge[side] = True
    return edge


def box_of(box: tuple[slice, slice]) -> tuple[int, int, int, int]:
    """Returns a part's top, bottom, left and right, bottom and right exclusive."""
    return box[0].start, box[0].stop, box[1].start, box[1].stop


def _crosses(mask: Mask) -> bool:
    return bool((mask[:, 0].any() and mask[:, -1].any()) or (mask[0].any() and mask[-1].any()))


def ruled(mask: Mask) -> Mask | None:
    """Returns the ruled lines, across or down, in what is inked (H, W); None where there are none.

    A ruled line is straight, thin, at most a few degrees off, and inked from one edge to the other but where
    something crosses it. Where a stroke crosses it, the stroke stays.
    """
    found = None
    for turned in (mask, mask.T):
        lines = _across(turned)
        if lines is not None:
            lines = lines if turned is mask else lines.T
            found = lines if found is None else found | lines
    return found


def _across(mask: Mask) -> Mask | None:
    height, width = mask.shape
    if height < 48 or width < 48:
        return None
    from scipy import ndimage

    # How far up and down the ink at a pixel goes: a line is thin, a stroke along it is not.
    thickest = _thickest(mask)
    thin = mask & (ndimage.grey_opening(mask.astype(np.uint8), (thickest + 1, 1)) == 0)
    if not 0.4 * width < thin.sum() < _MOST_LINES * thin.size:
        return None  # nothing as long as that, or noise, in which anything is a line
    every = np.arange(0, width, max(1, int(thin.sum()) // _SAMPLE))
    rows, columns = np.nonzero(thin[:, every])
    columns = every[columns]
    lines = np.zeros_like(mask)
    center = columns - width / 2
    steps = np.arange(-0.1, 0.1001, 2 / width)
    best: list[tuple[float, float, int]] = []
    for slope in steps:
        offsets = np.round(rows - slope * center).astype(int) + height
        counts = np.bincount(offsets, minlength=3 * height)
        counts = counts[:-1] + counts[1:]  # a line may lie between two rows
        for at in np.flatnonzero(counts > 0.6 * len(every)):
            best.append((float(counts[at]), float(slope), int(at) - height))
    if not best:
        return None
    taken: list[tuple[float, float]] = []
    every = np.arange(width)
    for _, slope, offset in sorted(best, reverse=True)[:400]:
        ends = (offset - slope * width / 2, offset + slope * width / 2)
        if any(abs(ends[0] - a) < thickest and abs(ends[1] - b) < thickest for a, b in taken):
            continue
        course = np.round(offset + slope * (every - width / 2)).astype(int)
        seen = np.zeros(width, dtype=bool)
        for shift in range(-1, 3):
            inside = (course + shift >= 0) & (course + shift < height)
            seen[inside] |= mask[course[inside] + shift, every[inside]]
        # From edge to edge, without long gaps: in most of ten parts.
        if not (seen[: width // 40 + 1].any() and seen[-(width // 40) - 1 :].any()):
            continue
        if np.mean([part.mean() > 0.5 for part in np.array_split(seen, 10)]) < 0.8:
            continue
        taken.append(ends)
        for shift in range(-thickest // 2 - 1, thickest // 2 + 3):
            inside = (course + shift >= 0) & (course + shift < height)
            lines[course[inside] + shift, every[inside]] = True
    if not taken:
        return None
    removed: Mask = lines & thin
    return removed


def _thickest(mask: Mask) -> int:
    """Returns how many pixels thick a ruled line may be."""
    return max(3, round(0.03 * float(min(mask.shape))))
