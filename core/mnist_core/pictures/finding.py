"""Finding tells several digits on one picture apart, and puts them in reading order.

A digit is a piece of ink, or several of which one lies over the other. Digits that touch are one piece, and
are found as one: nothing here cuts ink.
"""

from typing import NamedTuple

import numpy as np

from mnist_core.pictures.cleaning import EIGHT, Mask, box_of, edge_parts, ruled

MOST = 100  # digits of one picture: if there are more, the largest

# Shares of the height of most digits on the picture: what is lower is a comma or a dash, higher a frame.
_LOWEST, _HIGHEST = 0.4, 2.5
# And what is no wider than this is a 1 if it is about as high as the rest, or else what parts two windows.
_THIN, _THIN_LOWEST, _THIN_HIGHEST = 0.15, 0.6, 1.3
_SAME_ROW = 0.5  # as far apart as this, of that height, two middles are still in one row


class Found(NamedTuple):
    """One digit among several: its ink, and where."""

    mask: Mask  # (H, W) of the box
    top: int
    bottom: int  # exclusive, as right
    left: int
    right: int

    @property
    def height(self) -> int:
        """In pixels."""
        return self.bottom - self.top

    @property
    def middle(self) -> float:
        """Its row."""
        return (self.top + self.bottom) / 2

    def moved(self, down: int, right: int) -> "Found":
        """Returns it so many pixels elsewhere."""
        return Found(self.mask, self.top + down, self.bottom + down, self.left + right, self.right + right)


def find(mask: Mask, faint: Mask) -> list[Found]:
    """Returns the digits in what is inked (H, W), row by row from the top, each from the left.

    `faint` has traces of ink too, which tell ruled lines.
    """
    from scipy import ndimage

    lines = ruled(faint)
    if lines is not None:
        mask = mask & ~lines
    parts, count = ndimage.label(mask, EIGHT)
    if not count:
        return []
    boxes = ndimage.find_objects(parts)
    edge = edge_parts(parts, count)
    pieces = [
        Found(parts[box] == number, *box_of(box)) for number, box in enumerate(boxes, 1) if not edge[number]
    ]
    pieces = pieces or [Found(parts[box] == number, *box_of(box)) for number, box in enumerate(boxes, 1)]
    pieces = sorted(pieces, key=lambda piece: -max(piece.mask.shape))[: 3 * MOST]  # the rest is noise
    tallest = max(piece.height for piece in pieces)
    pieces = [piece for piece in pieces if max(piece.mask.shape) >= 0.08 * tallest]
    return arrange(_joined([piece for piece in pieces if not _is_frame(piece, pieces)]))


def arrange(pieces: list[Found]) -> list[Found]:
    """Returns those pieces that are about as high as most, at most MOST of them, in reading order."""
    usual = _usual_height(pieces)
    digits = [piece for piece in pieces if _as_high(piece, usual)]
    if len(digits) > MOST:
        digits = sorted(digits, key=lambda piece: -int(piece.mask.sum()))[:MOST]
    return _read(digits, usual)


def _as_high(piece: Found, usual: float) -> bool:
    thin = piece.right - piece.left <= _THIN * usual
    lowest, highest = (_THIN_LOWEST, _THIN_HIGHEST) if thin else (_LOWEST, _HIGHEST)
    return lowest * usual <= piece.height <= highest * usual


def _is_frame(piece: Found, pieces: list[Found]) -> bool:
    """Says whether a piece goes around others of some size: the cell of a form, the window of a meter."""
    return any(
        other is not piece
        and piece.top < other.top
        and other.bottom < piece.bottom
        and piece.left < other.left
        and other.right < piece.right
        and other.height > 0.35 * piece.height
        for other in pieces
    )


def _joined(pieces: list[Found]) -> list[Found]:
    """Joins pieces of which one lies over the other, close by: the bar of a 5, lifted."""
    joined: list[Found] = []
    for piece in sorted(pieces, key=lambda piece: -piece.height):
        for place, other in enumerate(joined):
            shared = min(piece.right, other.right) - max(piece.left, other.left)
            gap = max(piece.top - other.bottom, other.top - piece.bottom)
            narrower = min(piece.right - piece.left, other.right - other.left)
            if shared >= 0.5 * narrower and gap <= 0.3 * other.height and piece.height < 0.8 * other.height:
                joined[place] = _union(other, piece)
                break
        else:
            joined.append(piece)
    return joined


def _union(one: Found, other: Found) -> Found:
    top, bottom = min(one.top, other.top), max(one.bottom, other.bottom)
    left, right = min(one.left, other.left), max(one.right, other.right)
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for piece in (one, other):
        mask[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left] |= piece.mask
    return Found(mask, top, bottom, left, right)


def _usual_height(pieces: list[Found]) -> float:
    """Returns the median height, each piece counted by its height, so that specks have no say.

    Nor have pieces as thin as what parts two windows, if there are others.
    """
    wide = [piece for piece in pieces if piece.right - piece.left > _THIN * piece.height]
    heights = np.sort([piece.height for piece in wide or pieces])
    weight = np.cumsum(heights)
    return float(heights[np.searchsorted(weight, weight[-1] / 2)])


def _read(digits: list[Found], usual: float) -> list[Found]:
    rows: list[list[Found]] = []
    for digit in sorted(digits, key=lambda digit: digit.middle):
        if rows and digit.middle - np.mean([other.middle for other in rows[-1]]) <= _SAME_ROW * usual:
            rows[-1].append(digit)
        else:
            rows.append([digit])
    return [digit for row in rows for digit in sorted(row, key=lambda digit: digit.left)]
