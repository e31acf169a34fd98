import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client.datasets import load_dataset
from mnist_core.digit_score import FILE, IS_DIGIT, border_of, digit_scores
from mnist_core.pictures import read

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
    again = [read(pgm(digit)).score for digit in mnist[:20]]
    np.testing.assert_allclose(again, scores[:20], atol=1e-4)


def test_nothing_scores_0() -> None:
    assert digit_scores(np.zeros((3, 28, 28), np.uint8)).tolist() == [0, 0, 0]
    assert digit_scores(np.empty((0, 28, 28), np.uint8)).shape == (0,)


@pytest.mark.parametrize("size", [28, 60, 200])
def test_noise_is_no_digit_as_it_is_or_as_a_picture(size: int) -> None:
    pictures = noise(size)
    if size == 28:
        assert digit_scores(np.stack(pictures)).max() < IS_DIGIT
    assert max(read(pgm(picture)).score for picture in pictures) < IS_DIGIT


def test_an_inked_border_speaks_against_a_digit(mnist: Images) -> None:
    bars = np.zeros((28, 28), np.uint8)
    bars[4:24, 12:16] = 255  # noise that was cut out of a narrow picture looks so, and so does a 1
    of_itself, of_noise = digit_scores(np.stack([bars, bars]), [0.0, 0.9])
    assert of_noise < of_itself
    assert border_of(bars) == 0
    assert border_of(np.full((28, 28), 255, np.uint8)) == 1


def test_the_networks_file_is_small() -> None:
    assert FILE.stat().st_size < 200_000


def test_what_was_looked_for_again_scores_the_mean_of_both(mnist: Images) -> None:
    """A light corner of a dark picture, with a pale digit in it: the corner is taken for ink first."""
    sheet = np.full((260, 340), 110.0)
    sheet[:190, :250] = 200
    sheet[10:122, 10:122] -= np.kron(mnist[2], np.ones((4, 4))) * 0.3
    sheet *= np.linspace(1.1, 0.9, 340)  # on plain paper there are no shadows
    picture = pgm(sheet.astype(np.uint8))
    first, found = read(picture, again=False), read(picture)
    assert first.score < 0.1
    of_its_own = digit_scores(found.digit[np.newaxis], [found.border])[0]
    assert of_its_own > IS_DIGIT
    assert found.score == pytest.approx((first.score + of_its_own) / 2)


@pytest.mark.parametrize(("width", "fall"), [(64, 0.2), (340, 0.0)])
def test_a_tiny_picture_and_one_on_plain_paper_are_looked_at_once(width: int, fall: float) -> None:
    small = np.full((60, width), 90.0)
    small[10:20, 10:50] = 200
    picture = pgm((small * np.linspace(1, 1 - fall, width)).astype(np.uint8))
    first, found = read(picture, again=False), read(picture)
    assert first.score < 0.1
    assert found.score == first.score
    assert found.digit.tobytes() == first.digit.tobytes()
