"""A page is a picture of many digits, and where each is: a meter, a form, lines of handwriting."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from benchmarks.pictures import camera, kinds, scenes, shapes
from benchmarks.pictures.halves import Half
from benchmarks.pictures.kinds import Random
from benchmarks.pictures.shapes import Shape
from PIL import Image


class Placed(NamedTuple):
    """A digit on a page, and the box of its ink, in pixels."""

    label: int
    top: int
    left: int
    height: int
    width: int


class Page(NamedTuple):
    """A picture file, and its digits in reading order."""

    kind: str
    encoded: bytes
    digits: list[Placed]


def page(half: Half, kind: str, number: int) -> Page:
    """Returns a half's page of a kind; the same one every time."""
    random = np.random.default_rng((half.seed, 200 + list(PAGES).index(kind), number))
    image, digits = PAGES[kind](half, random)
    encoding, options = kinds.file_format(random, lossless=0.4)
    return Page(kind, camera.encode(image, encoding, **options), digits)


Made = tuple[Image.Image, list[Placed]]


def _meter(half: Half, random: Random) -> Made:
    """A meter: a row of windows with printed digits, light on dark or dark on light."""
    count, cell = int(random.integers(4, 9)), int(random.integers(40, 120))
    high, wide = int(cell * 1.5), int(cell * random.uniform(1.05, 1.3))
    size = (high * 2, wide * (count + 2))
    casing, window = random.uniform(0.45, 0.9), random.uniform(0.05, 0.15)
    if random.random() < 0.4:
        casing, window = random.uniform(0.2, 0.5), random.uniform(0.85, 1)
    scene = np.full((*size, 3), casing, np.float32) * (1 - random.uniform(0, 0.1, 3).astype(np.float32))
    coverage = np.zeros(size, np.float32)
    top, digits = high // 2, []
    for place in range(count):
        left = wide * (place + 1)
        scene[top : top + high, left + 2 : left + wide - 2] = window
        shape, label, _ = shapes.digit(half, random, source="font")
        row = top + (high - cell) // 2 + int(random.normal(0, 0.03) * cell)
        digits.append(_put(coverage, shape, label, row, left, (int(0.8 * cell), wide - 12), wide))
    scene = kinds.over(scene, coverage, np.full(3, 0.95 if window < 0.5 else 0.08))
    return _seen(scene, random, hard=False), digits


def _form(half: Half, random: Random) -> Made:
    """A form: rows of cells that are printed, a digit by hand in each."""
    rows, columns = int(random.integers(1, 4)), int(random.integers(4, 11))
    cell = int(random.integers(44, 110))
    gap = int(cell * random.choice([0, 0.12]))
    size = (int(cell * 1.4 * rows + cell), (cell + gap) * columns + cell)
    scene = scenes.paper(half, *size, random)
    coverage, printed = np.zeros(size, np.float32), np.zeros(size, np.float32)
    thick, source, width = max(1, cell // 40), _hand(random), random.uniform(0.06, 0.14)
    digits = []
    for row in range(rows):
        for column in range(columns):
            top, left = cell // 2 + int(1.4 * cell) * row, cell // 2 + (cell + gap) * column
            for start in (0, cell):
                printed[top + start : top + start + thick, left : left + cell + thick] = 1
                printed[top : top + cell + thick, left + start : left + start + thick] = 1
            shape, label, _ = shapes.digit(half, random, width, source)
            room = cell - 4 * thick - 8
            high = int(room * random.uniform(0.7, 0.95))
            down = top + 2 * thick + 4 + int((room - high) * random.random())
            digits.append(_put(coverage, shape, label, down, left, (high, room), cell))
    scene = kinds.over(scene, printed * random.uniform(0.4, 1), np.array([0.3, 0.35, 0.45]))
    scene = kinds.over(scene, coverage, kinds.pen_color(random))
    return _seen(scene, random, hard=False), digits


def _lines(half: Half, random: Random) -> Made:
    """Lines of handwriting on blank or ruled paper, that rise or fall a little; digits stand apart."""
    rows, columns = int(random.integers(1, 5)), int(random.integers(3, 10))
    high = int(random.integers(36, 110))
    pitch = high * random.uniform(1.5, 2)
    size = (int(pitch * rows + high), int(high * 1.15 * columns + high))
    scene = scenes.paper(half, *size, random)
    if random.random() < 0.4:
        scene = kinds.over(scene, _rules(size, high, pitch) * random.uniform(0.3, 0.7), [0.5, 0.62, 0.85])
    coverage = np.zeros(size, np.float32)
    source, width, digits = _hand(random), random.uniform(0.06, 0.14), []
    slope, apart = random.normal(0, 0.015), random.uniform(0.12, 0.35)
    for row in range(rows):
        left = high * random.uniform(0.3, 0.7)
        for _ in range(columns):
            shape, label, _ = shapes.digit(half, random, width, source)
            own = high * random.uniform(0.85, 1)
            top = high * 0.55 + pitch * row + (high - own) / 2 + slope * left + random.normal(0, 0.04) * high
            digits.append(_put(coverage, shape, label, int(top), int(left), (int(own), int(own)), None))
            left = digits[-1].left + digits[-1].width + high * apart * random.uniform(0.6, 1.4)
    scene = kinds.over(scene, coverage, kinds.pen_color(random))
    return _seen(scene, random, hard=random.random() < 0.3), digits


PAGES: dict[str, Callable[[Half, Random], Made]] = {"meter": _meter, "form": _form, "lines": _lines}


def _hand(random: Random) -> str:
    """One hand, or several people's: a page has digits from one source."""
    return str(random.choice(["mnist", "strokes"]))


def _rules(size: tuple[int, int], high: int, pitch: float) -> Shape:
    found = np.zeros(size, np.float32)
    for row in range(int(0.55 * high), size[0], max(int(pitch / 2), 8)):
        found[row : row + max(1, high // 45)] = 1
    return found


def _put(
    coverage: Shape, shape: Shape, label: int, top: int, left: int, room: tuple[int, int], cell: int | None
) -> Placed:
    """Draws a shape as large as fits the room (H, W), in the middle of a cell if there is one."""
    rows, columns = shape.shape
    scale = min(room[0] / rows, room[1] / columns)
    high, wide = max(round(rows * scale), 2), max(round(columns * scale), 2)
    small = np.asarray(Image.fromarray(shape).resize((wide, high), Image.Resampling.HAMMING))
    if cell is not None:
        left += (cell - wide) // 2
    part = coverage[top : top + high, left : left + wide]
    np.maximum(part, np.clip(small, 0, 1)[: part.shape[0], : part.shape[1]], out=part)
    return Placed(label, top, left, high, wide)


def _seen(scene: scenes.Field, random: Random, *, hard: bool) -> Image.Image:
    height, width = scene.shape[:2]
    scene = scene * scenes.light(height, width, random, hard=hard)[..., np.newaxis]
    return camera.develop(scene, random, blur=random.uniform(0, 0.9), noise=random.uniform(0, 0.015))
