import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mnist_core.pictures.ink import find_ink

Pixels = NDArray[np.uint8]


def ring(*, size: int = 300, width: int = 12) -> NDArray[np.bool_]:
    """A 0, where its ink is."""
    image = Image.new("L", (size, size))
    box = (size // 3, size // 4, size * 2 // 3, size * 3 // 4)
    ImageDraw.Draw(image).ellipse(box, outline=255, width=width)
    return np.asarray(image) > 127


def shadowed(size: int = 300) -> NDArray[np.float64]:
    """Light that falls off to the right, and the shadow of something over the lower left half."""
    rows, columns = np.mgrid[:size, :size]
    light: NDArray[np.float64] = (1 - 0.4 * columns / size) * np.where(rows - columns > size / 10, 0.5, 1.0)
    return light


def pixels(levels: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)[..., np.newaxis]


def overlap(levels: NDArray[np.float32], ink: NDArray[np.bool_]) -> float:
    found = levels > 0.5
    return float((found & ink).sum() / (found | ink).sum())


@pytest.mark.parametrize("width", [4, 12, 20])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_ink_in_light_and_shadow(width: int, share: float) -> None:
    ink = ring(width=width)
    picture = pixels(235 * shadowed() * np.where(ink, share, 1.0))
    assert overlap(find_ink(picture).levels, ink) > 0.9
    if share < 0.4:
        return
    # The distance from one paper would not do: half of the paper is as dark as ink.
    away = np.abs(picture[..., 0].astype(float) - np.median(picture))
    assert max(overlap((away / level).astype(np.float32), ink) for level in range(20, 250, 5)) < 0.6


def test_light_ink_in_uneven_light() -> None:
    ink = ring()
    picture = pixels(np.where(ink, 220, 60) * (1 - 0.5 * np.mgrid[:300, :300][1] / 300))
    assert overlap(find_ink(picture).levels, ink) > 0.9


@pytest.mark.parametrize("color", [(200, 30, 30), (30, 60, 200), (20, 120, 60)])
def test_colored_ink_in_light_and_shadow(color: tuple[int, int, int]) -> None:
    ink = ring()
    levels = np.where(ink[..., np.newaxis], color, (240, 238, 230)) * shadowed()[..., np.newaxis]
    assert overlap(find_ink(levels.astype(np.uint8)).levels, ink) > 0.9


def test_ink_that_touches_the_border_of_plain_paper() -> None:
    ink = ring()[75:226, 100:201]
    for levels in (np.where(ink, 0.0, 255.0), np.where(ink, 255.0, 0.0)):
        assert overlap(find_ink(pixels(levels)).levels, ink) > 0.95


def test_full_ink_is_about_1_and_paper_0() -> None:
    ink = ring()
    found = find_ink(pixels(np.where(ink, 100.0, 200.0)))
    np.testing.assert_allclose(found.levels[ink], 1)
    np.testing.assert_allclose(found.levels[~ink], 0)
    assert found.contrast == pytest.approx(100 / 255)
    assert found.noise == 0


def test_noise_is_measured_in_units_of_full_ink() -> None:
    grain = np.random.default_rng(0).normal(0, 8, (300, 300))
    quiet, noisy = (find_ink(pixels(np.where(ring(), 40.0, 200.0) + grain * k)) for k in (0.2, 1))
    assert 0 < quiet.noise < 0.02 < noisy.noise < 0.1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (28, 28, 1), (300, 40, 3), (200, 300, 3)])
def test_blank_pictures_have_no_ink(shape: tuple[int, ...]) -> None:
    assert not find_ink(np.full(shape, 200, np.uint8)).levels.any()
    slope = np.linspace(180, 220, shape[1])[:, np.newaxis] * np.ones(shape)
    assert not find_ink(slope.astype(np.uint8)).levels.any()
