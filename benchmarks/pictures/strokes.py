"""A stroke is the way of a pen: each digit is written in several ways, every time a little differently."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Path = list[tuple[float, float]]

# Ways to write each digit: pen strokes through these points, x to the right and y down, smooth but for the
# first and last point. A corner is where one stroke ends and another begins.
# ruff: noqa: E501  # a row a way, as it is written
WAYS: list[list[list[Path]]] = [
    [
        [[(0.5, 0), (0.2, 0.15), (0.1, 0.5), (0.22, 0.88), (0.5, 1), (0.8, 0.85), (0.9, 0.5), (0.78, 0.12), (0.47, 0.02)]],
        [[(0.6, 0.03), (0.35, 0.12), (0.25, 0.5), (0.33, 0.9), (0.5, 1), (0.68, 0.88), (0.75, 0.5), (0.66, 0.1), (0.45, 0.05)]],
        [[(0.72, 0.1), (0.4, 0), (0.15, 0.25), (0.1, 0.65), (0.35, 0.98), (0.7, 0.92), (0.88, 0.55), (0.8, 0.2), (0.55, 0.02)]],
    ],
    [
        [[(0.5, 0), (0.5, 0.5), (0.49, 1)]],
        [[(0.6, 0), (0.52, 0.5), (0.42, 1)]],
        [[(0.28, 0.27), (0.42, 0.15), (0.55, 0)], [(0.55, 0), (0.55, 0.5), (0.54, 1)]],
        [[(0.3, 0.25), (0.5, 0)], [(0.5, 0), (0.5, 1)], [(0.25, 1), (0.75, 1)]],
    ],
    [
        [[(0.15, 0.25), (0.3, 0.04), (0.6, 0), (0.8, 0.2), (0.7, 0.45), (0.4, 0.75), (0.12, 1)], [(0.12, 1), (0.5, 0.98), (0.88, 0.97)]],
        [[(0.2, 0.2), (0.45, 0), (0.75, 0.12), (0.7, 0.45), (0.45, 0.8), (0.25, 0.98), (0.15, 0.86), (0.32, 0.8), (0.6, 0.95), (0.9, 0.93)]],
        [[(0.2, 0.1), (0.55, 0.02), (0.78, 0.22), (0.6, 0.55), (0.2, 0.95)], [(0.2, 0.95), (0.8, 1)]],
    ],
    [
        [[(0.2, 0.12), (0.45, 0), (0.75, 0.12), (0.72, 0.36), (0.42, 0.47)], [(0.42, 0.47), (0.75, 0.55), (0.84, 0.76), (0.6, 0.98), (0.3, 0.98), (0.12, 0.85)]],
        [[(0.18, 0.02), (0.8, 0.02)], [(0.8, 0.02), (0.42, 0.42)], [(0.42, 0.42), (0.72, 0.46), (0.85, 0.7), (0.65, 0.96), (0.35, 1), (0.14, 0.88)]],
        [[(0.22, 0.05), (0.62, 0.02), (0.74, 0.22), (0.5, 0.44), (0.4, 0.47), (0.62, 0.5), (0.8, 0.7), (0.6, 0.97), (0.15, 0.95)]],
    ],
    [
        [[(0.3, 0), (0.2, 0.32), (0.12, 0.62)], [(0.12, 0.62), (0.5, 0.6), (0.9, 0.6)], [(0.68, 0.22), (0.66, 0.6), (0.64, 1)]],
        [[(0.65, 0), (0.1, 0.68)], [(0.1, 0.68), (0.9, 0.68)], [(0.65, 0), (0.65, 1)]],
        [[(0.2, 0.03), (0.2, 0.3), (0.28, 0.5), (0.55, 0.52), (0.76, 0.42)], [(0.8, 0), (0.76, 0.45), (0.72, 1)]],
    ],
    [
        [[(0.8, 0.02), (0.28, 0.03)], [(0.28, 0.03), (0.22, 0.42)], [(0.22, 0.42), (0.55, 0.36), (0.82, 0.55), (0.78, 0.85), (0.5, 1), (0.15, 0.92)]],
        [[(0.82, 0), (0.5, 0.03), (0.3, 0.1), (0.25, 0.38), (0.5, 0.45), (0.75, 0.62), (0.7, 0.88), (0.45, 0.99), (0.18, 0.95)]],
        [[(0.28, 0.05), (0.25, 0.45)], [(0.25, 0.45), (0.6, 0.4), (0.8, 0.65), (0.6, 0.96), (0.2, 0.95)], [(0.3, 0.05), (0.82, 0.02)]],
    ],
    [
        [[(0.65, 0), (0.35, 0.25), (0.17, 0.65), (0.3, 0.95), (0.6, 0.98), (0.8, 0.78), (0.68, 0.56), (0.42, 0.56), (0.2, 0.74)]],
        [[(0.75, 0.05), (0.42, 0.12), (0.2, 0.5), (0.22, 0.85), (0.5, 1), (0.78, 0.85), (0.74, 0.6), (0.48, 0.5), (0.22, 0.66)]],
        [[(0.4, 0), (0.25, 0.4), (0.2, 0.75), (0.4, 0.98), (0.65, 0.95), (0.72, 0.75), (0.55, 0.6), (0.3, 0.68), (0.22, 0.8)]],
    ],
    [
        [[(0.12, 0.04), (0.5, 0.04), (0.86, 0.03)], [(0.86, 0.03), (0.6, 0.45), (0.42, 1)]],
        [[(0.12, 0.05), (0.85, 0.03)], [(0.85, 0.03), (0.4, 1)], [(0.38, 0.5), (0.78, 0.48)]],
        [[(0.15, 0.2), (0.17, 0.03)], [(0.17, 0.03), (0.5, 0.07), (0.84, 0.02)], [(0.84, 0.02), (0.58, 0.5), (0.5, 1)]],
    ],
    [
        [[(0.75, 0.15), (0.5, 0), (0.25, 0.17), (0.38, 0.42), (0.65, 0.58), (0.78, 0.8), (0.5, 1), (0.22, 0.82), (0.35, 0.58), (0.65, 0.4), (0.78, 0.18)]],
        [[(0.5, 0), (0.28, 0.1), (0.28, 0.35), (0.5, 0.46), (0.72, 0.35), (0.72, 0.1), (0.48, 0)], [(0.5, 0.46), (0.22, 0.58), (0.2, 0.88), (0.5, 1), (0.8, 0.88), (0.78, 0.58), (0.48, 0.46)]],
    ],
    [
        [[(0.76, 0.22), (0.55, 0), (0.25, 0.15), (0.25, 0.42), (0.52, 0.5), (0.76, 0.25)], [(0.77, 0.15), (0.75, 0.5), (0.7, 1)]],
        [[(0.75, 0.18), (0.48, 0.01), (0.22, 0.2), (0.32, 0.46), (0.6, 0.44), (0.76, 0.15)], [(0.76, 0.15), (0.76, 0.6), (0.62, 0.94), (0.28, 0.97)]],
        [[(0.72, 0.08), (0.4, 0.03), (0.25, 0.3), (0.45, 0.5), (0.72, 0.35), (0.72, 0.08), (0.7, 0.5), (0.52, 1)]],
    ],
]  # fmt: skip


def write(
    digit: int, size: int, width: float, random: np.random.Generator, ways: slice = slice(None)
) -> NDArray[Any]:
    """Returns the coverage of `digit` written with a pen of `width`, a share of its height, 0 to 1.

    The digit is `size` pixels high, on an array somewhat larger.
    """
    choices = WAYS[digit][ways] or WAYS[digit]
    margin = 0.3
    slant, squeeze = random.normal(0.05, 0.13), random.uniform(0.75, 1.25)
    turn = random.normal(0, 0.07)
    pressure = random.uniform(0, 0.35)
    scale = 2  # drawn twice as large, then reduced, for soft edges
    side = int(size * (1 + 2 * margin) * scale)
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    joints: dict[tuple[float, float], NDArray[Any]] = {}
    for path in choices[random.integers(len(choices))]:
        points = []
        for point in path:
            if point not in joints:
                joints[point] = np.array(point) + random.normal(0, 0.018, 2)
            points.append(joints[point])
        way = _smooth(np.array(points)) - 0.5
        way = way @ np.array([[squeeze, 0], [-slant, 1]])
        way = way @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        way += _wobble(len(way), random) * 0.012
        radii = width / 2 * (1 + pressure * _wobble(len(way), random)[:, 0])
        for (x, y), radius in zip((way + 0.5 + margin) * size * scale, radii, strict=True):
            r = max(radius * size * scale, 1.0)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(image.reduce(scale), np.float32) / 255


def scribble(size: int, width: float, random: np.random.Generator) -> NDArray[Any]:
    """Returns the coverage of a scribble that is no digit: a pen that wanders about."""
    scale = 2
    image = Image.new("L", (size * scale, size * scale))
    draw = ImageDraw.Draw(image)
    for _ in range(random.integers(1, 4)):
        steps = random.integers(9, 26)
        points = np.clip(np.cumsum(random.normal(0, 0.3, (steps, 2)), axis=0) * 0.5 + 0.5, 0.06, 0.94)
        for x, y in _smooth(points) * size * scale:
            r = max(width / 2 * size * scale, 1.0)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(image.reduce(scale), np.float32) / 255


def _smooth(points: NDArray[Any], steps: int = 40) -> NDArray[Any]:
    """Catmull-Rom's curve through the points (N, 2)."""
    if len(points) == 2:
        return points[0] + np.linspace(0, 1, steps)[:, np.newaxis] * (points[1] - points[0])
    ends = [2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]]
    t = np.linspace(0, 1, steps, endpoint=False)[:, np.newaxis]
    parts = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        parts.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.concatenate([*parts, points[-1:]])


def _wobble(count: int, random: np.random.Generator) -> NDArray[Any]:
    """A slow tremble in two dimensions, (count, 2), about -1 to 1."""
    t = np.linspace(0, 1, count)[:, np.newaxis]
    trembles = [
        np.sin(2 * np.pi * (speed * t + random.uniform(size=2))) * random.normal(0, 0.5, 2)
        for speed in (0.5, 1.3, 2.9)
    ]
    return np.sum(trembles, axis=0)
