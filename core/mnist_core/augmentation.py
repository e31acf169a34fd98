"""Augmentation shows a network each image a little differently every time: moved, turned, bent, thickened.

What is drawn for an image is where each of its new pixels is looked up in the old one: an affine map of the
pixel's place and, added to it, an elastic displacement, random fields smoothed by a Gaussian (Simard,
Steinkraus and Platt 2003, Best Practices for Convolutional Neural Networks). Both are products L M Rᵀ whose M
is small, so two small products of matrices are a whole map.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import InvalidValue

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Images worked on together: what lies between the steps, some 40 kB an image, stays in a core's cache.
_CHUNK = 16
# Share of images that are left as they are. What is looked up between pixels is softer than what a pen makes:
# a network that sees nothing else is worse at crisp strokes than at blurred ones, at ones above all.
_UNCHANGED = 0.25
# Smoothed noise has next to nothing of short waves: those that count less than this share are left out.
_NEGLIGIBLE = 1e-3
# Simard's noise is uniform from -1 to 1, of this standard deviation.
_NOISE = np.float32(3**-0.5)
_RANGES = {
    "rotation": (0.0, 180.0),
    "scale": (0.0, 0.9),
    "shear": (0.0, 1.0),
    "shift": (0.0, 100.0),
    "elastic": (0.0, 1000.0),
    "elastic_sigma": (0.5, 100.0),
    "thickness": (0.0, 1.0),
}


@dataclass(frozen=True)
class Augmentation:
    """How much images are varied. What is drawn for each image is uniform from minus a number to that number.

    rotation: degrees, 0 to 180. scale: what height and width, each by itself, grow by as a share of
        themselves, 0 to 0.9. shear: what a row moves to the side as a share of its distance from the middle,
        0 to 1. shift: pixels down and pixels to the right, 0 to 100.
    elastic: Simard's alpha, 0 to 1,000: what the smoothed fields are multiplied by, in pixels.
        elastic_sigma: of the Gaussian that smooths them, 0.5 to 100 pixels. With his 34 and 4, pixels move by
        some 1.4.
    thickness: what a pixel comes closer to the most ink among its four neighbours and itself, or to the
        least, as a share of the difference, 0 to 1.

    Nothing is varied by a 0. Raises InvalidValue.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0
    thickness: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            least, most = _RANGES[field.name]
            value = getattr(self, field.name)
            number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
            if not least <= number <= most:  # NaN is not, either
                raise InvalidValue(field.name, value, f"a number from {least:g} to {most:g}")
            object.__setattr__(self, field.name, number)


def augment(images: Pixels, augmentation: Augmentation, rng: np.random.Generator) -> Pixels:
    """Returns images (B, H, W), each varied by what `rng` draws for it, but for a quarter, left as they are.

    What comes in from outside is paper. What is drawn does not depend on what the images show.
    """
    count, height, width = images.shape
    maps = draw_maps(count, height, width, augmentation, rng)
    growth = _uniform(rng, augmentation.thickness, count)
    unchanged = rng.random(count) < _UNCHANGED
    rows, columns = (basis(size, augmentation) for size in (height, width))
    varied = np.empty_like(images)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        inked = images[part].astype(np.float32)
        if augmentation.thickness:
            _grow(inked, images[part], growth[part])
        there = rows @ maps[:, part] @ columns.T
        look_up(inked, there[0], there[1], varied[part])
    varied[unchanged] = images[unchanged]
    return varied


def draw_maps(
    count: int, height: int, width: int, augmentation: Augmentation, rng: np.random.Generator
) -> Floats:
    """Returns (2, B, K, K'), the M of each image's map: first of the rows looked up, then of the columns.

    L and R are `basis` for H and for W.
    """
    angle = np.radians(_uniform(rng, augmentation.rotation, count))
    taller, wider = 1 / (1 + _uniform(rng, augmentation.scale, 2, count))
    shear = _uniform(rng, augmentation.shear, count)
    shift = _uniform(rng, augmentation.shift, 2, count)
    shape = [basis(size, augmentation).shape[1] for size in (height, width)]
    maps = np.zeros((2, count, *shape), np.float32)
    # What was first scaled, then sheared, then turned is looked up the other way round: the new pixel's
    # place, counted from the middle, is turned back, sheared back and scaled back.
    sine, cosine = np.sin(angle), np.cos(angle)
    maps[0, :, 0, 0] = (height - 1) / 2 - shift[0]
    maps[0, :, 1, 0], maps[0, :, 0, 1] = cosine * taller, sine * taller
    maps[1, :, 0, 0] = (width - 1) / 2 - shift[1]
    maps[1, :, 1, 0], maps[1, :, 0, 1] = (-sine - shear * cosine) * wider, (cosine - shear * sine) * wider
    if augmentation.elastic:
        waves = maps[:, :, 2:, 2:]
        noise = rng.standard_normal(waves.shape, np.float32)
        np.multiply(noise, np.float32(augmentation.elastic) * _NOISE, out=waves)
    return maps


