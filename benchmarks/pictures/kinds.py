"""A kind is a way to make pictures of digits: in a paint program, with a scanner, with a phone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from benchmarks.pictures import camera, scenes, shapes
from benchmarks.pictures.halves import Half
from benchmarks.pictures.shapes import Shape
from PIL import Image

Random = np.random.Generator
Color = Any  # three levels, 0 to 1

LARGE = 1_000_000  # pixels from which a picture is large


class Picture(NamedTuple):
    """A picture file, and what it shows."""

    kind: str
    encoded: bytes
    label: int  # of what is no digit, -1
    source: str
    pixels: int


def picture(half: Half, kind: str, number: int) -> Picture:
    """Returns a half's picture of a kind; the same one every time."""
    random = np.random.default_rng((half.seed, list(KINDS).index(kind), number))
    encoded, label, source, pixels = KINDS[kind](half, random)
    return Picture(kind, encoded, label, source, pixels)


Made = tuple[bytes, int, str, int]


def _paint(half: Half, random: Random) -> Made:
    """A paint program: flat colours, hard or soft edges, any size, either polarity."""
    side = int(np.exp(random.uniform(np.log(28), np.log(900))))
    thin = max(random.uniform(0.004, 0.05), 1.5 / side)  # a program's finest pen is a pixel wide
    width = _one(random, [None, thin, random.uniform(0.16, 0.26)], p=[0.5, 0.25, 0.25])
    shape, label, source = shapes.digit(half, random, width)
    ink, ground = two_colors(random)
    coverage = place(
        shape, (side, int(side * random.uniform(0.75, 1.33))), random, (0.3, 0.92), min_pixels=16
    )
    if random.random() < 0.4:
        coverage = (coverage > 0.5).astype(np.float32)
    image = flat(coverage, ink, ground)
    encoding, options = file_format(random, lossless=0.7)
    return _done(image, encoding, label, source, **options)


def _tablet(half: Half, random: Random) -> Made:
    """A drawing on a tablet: soft strokes, often on nothing at all."""
    width = _one(random, [None, random.uniform(0.03, 0.2)])
    shape, label, source = shapes.digit(half, random, width)
    size = (int(random.integers(120, 1400)), int(random.integers(120, 1400)))
    coverage = place(shape, size, random, (0.25, 0.9), min_pixels=40)
    ink, ground = two_colors(random)
    if random.random() < 0.5:
        return _done(flat(coverage, ink, ground), "PNG", label, source)
    alpha = Image.fromarray((coverage * 255).astype(np.uint8))
    image = Image.new("RGB", alpha.size, tuple(int(255 * level) for level in ink))
    image.putalpha(alpha)
    return _done(image, *(("PNG", label, source) if random.random() < 0.7 else ("WEBP", label, source)))


def _tiny(half: Half, random: Random) -> Made:
    """A thumbnail: 28 pixels or little more, blurred, dark on light or light on dark, not in MNIST's form."""
    side = int(random.integers(28, 49)) if random.random() < 0.6 else 28
    shape, label, source = shapes.digit(half, random, _one(random, [None, random.uniform(0.08, 0.18)]))
    large = place(shape, (side * 8, side * 8), random, (0.55, 0.98))
    coverage = np.asarray(Image.fromarray(large).reduce(8))
    ink, ground = two_colors(random, grey=0.7)
    image = camera.develop(
        np.asarray(flat(coverage, ink, ground).convert("RGB"), np.float32) / 255,
        random,
        blur=random.choice([0, random.uniform(0.3, 0.8)]),
        noise=random.choice([0, random.uniform(0, 0.03)]),
    )
    if random.random() < 0.5:
        image = image.convert("L")
    encoding, options = file_format(random, lossless=0.6)
    return _done(image, encoding, label, source, **options)


def _scan(half: Half, random: Random) -> Made:
    """A scanner: even light, a pen, dust, the other side of the sheet shining through."""
    size = (int(random.integers(90, 1300)), int(random.integers(90, 1300)))
    shape, label, source = shapes.digit(half, random, _one(random, [None, random.uniform(0.04, 0.12)]))
    scene = scenes.paper(half, *size, random)
    ink = pen_color(random)
    if random.random() < 0.4:
        other = place(shapes.digit(half, random, 0.08)[0][:, ::-1], size, random, (0.3, 0.8))
        scene *= 1 - 0.12 * other[..., np.newaxis]
    scene = over(scene, scenes.specks(*size, random) * random.uniform(0.2, 0.9), ink)
    coverage = place(shape, size, random, (0.2, 0.9), min_pixels=30)
    scene = over(scene, _pressed(coverage, random), ink)
    image = camera.develop(scene, random, blur=random.uniform(0, 1), noise=random.uniform(0, 0.02))
    if random.random() < 0.5:
        image = image.convert("L")
    encoding, options = file_format(random, lossless=0.3)
    return _done(image, encoding, label, source, **options)


