"""Others are pictures of no digit: nothing at all, noise, scribbles, something else, letters, clutter."""

from collections.abc import Callable

import numpy as np
from benchmarks.pictures import camera, halves, kinds, scenes, shapes, strokes
from benchmarks.pictures.halves import Half
from benchmarks.pictures.kinds import Picture, Random
from PIL import Image, ImageDraw


def other(half: Half, kind: str, number: int) -> Picture:
    """Returns a half's picture of a kind that shows no digit; the same one every time."""
    random = np.random.default_rng((half.seed, 100 + list(OTHERS).index(kind), number))
    image = OTHERS[kind](half, random)
    encoding, options = kinds.file_format(random, lossless=0.5)
    encoded = camera.encode(image, encoding, **options)
    return Picture(kind, encoded, -1, kind, image.width * image.height)


def _blank(half: Half, random: Random) -> Image.Image:
    """A colour, or a sheet of paper in uneven light, with nothing on it."""
    size = _size(random)
    if random.random() < 0.3:
        return Image.new("RGB", size, tuple(random.integers(0, 256, 3).tolist()))
    scene = scenes.paper(half, *size[::-1], random)
    scene *= scenes.light(*size[::-1], random, hard=random.random() < 0.3)[..., np.newaxis]
    return camera.develop(scene, random, blur=random.uniform(0, 1), noise=random.uniform(0, 0.02))


def _noise(half: Half, random: Random) -> Image.Image:
    """Uniform or normal noise, in grey or in colour, fine or coarse, or black and white dots."""
    width, height = _size(random)
    shape = (height, width, 3 if random.random() < 0.4 else 1)
    match random.integers(4):
        case 0:
            levels = random.integers(0, 256, shape).astype(float)
        case 1:
            levels = random.normal(random.uniform(60, 190), random.uniform(15, 70), shape)
        case 2:
            levels = 255.0 * (random.random(shape) < random.uniform(0.02, 0.6))
        case _:
            levels = 128 + 60 * scenes.grain(height, width, random, random.uniform(1, 6))[..., np.newaxis]
    image = np.clip(levels, 0, 255).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(image, (height, width, 3)).copy())


def _scribble(half: Half, random: Random) -> Image.Image:
    """A pen that wandered about."""
    return _drawn(strokes.scribble(240, random.uniform(0.02, 0.1), random), half, random)


def _photograph(half: Half, random: Random) -> Image.Image:
    """A part of a photograph of something else."""
    width, height = _size(random)
    name = str(random.choice(half.photographs))
    part = scenes.crop(halves.photograph(name), height, width, random)
    return camera.develop(part / 255, random, blur=0, noise=0)


def _letter(half: Half, random: Random) -> Image.Image:
    """A letter that looks like no digit, of a font, warped as handwriting is."""
    return _drawn(shapes.letter(half, random), half, random)


def _clutter(half: Half, random: Random) -> Image.Image:
    """Things of all sizes that hide one another, as they do in photographs, each in its own colour and light.

    Leaves that fell on each other (Lee, Mumford and Huang, "Occlusion models for natural images", 2001).
    """
    width, height = _size(random)
    image = Image.new("RGB", (width, height), _color(random))
    draw = ImageDraw.Draw(image)
    side = max(width, height)
    for _ in range(random.integers(3, 120)):
        radius = side * min(0.05 * random.uniform(1e-3, 1) ** -0.5, 0.6)  # sizes fall off as 1 / r^3
        x, y = random.uniform(0, width), random.uniform(0, height)
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 9)))
        away = radius * random.uniform(0.5, 1, len(angles))
        if random.random() < 0.4:
            flat, round_ = random.uniform(0.3, 1, 2) * radius
            draw.ellipse((x - flat, y - round_, x + flat, y + round_), fill=_color(random))
        else:
            corners = np.column_stack([x + away * np.cos(angles), y + away * np.sin(angles)])
            draw.polygon([(float(right), float(down)) for right, down in corners], fill=_color(random))
    scene = np.asarray(image, np.float32) / 255
    scene *= scenes.light(height, width, random, hard=random.random() < 0.5)[..., np.newaxis]
    scene += (
        0.08 * random.random() * scenes.grain(height, width, random, random.uniform(1, 8))[..., np.newaxis]
    )
    return camera.develop(scene, random, blur=random.uniform(0, 3), noise=random.uniform(0, 0.03))


def _color(random: Random) -> tuple[int, int, int]:
    """Things in one light are of like colours, mostly: grey, more or less."""
    red, green, blue = np.clip(random.uniform(0, 255) + random.normal(0, 30, 3), 0, 255).astype(int).tolist()
    return red, green, blue


OTHERS: dict[str, Callable[[Half, Random], Image.Image]] = {
    "blank": _blank,
    "noise": _noise,
    "scribble": _scribble,
    "photograph": _photograph,
    "letter": _letter,
    "clutter": _clutter,
}


def _size(random: Random) -> tuple[int, int]:
    if random.random() < 0.2:
        return 28, 28
    return int(random.integers(28, 400)), int(random.integers(28, 400))


def _drawn(shape: shapes.Shape, half: Half, random: Random) -> Image.Image:
    size = (int(random.integers(60, 360)), int(random.integers(60, 360)))
    coverage = kinds.place(shape, size, random, (0.4, 0.9), min_pixels=24)
    if random.random() < 0.5:
        return kinds.flat(coverage, *kinds.two_colors(random))
    scene = kinds.over(scenes.paper(half, *size, random), coverage, kinds.pen_color(random))
    scene *= scenes.light(*size, random, hard=False)[..., np.newaxis]
    return camera.develop(scene, random, blur=random.uniform(0, 0.8), noise=random.uniform(0, 0.02))
