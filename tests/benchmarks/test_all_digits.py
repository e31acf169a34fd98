import numpy as np
import pytest
from benchmarks.pictures.all_digits import judge, overlap
from benchmarks.pictures.pages import Page, Placed

from mnist_core import Network
from mnist_core.pictures import DigitInPicture


@pytest.fixture
def network() -> Network:
    """Names an image by where its ink is: in column 2 d + 5 it is digit d."""
    parameters = np.zeros(785 * 10, np.float32)
    weights = parameters[:7840].reshape(784, 10)
    weights.reshape(28, 28, 10)[:, 2 * np.arange(10) + 5, np.arange(10)] = 1
    return Network((784, 10), "sigmoid", "softmax", parameters)


def found(digit: int, top: int, left: int) -> DigitInPicture:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 2 * digit + 5] = 255
    return DigitInPicture(image, True, 1.0, top, left, 20, 10)


PAGE = Page("form", b"", [Placed(3, 10, 10, 20, 10), Placed(7, 10, 40, 20, 10), Placed(1, 50, 10, 20, 10)])


def test_boxes_overlap_by_their_intersection_over_their_union() -> None:
    one = Placed(0, 0, 0, 10, 10)
    assert overlap(one, one) == 1
    assert overlap(one, Placed(0, 0, 5, 10, 10)) == pytest.approx(50 / 150)
    assert overlap(one, Placed(0, 2, 2, 5, 5)) == pytest.approx(25 / 100)
    assert overlap(one, Placed(0, 10, 0, 10, 10)) == 0
    assert overlap(one, Placed(0, 20, 20, 10, 10)) == 0


def test_a_page_is_whole_when_all_is_found_and_right_and_in_order_and_nothing_else(network: Network) -> None:
    digits = [found(3, 11, 10), found(7, 10, 41), found(1, 50, 10)]
    reading = judge(network, PAGE, digits)
    assert (reading.whole, reading.digits, reading.right) == (True, 3, 3)
    assert (reading.in_order, reading.more, len(reading.boxes)) == (True, 0, 3)
    others = {
        "one is missing": (digits[:2], 2, 2, True, 0),
        "one is named wrongly": ([digits[0], found(9, 10, 41), digits[2]], 2, 3, True, 0),
        "the order is another": ([digits[0], digits[2], digits[1]], 3, 3, False, 0),
        "there is one more": ([*digits, found(5, 80, 80)], 3, 3, True, 1),
        "one is found twice": ([*digits, digits[2]], 3, 3, True, 1),
        "nothing is found": ([], 0, 0, True, 0),
    }
    for name, (listed, right, boxes, in_order, more) in others.items():
        reading = judge(network, PAGE, listed)
        assert not reading.whole, name
        assert (reading.right, len(reading.boxes), reading.in_order, reading.more) == (
            right,
            boxes,
            in_order,
            more,
        ), name
