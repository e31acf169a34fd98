"""A contact sheet shows many pictures at a glance, each beside what the network saw of it."""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CELL = 112


def sheet(cells: Iterable[tuple[bytes, NDArray[np.uint8], str]], columns: int = 8) -> Image.Image:
    """Returns a sheet of pictures (encoded, what was seen of it, a caption)."""
    items = list(cells)
    rows = (len(items) + columns - 1) // columns
    page = Image.new("RGB", (columns * (2 * CELL + 10), rows * (CELL + 16)), "white")
    draw = ImageDraw.Draw(page)
    for index, (encoded, seen, caption) in enumerate(items):
        x, y = index % columns * (2 * CELL + 10), index // columns * (CELL + 16)
        with Image.open(io.BytesIO(encoded)) as image:
            image.draft("RGB", (CELL, CELL))
            small = image.convert("RGBA")
        small.thumbnail((CELL, CELL))
        checked = Image.new("RGBA", small.size, (200, 220, 255, 255))
        checked.alpha_composite(small)
        page.paste(checked.convert("RGB"), (x, y))
        page.paste(Image.fromarray(seen).resize((CELL, CELL), Image.Resampling.NEAREST), (x + CELL + 2, y))
        draw.text((x + 2, y + CELL + 1), caption, fill="black")
    return page