def _photo(
    half: Half, random: Random, *, pen: tuple[float, float] = (0.05, 0.15), lined: float = 0.25
) -> Made:
    """A large photograph from a phone: uneven light, shadows, a view from the side, blur, JPEG, EXIF."""
    height, width = int(random.integers(620, 1100)), int(random.integers(620, 1100))
    shape, label, source = shapes.digit(half, random, random.uniform(*pen))
    scene = scenes.paper(half, height, width, random)
    share = random.uniform(0.18, 0.75)
    if random.random() < lined:
        scene = _ruled(scene, random, share * height)
    coverage = place(shape, (height, width), random, (share, share + 0.01), inside=0.12)
    scene = over(scene, _pressed(coverage, random), pen_color(random))
    scene *= scenes.light(height, width, random, hard=True)[..., np.newaxis]
    scene = camera.tilt(scene, random, 0.05) * random.uniform(0.7, 1.05)
    image = camera.develop(scene, random, blur=random.uniform(0.3, 1.6), noise=random.uniform(0.003, 0.03))
    grown = random.uniform(1.7, 2.4)
    image = image.resize((int(width * grown), int(height * grown)), Image.Resampling.BICUBIC)
    image, exif = camera.held(image, random)
    quality = int(random.choice([20, 40, 75, 92]))
    return _done(image, "JPEG", label, source, quality=quality, exif=exif)


def _pencil(half: Half, random: Random) -> Made:
    """Thin pencil on grainy paper, scanned or photographed: faint and broken."""
    size = (int(random.integers(200, 1000)), int(random.integers(200, 1000)))
    shape, label, source = shapes.digit(half, random, random.uniform(0.025, 0.055))
    scene = scenes.paper(half, *size, random)
    coverage = place(shape, size, random, (0.25, 0.85), min_pixels=80)
    rough = np.clip(1 + 0.45 * scenes.grain(*size, random, random.uniform(1, 3)), 0.1, 1)
    scene = over(scene, coverage * rough * random.uniform(0.35, 0.75), np.full(3, random.uniform(0.15, 0.35)))
    scene *= scenes.light(*size, random, hard=random.random() < 0.4)[..., np.newaxis]
    image = camera.develop(scene, random, blur=random.uniform(0.2, 1), noise=random.uniform(0, 0.015))
    return _done(image, "JPEG", label, source, quality=int(random.integers(40, 95)))


def _lined(half: Half, random: Random) -> Made:
    """A pen on ruled or squared paper."""
    size = (int(random.integers(250, 1100)), int(random.integers(250, 1100)))
    shape, label, source = shapes.digit(half, random, random.uniform(0.05, 0.13))
    share = random.uniform(0.3, 0.85)
    scene = _ruled(scenes.paper(half, *size, random), random, share * min(size))
    coverage = place(shape, size, random, (share, share + 0.01))
    scene = over(scene, _pressed(coverage, random), pen_color(random))
    scene *= scenes.light(*size, random, hard=False)[..., np.newaxis]
    image = camera.develop(scene, random, blur=random.uniform(0.2, 1), noise=random.uniform(0, 0.015))
    encoding, options = file_format(random, lossless=0.2)
    return _done(image, encoding, label, source, **options)


def _marker(half: Half, random: Random) -> Made:
    """A thick marker on a sheet that lies on a table, of which a part is seen."""
    height, width = int(random.integers(400, 900)), int(random.integers(400, 900))
    shape, label, source = shapes.digit(half, random, random.uniform(0.14, shapes.THICK))
    scene = scenes.paper(half, height, width, random)
    coverage = place(shape, (height, width), random, (0.4, 0.75), inside=0.14)
    scene = over(scene, coverage, pen_color(random))
    if random.random() < 0.5:
        table = random.uniform(0.1, 0.6, 3).astype(np.float32)
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        angle = random.choice([0, 1, 2, 3]) * np.pi / 2 + random.normal(0, 0.05)
        beyond = (x * np.cos(angle) + y * np.sin(angle) > random.uniform(0.86, 0.97)).astype(np.float32)
        scene = over(scene, beyond, table)
    scene *= scenes.light(height, width, random, hard=random.random() < 0.5)[..., np.newaxis]
    scene = camera.tilt(scene, random, 0.03)
    image = camera.develop(scene, random, blur=random.uniform(0.3, 1.3), noise=random.uniform(0, 0.02))
    image, exif = camera.held(image, random)
    return _done(image, "JPEG", label, source, quality=int(random.choice([20, 50, 85])), exif=exif)


