import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client.datasets import load_dataset
from mnist_core.digit_score import FILE, IS_DIGIT, digit_scores
from mnist_core.pictures import border_of, read

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def mnist() -> Images:
    """500 real digits."""
    return load_dataset("mnist-5k").train.images[:500]


def pgm(image: Images) -> bytes:
    return b"P5 %d %d 255\n" % image.shape[::-1] + image.tobytes()


def noise(size: int) -> list[Images]:
    random = np.random.default_rng(size)
    return [random.integers(0, 256, (size, size)).astype(np.uint8) for _ in range(20)]


def test_digits_score_high_and_the_same_with_or_without_a_picture_around_them(mnist: Images) -> None:
    scores = digit_scores(mnist)
    assert (scores >= IS_DIGIT).mean() > 0.97
    prepared = [read(pgm(digit)) for digit in mnist[:20]]
    again = digit_scores(np.stack([one.digit for one in prepared]), [one.border for one in prepared])
    np.testing.assert_allclose(again, scores[:20], atol=1e-4)


def test_nothing_scores_0() -> None:
    assert digit_scores(np.zeros((3, 28, 28), np.uint8)).tolist() == [0, 0, 0]
    assert digit_scores(np.empty((0, 28, 28), np.uint8)).shape == (0,)


@pytest.mark.parametrize("size", [28, 60, 200])
def test_noise_is_no_digit_as_it_is_or_as_a_picture(size: int) -> None:
    pictures = noise(size)
    if size == 28:
        assert digit_scores(np.stack(pictures)).max() < IS_DIGIT
    prepared = [read(pgm(picture)) for picture in pictures]
    scores = digit_scores(np.stack([one.digit for one in prepared]), [one.border for one in prepared])
    assert scores.max() < IS_DIGIT


def test_an_inked_border_speaks_against_a_digit(mnist: Images) -> None:
    bars = np.zeros((28, 28), np.uint8)
    bars[4:24, 12:16] = 255  # noise that was cut out of a narrow picture looks so, and so does a 1
    of_itself, of_noise = digit_scores(np.stack([bars, bars]), [0.0, 0.9])
    assert of_noise < of_itself
    assert border_of(bars) == 0
    assert border_of(np.full((28, 28), 255, np.uint8)) == 1


def test_the_networks_file_is_small() -> None:
    assert FILE.stat().st_size < 200_000
