"""Decoding turns a file's bytes into pixels, whatever it is, within bounds, and the right side up."""

import io
import struct
import warnings
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # PPM is Pillow's name for PGM and its kin
MAX_PIXELS = 24_000_000
MAX_BYTES = 8 * 2**20
# Pillow reads a TIFF's lists number by number: a file may hold millions, for half a minute.
MAX_TIFF_VALUES = 2**16
_TIFF_BYTES = (1, 2, 7)  # types of lists that are read whole: BYTE, ASCII, UNDEFINED (section 2)
# A progressive JPEG goes over the whole picture once a scan: a small file can hold hours of them.
MAX_JPEG_SCANS = 64

# Bigger pictures are reduced until their longer side is between this and twice this.
_REDUCED = 512

Pixels = NDArray[np.uint8]


class PictureError(ValueError):
    """These bytes are not a picture that can be read; the fault is the sender's.

    Attributes:
        found: what the bytes are ("a truncated PNG").
        expected: what they should have been.
        reason: both, as one phrase.
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found = found
        self.expected = expected
        self.reason = f"{found}: expected {expected}"

    def __str__(self) -> str:
        return self.reason


class Decoded(NamedTuple):
    """A picture's pixels, the right side up, reduced when the picture is big."""

    pixels: Pixels  # (H, W, 1) grey or (H, W, 3) RGB
    height: int  # of the picture as it is, in its own pixels
    width: int


def decode(encoded: bytes) -> Decoded:
    """Returns the pixels of a picture file. Raises PictureError."""
    if len(encoded) > MAX_BYTES:
        raise PictureError(f"a picture of {len(encoded)} bytes", f"at most {MAX_BYTES}")
    _check_tiff(encoded)
    _load_pillow()
    from PIL import Image, UnidentifiedImageError

    name = "picture"
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            name = image.format or name
            _check_header(image, encoded)
            return _read(image)
    except PictureError:
        raise
    except UnidentifiedImageError:
        start = f"bytes that begin {bytes(encoded[:8])!r}" if encoded else "no bytes"
        raise PictureError(start, "a whole PNG, JPEG, BMP, GIF, TIFF, WebP or PGM") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limit is far above MAX_PIXELS, and comes before our look at the header.
        raise PictureError("a picture of too many pixels", f"at most {MAX_PIXELS}") from None
    except Exception as error:
        # On corrupt files Pillow's readers raise whatever they trip over: OSError, SyntaxError, struct.error
        trouble = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise PictureError(f"a truncated or corrupt {name} ({trouble})", "a whole picture") from error