def _board(half: Half, random: Random) -> Made:
    """Chalk on a blackboard, or a light pen on dark paper, in uneven light."""
    size = (int(random.integers(200, 1000)), int(random.integers(200, 1000)))
    shape, label, source = shapes.digit(half, random, random.uniform(0.05, 0.16))
    scene = scenes.paper(half, *size, random) * random.uniform(0.1, 0.4)
    coverage = place(shape, size, random, (0.25, 0.85), min_pixels=50)
    rough = np.clip(1 + 0.3 * scenes.grain(*size, random, random.uniform(1, 3)), 0.2, 1)
    scene = over(scene, coverage * rough, random.uniform(0.7, 1, 3))
    scene *= scenes.light(*size, random, hard=False)[..., np.newaxis]
    image = camera.develop(scene, random, blur=random.uniform(0.2, 1.2), noise=random.uniform(0, 0.02))
    return _done(image, "JPEG", label, source, quality=int(random.integers(30, 95)))


def _cropped(half: Half, random: Random) -> Made:
    """Cut out close to the ink, which touches the edges of the picture."""
    side = int(np.exp(random.uniform(np.log(40), np.log(900))))
    shape, label, source = shapes.digit(half, random, _one(random, [None, random.uniform(0.06, 0.2)]))
    rows, columns = shape.shape
    scale = side / max(rows, columns)
    size = (max(round(rows * scale), 12), max(round(columns * scale), 12))
    coverage = np.asarray(Image.fromarray(shape).resize(size[::-1], Image.Resampling.BOX))
    more = int(random.integers(0, max(side // 12, 2)))
    edges = ((more * int(random.random() < 0.4), more), (more, more * int(random.random() < 0.4)))
    coverage = np.pad(coverage, edges)
    if random.random() < 0.5:
        ink, ground = two_colors(random)
        image = flat(coverage, ink, ground)
    else:
        scene = over(
            scenes.paper(half, *_size(coverage), random), _pressed(coverage, random), pen_color(random)
        )
        scene *= scenes.light(*_size(coverage), random, hard=False)[..., np.newaxis]
        image = camera.develop(scene, random, blur=random.uniform(0, 0.8), noise=random.uniform(0, 0.02))
    encoding, options = file_format(random, lossless=0.5)
    return _done(image, encoding, label, source, **options)


def _sheet(half: Half, random: Random) -> Made:
    """A sheet or a card, all of it, on a table that is darker or lighter."""
    height, width = int(random.integers(300, 1000)), int(random.integers(300, 1000))
    shape, label, source = shapes.digit(half, random, random.uniform(0.05, 0.15))
    scene = scenes.paper(half, height, width, random)
    coverage = place(shape, (height, width), random, (0.25, 0.5), inside=0.26)
    scene = over(scene, _pressed(coverage, random), pen_color(random))
    table = np.ones((height, width), np.float32)
    top, left, bottom, right = (random.uniform(0.1, 0.2, 4) * (height, width, height, width)).astype(int)
    table[top : height - bottom, left : width - right] = 0
    tint = random.uniform(0.7, 1, 3) * (random.uniform(0.15, 0.55) if random.random() < 0.8 else 1)
    ground = scenes.paper(half, height, width, random) * tint
    scene = scene * (random.uniform(0.6, 0.8) if tint.mean() > 0.6 else 1)
    scene = scene * (1 - table[..., np.newaxis]) + ground * table[..., np.newaxis]
    scene *= scenes.light(height, width, random, hard=random.random() < 0.3)[..., np.newaxis]
    scene = camera.tilt(scene, random, 0.03)
    image = camera.develop(scene, random, blur=random.uniform(0.3, 1.3), noise=random.uniform(0, 0.02))
    return _done(image, "JPEG", label, source, quality=int(random.choice([20, 50, 85])))


KINDS: dict[str, Callable[[Half, Random], Made]] = {
    "paint": _paint,
    "tablet": _tablet,
    "tiny": _tiny,
    "scan": _scan,
    "photo": _photo,
    "pencil": _pencil,
    "lined": _lined,
    "marker": _marker,
    "board": _board,
    "cropped": _cropped,
    "sheet": _sheet,
}


def place(
    shape: Shape,
    size: tuple[int, int],
    random: Random,
    share: tuple[float, float],
    *,
    inside: float = 0.02,
    min_pixels: int = 8,
) -> Shape:
    """Returns a shape somewhere on a canvas (H, W); its longer side is a `share` of the canvas's shorter."""
    height, width = size
    longer = max(random.uniform(*share) * min(size), min(min_pixels, 0.9 * min(size)))
    scale = longer / max(shape.shape)
    rows, columns = (max(round(side * scale), 1) for side in shape.shape)
    small = np.asarray(Image.fromarray(shape).resize((columns, rows), Image.Resampling.HAMMING))
    canvas = np.zeros(size, np.float32)
    room = [max(int(side * inside), 0) for side in size]
    top, left = (
        int(random.integers(min(least, free // 2), max(free - least, free // 2) + 1))
        for least, free in zip(room, (height - rows, width - columns), strict=True)
    )
    canvas[top : top + rows, left : left + columns] = np.clip(small, 0, 1)
    return canvas


def over(scene: scenes.Field, coverage: Shape, ink: Color) -> scenes.Field:
    """Returns a scene (H, W, 3) with ink on it where a shape covers it."""
    alpha = coverage[..., np.newaxis]
    return (scene * (1 - alpha) + np.asarray(ink, np.float32) * alpha).astype(np.float32)


def _pressed(coverage: Shape, random: Random) -> Shape:
    """A pen's ink is not as dense everywhere."""
    slow = scenes.grain(*_size(coverage), random, max(coverage.shape) / 12)
    return np.asarray(coverage * np.clip(random.uniform(0.75, 1) + 0.08 * slow, 0.4, 1), np.float32)


def _ruled(scene: scenes.Field, random: Random, height: float) -> scenes.Field:
    spacing = height * random.uniform(0.3, 1.3)
    color = np.array(
        [(0.45, 0.6, 0.85), (0.6, 0.6, 0.6), (0.85, 0.5, 0.5), (0.5, 0.75, 0.6)][random.integers(4)]
    )
    return over(scene, scenes.lines(*_size(scene), random, spacing) * random.uniform(0.3, 0.9), color)


def pen_color(random: Random) -> Color:
    """Returns black, blue, red or green, about."""
    pens = [(0.08, 0.08, 0.1), (0.1, 0.15, 0.5), (0.1, 0.1, 0.3), (0.7, 0.1, 0.12), (0.1, 0.4, 0.2)]
    return np.array(pens[random.choice(5, p=[0.4, 0.25, 0.1, 0.15, 0.1])]) + random.uniform(0, 0.08)


def _size(array: Shape) -> tuple[int, int]:
    return int(array.shape[0]), int(array.shape[1])


def _one(random: Random, choices: list[float | None], p: list[float] | None = None) -> float | None:
    return choices[random.choice(len(choices), p=p)]


def two_colors(random: Random, grey: float = 0.6) -> tuple[Color, Color]:
    """Ink and ground, far enough apart to be read."""
    if random.random() < grey:
        dark, light = random.uniform(0, 0.3), random.uniform(0.65, 1)
        dark, light = (0.0, 1.0) if random.random() < 0.5 else (dark, light)
        pair = (np.full(3, dark), np.full(3, light))
        return pair if random.random() < 0.5 else pair[::-1]
    while True:
        ink, ground = random.uniform(0, 1, 3), random.uniform(0, 1, 3)
        if abs(ink.mean() - ground.mean()) > 0.25:
            return ink, ground


def flat(coverage: Shape, ink: Color, ground: Color) -> Image.Image:
    """Returns a shape in one colour on another."""
    levels = ground + coverage[..., np.newaxis] * (ink - ground)
    return Image.fromarray(np.rint(levels * 255).astype(np.uint8))


def file_format(random: Random, *, lossless: float) -> tuple[str, dict[str, Any]]:
    """Returns an encoding and its options; `lossless` is the chance of one that loses nothing."""
    if random.random() < lossless:
        return str(random.choice(["PNG", "PNG", "BMP", "GIF", "TIFF"])), {}
    if random.random() < 0.15:
        return "WEBP", {"quality": int(random.integers(30, 95))}
    return "JPEG", {"quality": int(random.choice([20, 35, 60, 75, 90]))}


def _done(image: Image.Image, encoding: str, label: int, source: str, **options: Any) -> Made:
    return camera.encode(image, encoding, **options), label, source, image.width * image.height
