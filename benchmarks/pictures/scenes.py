"""A scene is what a digit lies on: paper of many kinds, lines on it, and the light that falls there."""

from typing import Any

import numpy as np
from benchmarks.pictures import halves
from benchmarks.pictures.halves import Half
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Field = NDArray[Any]  # (H, W) or (H, W, 3)


def paper(half: Half, height: int, width: int, random: np.random.Generator) -> Field:
    """Returns paper (H, W, 3), 0 to 1: white to grey or tinted, with grain, or a photograph's texture."""
    tint = random.uniform(0.72, 1.0) * (1 - random.uniform(0, 0.12, 3))
    base = np.broadcast_to(tint.astype(np.float32), (height, width, 3)).copy()
    base *= (
        1 + random.uniform(0, 0.02) * grain(height, width, random, random.uniform(0.6, 3))[..., np.newaxis]
    )
    if random.random() < 0.4:
        name = str(random.choice(half.papers))
        texture = crop(halves.photograph(name), height, width, random).mean(axis=2) / 255
        texture = (texture - texture.mean()) / (texture.std() + 1e-3)
        base *= 1 + random.uniform(0.01, 0.05) * np.clip(texture, -2.5, 2.5)[..., np.newaxis]
    return base


def grain(height: int, width: int, random: np.random.Generator, size: float) -> Field:
    """Returns noise whose grains are `size` pixels, with a standard deviation of 1."""
    small = random.normal(0, 1, (max(int(height / size), 2), max(int(width / size), 2))).astype(np.float32)
    noise = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))
    return noise / (noise.std() + 1e-6)


def crop(photograph: NDArray[np.uint8], height: int, width: int, random: np.random.Generator) -> Field:
    """Returns a part of a photograph, somewhere, at some scale, as (H, W, 3), 0 to 255."""
    rows, columns = photograph.shape[:2]
    share = random.uniform(0.3, 0.95)
    scale = min(rows / height, columns / width) * share
    high, wide = max(int(height * scale), 2), max(int(width * scale), 2)
    top, left = random.integers(rows - high + 1), random.integers(columns - wide + 1)
    part = Image.fromarray(photograph[top : top + high, left : left + wide])
    if random.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(part.resize((width, height), Image.Resampling.BILINEAR), np.float32)


def lines(height: int, width: int, random: np.random.Generator, spacing: float) -> Field:
    """Returns the coverage of ruled lines or squares, 0 to 1, turned by up to two degrees."""
    squares = random.random() < 0.5
    thickness = max(spacing * random.uniform(0.015, 0.05), 0.8)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = np.zeros((height, width), np.float32)
    turn = np.radians(random.uniform(-2, 2))
    for axis in range(2 if squares else 1):
        first, second = (rows, columns) if axis == 0 else (columns, rows)
        across = (
            first * np.cos(turn)
            + second * np.sin(turn) * (1 if axis == 0 else -1)
            + random.uniform(0, spacing)
        )
        away = np.abs((across + spacing / 2) % spacing - spacing / 2)
        found = np.maximum(found, np.clip(thickness / 2 - away + 0.5, 0, 1))
    return found


def light(height: int, width: int, random: np.random.Generator, *, hard: bool) -> Field:
    """Returns how light falls on the paper, (H, W), 0 to 1.1: a slope, a corner that is darker, shadows."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    angle = random.uniform(0, 2 * np.pi)
    fall = 1 - random.uniform(0.02, 0.35) * (0.5 + 0.5 * (x * np.cos(angle) + y * np.sin(angle)))
    fall *= 1 - random.uniform(0, 0.3) * (x**2 + y**2) / 2
    for _ in range(random.integers(0, 3) if hard else 0):
        # The shadow of a hand or a phone: all that is beyond a bent edge, more or less sharp.
        angle, offset = random.uniform(0, 2 * np.pi), random.uniform(-0.7, 0.7)
        edge = x * np.cos(angle) + y * np.sin(angle) - offset
        edge += random.uniform(0, 0.25) * np.sin(
            3 * (x * np.sin(angle) - y * np.cos(angle)) + random.uniform(0, 6)
        )
        soft = random.uniform(0.01, 0.3)
        fall *= 1 - random.uniform(0.15, 0.55) / (1 + np.exp(np.clip(-edge / soft * 4, -30, 30)))
    return fall.astype(np.float32)


def specks(height: int, width: int, random: np.random.Generator) -> Field:
    """Returns the coverage of dust and small spots, 0 to 1."""
    found = np.zeros((height, width), np.float32)
    for _ in range(random.integers(2, 25)):
        r = max(random.uniform(0.0015, 0.008) * max(height, width), 0.6)
        row, column = random.integers(height), random.integers(width)
        found[row : row + int(r) + 1, column : column + int(r * random.uniform(0.5, 2)) + 1] = random.uniform(
            0.3, 1
        )
    return ndimage.gaussian_filter(found, 0.6)
