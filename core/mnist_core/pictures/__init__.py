"""A picture, as a file holds it, becomes a digit as MNIST draws it: 28 x 28 grey levels, 0 paper, 255 ink."""

from typing import NamedTuple

import numpy as np

from mnist_core.digit_score import border_of, border_share, digit_scores
from mnist_core.pictures.cleaning import Mask, digit_mask, ink_mask, soft, traces
from mnist_core.pictures.decoding import (
    FORMATS,
    MAX_BYTES,
    MAX_JPEG_SCANS,
    MAX_PIXELS,
    MAX_TIFF_VALUES,
    PictureError,
    decode,
    distance_from_border,
)
from mnist_core.pictures.finding import MOST, Found, arrange, find
from mnist_core.pictures.ink import GUESSES, Ink, Pixels, find_ink, plain_paper, reduce
from mnist_core.pictures.normalization import SIZE, bounds, is_mnist, normalize
from mnist_core.pictures.plates import find_plates, on
from mnist_core.pictures.views import mean_of_views, views

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_JPEG_SCANS",
    "MAX_PIXELS",
    "MAX_TIFF_VALUES",
    "MOST",
    "DigitInPicture",
    "PictureError",
    "Read",
    "mean_of_views",
    "read",
    "read_all",
    "to_digit",
    "views",
]

# A score below which what was found is in doubt and looked for again, and one that another is to have.
_DOUBT, _LIKELY = 0.1, 0.3
# It is looked for again in a picture of at most so many pixels, its longer side; in one of so few, never.
_AGAIN, _TINY = 600, 64
# Of the height of a plate, a digit on it has more than this.
_ON_PLATE = 0.3
# And where one digit is asked for, its plate is a sheet or a card, and more than this share of the picture.
_SHEET = 0.1


class Read(NamedTuple):
    """The digit of a picture."""

    digit: Pixels
    """As `to_digit` makes it, (28, 28)."""
    border: float
    """The share of the border that is inked, 0 to 1, of the picture, or of the plate that the digit is on."""
    prepared: bool
    """Whether anything had to be done: False where the picture was in MNIST's form."""
    first_score: float | None = None
    """Where it was looked for again, the score of what was found first."""

    @property
    def score(self) -> float:
        """How much it looks like a digit, 0 to 1, as of `digit_scores`; of two looks the mean."""
        score = float(digit_scores(self.digit[np.newaxis], [self.border])[0])
        return score if self.first_score is None else (self.first_score + score) / 2


class DigitInPicture(NamedTuple):
    """One digit among those on a picture."""

    digit: Pixels
    """As `to_digit` makes it, (28, 28)."""
    prepared: bool
    """As of `Read`."""
    score: float
    """How much it looks like a digit, 0 to 1, as of `digit_scores`."""
    top: int
    """Of its box, in pixels of the picture, turned as its EXIF orientation says."""
    left: int
    height: int
    width: int


def to_digit(encoded: bytes) -> Pixels:
    """Returns the MNIST digit, uint8 (28, 28), 0 = paper, 255 = full ink, that a picture file shows.

    The picture is a PNG, JPEG, BMP, GIF, TIFF, WebP or PGM of any size, grey, coloured or transparent, turned
    as its EXIF orientation says; of several frames the first. Ink is what differs from the paper around it:
    dark on light and light on dark are the same, and so are light and shadow. What is already in MNIST's
    form, or its negative, comes back as it is, to the byte. A blank picture is a blank digit, all zero.

    Raises PictureError for bytes that are no such picture, are truncated or corrupt, are more than MAX_BYTES,
    or would decode to more than MAX_PIXELS.
    """
    return read(encoded).digit


def read(encoded: bytes, *, again: bool = True) -> Read:
    """Returns the digit, as `to_digit` does, and what else is known of it. Raises PictureError.

    again: whether to look for it again where what was found hardly looks like one.
    """
    pixels = decode(encoded).pixels
    if pixels.shape[:2] == (SIZE, SIZE):
        levels = distance_from_border(pixels)
        if is_mnist(levels):
            return Read(levels, border_of(levels), prepared=False)
    found = _read(pixels)
    if not again or max(pixels.shape[:2]) <= _TINY or plain_paper(pixels) is not None:
        return found
    score = found.score
    return _look_again(found, score, pixels) if score < _DOUBT else found