def look_up(images: Floats, rows: Floats, columns: Floats, out: Pixels) -> None:
    """Writes what images (B, H, W) show at these places, (B, H, W) each and overwritten.

    0, 0 is the middle of the first pixel. Between pixels it is bilinear; outside, 0.
    """
    count, height, width = images.shape
    # Paper around: one pixel before, and after it one more for the neighbour of what lies at the very end.
    padded = np.zeros((count, height + 3, width + 3), np.float32)
    padded[:, 1:-2, 1:-2] = images
    flat = padded.reshape(-1)
    across = width + 3
    for places, size in ((rows, height), (columns, width)):
        np.add(places, np.float32(1), out=places)
        np.maximum(places, np.float32(0), out=places)
        np.minimum(places, np.float32(size + 1), out=places)
    above, left = np.floor(rows), np.floor(columns)
    np.subtract(rows, above, out=rows)  # from here on the way from one pixel to the next, 0 to 1
    np.subtract(columns, left, out=columns)
    np.multiply(above, np.float32(across), out=above)
    np.add(above, left, out=above)
    corner = above.astype(np.intp)
    corner += np.arange(0, padded.size, padded[0].size)[:, None, None]
    upper = _between(flat.take(corner), flat[1:].take(corner), columns)
    lower = _between(flat[across:].take(corner), flat[across + 1 :].take(corner), columns)
    ink = _between(upper, lower, rows)
    np.add(ink, np.float32(0.5), out=ink)
    out[...] = ink  # a float is cut off, which rounds what half was added to


def _between(here: Floats, there: Floats, way: Floats) -> Floats:
    """Returns here + way (there - here), in the place of `here`."""
    np.subtract(there, here, out=there)
    np.multiply(there, way, out=there)
    return np.add(here, there, out=here)


def _grow(inked: Floats, images: Pixels, growth: Floats) -> None:
    """Moves images (B, H, W) by a share (B,) towards the most ink nearby; by a negative towards the least."""
    extreme = images.copy()
    thicker = growth > 0
    for kind, images_of_kind in ((np.maximum, thicker), (np.minimum, ~thicker)):
        before = images[images_of_kind]
        after = before.copy()
        for axis in (1, 2):
            here, there = (np.moveaxis(array, axis, 0) for array in (after, before))
            kind(here[1:], there[:-1], out=here[1:])
            kind(here[:-1], there[1:], out=here[:-1])
        extreme[images_of_kind] = after
    difference = np.subtract(extreme, inked, dtype=np.float32)
    np.multiply(difference, np.abs(growth)[:, None, None], out=difference)
    np.add(inked, difference, out=inked)


@lru_cache(64)
def basis(size: int, augmentation: Augmentation) -> Floats:
    """Returns (size, K): ones, each pixel's distance from the middle, and the waves of smoothed noise.

    A Gaussian over `size` pixels is a matrix G = U S Vᵀ. White noise N smoothed along both axes is G N G'ᵀ,
    and Vᵀ N V' is white noise as well: so U S Z (U' S')ᵀ with a white Z is noise smoothed just so. Most of S
    is next to nothing, so Z is small.
    """
    pixels = np.arange(size)
    straight = [np.ones(size), pixels - (size - 1) / 2]
    waves = []
    if augmentation.elastic:
        sigma = augmentation.elastic_sigma
        distances = pixels[:, None] - pixels
        gaussian = np.exp(-(distances**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)
        directions, sizes, _ = np.linalg.svd(gaussian)
        waves = list((directions * sizes).T[sizes > _NEGLIGIBLE * sizes[0]])
    return np.ascontiguousarray(np.stack(straight + waves, axis=1), np.float32)


def _uniform(rng: np.random.Generator, most: float, *shape: int) -> Floats:
    return rng.uniform(-most, most, shape).astype(np.float32)
