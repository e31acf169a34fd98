"""A terminal shows an image in as many greys as it has: 256 of them, 24, or the shades of ten characters."""

import os
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

_SHADES = " .:-=+*#%@"
_RESET = "\x1b[0m"
# Parts of a character cell, in eighths.
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
# The greys of the 256-colour palette: 16 is black, 231 white, and 232 to 255 are 8, 18 ... 238.
_LEVELS = {16: 0, 231: 255} | {232 + step: 8 + 10 * step for step in range(24)}
# The nearest of them for every grey.
_PALETTE = [min(_LEVELS, key=lambda color: abs(_LEVELS[color] - grey)) for grey in range(256)]


class Greys(Enum):
    """How a terminal can show grey."""

    CHARACTERS = "characters"  # ten ASCII characters of growing ink, for files, pipes and NO_COLOR
    PALETTE = "palette"  # the 24 greys, black and white of the 256-colour palette
    TRUECOLOR = "truecolor"  # every grey of 0 to 255


def is_terminal(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def is_unicode(stream: TextIO) -> bool:
    """Whether the stream can carry block and braille characters."""
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def greys(stream: TextIO, environ: Mapping[str, str] | None = None) -> Greys:
    """Returns what the stream can show, judged by NO_COLOR (https://no-color.org), COLORTERM and TERM."""
    environ = os.environ if environ is None else environ
    term = environ.get("TERM", "")
    if not stream.isatty() or not is_unicode(stream) or environ.get("NO_COLOR") or term == "dumb":
        return Greys.CHARACTERS
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") or "direct" in term:
        return Greys.TRUECOLOR
    return Greys.PALETTE if "256" in term else Greys.CHARACTERS


def draw_image(image: NDArray[np.uint8], shown: Greys) -> list[str]:
    """Returns an image (H, W), 0 (paper, black here) to 255 (ink, white here), as H / 2 lines of W cells.

    A cell is about twice as high as wide, so each holds two pixels: as its two halves in their own greys, or,
    with characters, as the shade of their mean. Raises ValueError if the image has not two dimensions.
    """
    if image.ndim != 2:
        raise ValueError(f"image: shape {image.shape}; expected (H, W)")
    height, width = image.shape
    pairs = np.zeros((-(-height // 2), 2, width), dtype=np.uint8)
    pairs.reshape(-1, width)[:height] = image
    if shown is Greys.CHARACTERS:
        means = pairs.mean(axis=1)
        shades = np.ceil(means / 255 * (len(_SHADES) - 1)).astype(int)  # any ink at all can be seen
        return ["".join(_SHADES[shade] for shade in row) for row in shades.tolist()]
    return [_half_blocks(top, bottom, shown) for top, bottom in pairs.tolist()]


def draw_bar(share: float, cells: int, *, blocks: bool) -> str:
    """Returns a bar of `share`, 0 to 1, of `cells` characters at most: blocks to an eighth, or '#'."""
    filled = min(max(share, 0.0), 1.0) * cells
    if not blocks:
        return "#" * round(filled)
    whole, eighths = divmod(round(filled * 8), 8)
    return "█" * whole + _EIGHTHS[eighths]


def _half_blocks(top: Sequence[int], bottom: Sequence[int], shown: Greys) -> str:
    """One line of cells: the upper half block in the grey of `top`, on the grey of `bottom`."""
    cells: list[str] = []
    last: tuple[str, str] | None = None
    for pixels in zip(top, bottom, strict=True):
        colors = (_color(pixels[0], shown), _color(pixels[1], shown))
        if colors != last:  # an escape only where a colour changes: a tenth of the bytes
            cells.append(f"\x1b[38;{colors[0]};48;{colors[1]}m")
            last = colors
        cells.append("▀")
    return "".join(cells) + _RESET


def _color(grey: int, shown: Greys) -> str:
    """SGR parameters of a grey (ECMA-48; ISO 8613-6 for the two extended forms)."""
    if shown is Greys.TRUECOLOR:
        return f"2;{grey};{grey};{grey}"
    return f"5;{_PALETTE[grey]}"