def _look_again(first: Read, score: float, pixels: Pixels) -> Read:
    """Returns what looks more like a digit than what was found first on (H, W, K), or that.

    A hard shadow may have passed for ink, or all that is out of it. It is broader than a pen's strokes.
    """
    smaller = reduce(pixels.astype(np.float32), -(-max(pixels.shape[:2]) // _AGAIN))
    others = [_cleaned(find_ink(smaller, widest, opposite=opposite)) for widest, opposite in GUESSES]
    scores = digit_scores(np.stack([other.digit for other in others]), [other.border for other in others])
    best = int(scores.argmax())
    if scores[best] < max(_LIKELY, score):
        return first
    return others[best]._replace(first_score=score)


def _read(pixels: Pixels, *, plated: bool = True) -> Read:
    """Returns the digit on (H, W, K). plated: also if it is on a plate."""
    ink = find_ink(pixels)
    mask = ink_mask(ink)
    for plate in find_plates(pixels, mask, ink.levels) if plated else ():
        if plate.inside.sum() > _SHEET * mask.size:
            on_it = _read(on(plate, pixels), plated=False)
            if on_it.digit.any():
                return on_it
    return _cleaned(ink, mask)


def _cleaned(ink: Ink, mask: Mask | None = None) -> Read:
    """Returns the digit among ink. mask: where there is ink, if that is known."""
    mask = ink_mask(ink) if mask is None else mask
    kept = digit_mask(mask, traces(ink))
    return Read(normalize(soft(ink, kept)), border_share(mask), prepared=True)


def read_all(encoded: bytes) -> list[DigitInPicture]:
    """Returns every digit on a picture, row by row from the top, each row from the left.

    At most MOST of them. What is 28 x 28 in MNIST's form is one, as `to_digit` says; a blank picture has
    none. Digits that touch are found as one. Raises PictureError.
    """
    picture = decode(encoded)
    pixels = picture.pixels
    high, wide = pixels.shape[:2]
    if (high, wide) == (SIZE, SIZE) and is_mnist(levels := distance_from_border(pixels)):
        top, bottom, left, right = bounds(levels > 0)
        box = (top, left, bottom - top, right - left)
        [score] = digit_scores(levels[np.newaxis]).tolist()
        return [DigitInPicture(levels, False, score, *box)]
    found, border = _find(pixels)
    if not found:
        return []
    scores = digit_scores(np.stack([digit for _, digit in found]), [border] * len(found)).tolist()
    digits = []
    for (piece, digit), score in zip(found, scores, strict=True):
        top, bottom = (round(row * picture.height / high) for row in (piece.top, piece.bottom))
        left, right = (round(column * picture.width / wide) for column in (piece.left, piece.right))
        box = (top, left, max(bottom - top, 1), max(right - left, 1))
        digits.append(DigitInPicture(digit, True, score, *box))
    return digits


def _find(pixels: Pixels, *, plated: bool = True) -> tuple[list[tuple[Found, Pixels]], float]:
    """Returns the digits on (H, W, K), each where it is and prepared, and the share of the border inked.

    plated: also those on plates.
    """
    ink = find_ink(pixels)
    mask = ink_mask(ink)
    border = border_share(mask)
    found: list[tuple[Found, Pixels]] = []
    for plate in find_plates(pixels, mask, ink.levels) if plated else ():
        on_it = [
            (piece.moved(plate.top, plate.left), digit)
            for piece, digit in _find(on(plate, pixels), plated=False)[0]
        ]
        if any(piece.height > _ON_PLATE * (plate.bottom - plate.top) for piece, _ in on_it):
            mask[max(plate.top - 2, 0) : plate.bottom + 2, max(plate.left - 2, 0) : plate.right + 2] = False
            found += on_it
    several = bool(found)
    for piece in find(mask, traces(ink)):
        kept = np.zeros_like(mask)
        kept[piece.top : piece.bottom, piece.left : piece.right] = piece.mask
        # With room for soft edges, so that a page of digits costs little more than its ink.
        part = (
            slice(max(piece.top - 3, 0), piece.bottom + 3),
            slice(max(piece.left - 3, 0), piece.right + 3),
        )
        own = Ink(ink.levels[part], ink.contrast, ink.noise)
        found.append((piece, normalize(soft(own, kept[part]))))
    if several:
        digits = {id(piece): digit for piece, digit in found}
        found = [(piece, digits[id(piece)]) for piece in arrange([piece for piece, _ in found])]
    return found, border