def _check_tiff(encoded: bytes) -> None:
    """Refuses a TIFF whose first directory has an endless list (TIFF 6.0, section 2: 12 bytes an entry)."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(encoded[:4])
    if order is None or len(encoded) < 8:
        return
    (start,) = struct.unpack_from(f"{order}I", encoded, 4)
    (entries,) = struct.unpack(f"{order}H", encoded[start : start + 2].ljust(2, b"\0"))
    directory = encoded[start + 2 : start + 2 + 12 * entries]
    whole = directory[: len(directory) // 12 * 12]
    for _, kind, count, _ in struct.iter_unpack(f"{order}HHII", whole):
        if count > MAX_TIFF_VALUES and kind not in _TIFF_BYTES:
            raise PictureError(f"a TIFF with a list of {count} values", f"at most {MAX_TIFF_VALUES}")


@cache
def _load_pillow() -> None:
    """Imports Pillow's readers of FORMATS, when the first picture comes; the other readers never."""
    from PIL import (  # noqa: F401
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    # Remarks on odd metadata, which a stranger could fill the log with. What matters is raised.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _check_header(image: "Image.Image", encoded: bytes) -> None:
    """Refuses what would cost too much to decode; nothing but the header was read so far."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise PictureError(f"a picture of {width} x {height} pixels", f"at most {MAX_PIXELS} pixels")
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise PictureError(f"a {image.format} of 32 bits a pixel and channel", "1 to 16 bits")
    # Inside a scan the byte 0xff is followed by 0, so that this sequence is the start of one.
    if image.format in ("JPEG", "MPO") and (scans := encoded.count(b"\xff\xda")) > MAX_JPEG_SCANS:
        raise PictureError(f"a JPEG of {scans} scans", f"at most {MAX_JPEG_SCANS}")


def _read(image: "Image.Image") -> Decoded:
    from PIL import Image

    width, height = image.size
    longer = max(image.size)
    if longer >= 2 * _REDUCED:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size; for others this does nothing.
        smallest = [max(1, side * _REDUCED // longer) for side in image.size]
        image.draft(None, (smallest[0], smallest[1]))
    image.load()
    transpose = _upright(image)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "L" if image.mode in ("1", "L") else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if (factor := max(image.size) // _REDUCED) > 1:
        image = image.reduce(factor)
    if transpose is not None:
        image = image.transpose(transpose)
        if transpose.value >= Image.Transpose.ROTATE_90 and transpose != Image.Transpose.ROTATE_180:
            height, width = width, height
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    return Decoded(flatten(pixels) if pixels.shape[2] == 4 else pixels, height, width)


def _upright(image: "Image.Image") -> "Image.Transpose | None":
    from PIL import Image

    try:
        orientation = image.getexif().get(0x0112)  # "Orientation", TIFF 6.0, section 8
    except Exception:
        return None  # damaged metadata is no reason to refuse whole pixels
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return turns.get(orientation) if isinstance(orientation, int) else None


def flatten(pixels: Pixels) -> Pixels:
    """Returns (H, W, 4) RGBA without its transparency, as colours (H, W, 3) or as one channel (H, W, 1).

    Two kinds of picture have transparent parts. In one, ink of any colour lies on nothing: its opacity is the
    picture. In the other an opaque card with a digit on it ends somewhere, at rounded corners say: there the
    card's colour, found along its rim, is painted on.
    """
    colors, alpha = pixels[..., :3], pixels[..., 3]
    visible = alpha >= 128
    if visible.all():
        return colors
    beside_nothing = np.zeros_like(visible)
    beside_nothing[1:] |= ~visible[:-1]
    beside_nothing[:-1] |= ~visible[1:]
    beside_nothing[:, 1:] |= ~visible[:, :-1]
    beside_nothing[:, :-1] |= ~visible[:, 1:]
    rim = colors[visible & beside_nothing]
    if len(rim):
        card = median(rim)
        rim_is_plain = np.median(distance(rim, card)) <= 32
        if rim_is_plain and distance(colors, card).max(where=visible, initial=0) >= 128:
            opacity = alpha[..., np.newaxis].astype(np.uint16)
            return ((colors * opacity + card * (255 - opacity)) // 255).astype(np.uint8)
    return alpha[..., np.newaxis]


def median(colors: Pixels) -> Pixels:
    """Returns the median of each channel of (N, K): (K,), levels that occur."""
    middle = len(colors) // 2
    found: Pixels = np.partition(colors, middle, axis=0)[middle]
    return found


def distance(pixels: Pixels, color: Pixels) -> Pixels:
    """Returns the greatest difference over the channels of (..., K) from (K,): (...), 0 to 255.

    Not the difference in brightness: yellow on white, or red on a green as bright, is clear to a reader.
    """
    distance = np.zeros(pixels.shape[:-1], dtype=np.uint8)
    for channel, level in enumerate(color):
        values = pixels[..., channel]
        np.maximum(distance, np.maximum(values, level) - np.minimum(values, level), out=distance)
    return distance


def distance_from_border(pixels: Pixels) -> Pixels:
    """Returns how far each pixel of (H, W, K) is from the colour of most of the border: (H, W), 0 to 255."""
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return distance(pixels, median(border))
