"""A picture, as a file holds it, becomes a digit as MNIST draws it: 28 x 28 grey levels, 0 paper, 255 ink."""

from mnist_core.pictures.cleaning import clean
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
from mnist_core.pictures.ink import Pixels, find_ink
from mnist_core.pictures.normalization import SIZE, is_mnist, normalize

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_JPEG_SCANS",
    "MAX_PIXELS",
    "MAX_TIFF_VALUES",
    "PictureError",
    "to_digit",
]


def to_digit(encoded: bytes) -> Pixels:
    """Returns the MNIST digit, uint8 (28, 28), 0 = paper, 255 = full ink, that a picture file shows.

    The picture is a PNG, JPEG, BMP, GIF, TIFF, WebP or PGM of any size, grey, coloured or transparent, turned
    as its EXIF orientation says; of several frames the first. Ink is what differs from the paper around it:
    dark on light and light on dark are the same, and so are light and shadow. What is already in MNIST's
    form, or its negative, comes back as it is, to the byte. A blank picture is a blank digit, all zero.

    Raises PictureError for bytes that are no such picture, are truncated or corrupt, are more than MAX_BYTES,
    or would decode to more than MAX_PIXELS.
    """
    pixels = decode(encoded)
    if pixels.shape[:2] == (SIZE, SIZE):
        ink = distance_from_border(pixels)
        if is_mnist(ink):
            return ink
    return normalize(clean(find_ink(pixels)))
