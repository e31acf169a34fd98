"""A camera turns a scene into a file: perspective, blur, noise, JPEG, and which side is up."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Pixels = NDArray[np.uint8]


def tilt(scene: NDArray[Any], random: np.random.Generator, strength: float) -> NDArray[Any]:
    """Returns a scene (H, W, 3), 0 to 1, seen from the side and turned, without what lies beyond it."""
    height, width = scene.shape[:2]
    image = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    corners = np.array([(0, 0), (0, 1), (1, 1), (1, 0)], dtype=float)
    inward = corners + (0.5 - corners) * random.uniform(0, 2 * strength, (4, 2))
    turn = random.normal(0, 0.06)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    quad = np.clip((inward - 0.5) @ rotation + 0.5, 0, 1) * (width, height)
    seen = image.transform(
        (width, height), Image.Transform.QUAD, tuple(quad.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(seen, np.float32) / 255


def develop(scene: NDArray[Any], random: np.random.Generator, *, blur: float, noise: float) -> Image.Image:
    """Returns a scene (H, W, 3), 0 to 1, as an image: `blur` in pixels, `noise` a share of full light."""
    image = Image.fromarray((np.clip(scene, 0, 1) * 255).astype(np.uint8))
    if blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(blur)))
    if noise > 0.002:
        shape = (image.height, image.width, 3 if random.random() < 0.5 else 1)
        levels = np.asarray(image, np.float32) + random.normal(0, 255 * noise, shape).astype(np.float32)
        image = Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))
    return image


_TURNS = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def held(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Image.Exif]:
    """Returns an image as a phone stores it, held some way, and the EXIF that says which."""
    orientation = int(random.choice(list(_TURNS)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = _TURNS[orientation]
    return image if turn is None else image.transpose(turn), exif


def encode(image: Image.Image, encoding: str, **options: Any) -> bytes:
    """Returns an image as a file's bytes."""
    file = io.BytesIO()
    image.save(file, encoding, **options)
    return file.getvalue()
