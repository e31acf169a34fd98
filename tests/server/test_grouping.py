"""Requests that are there together are answered in groups, each as if it were alone."""

from collections.abc import Hashable, Sequence

import numpy as np
import pytest

from mnist_core import InvalidValue, Network
from mnist_server.grouping import ALONE, forward, in_groups, joined
from mnist_server.registry import Model
from mnist_server.rpc import Later


def sort(request: str) -> tuple[Hashable, str] | None:
    """By the first letter; `later` for Later, `wrong` is wrong."""
    if request == "wrong":
        raise InvalidValue("request", request, "another one")
    return None if request == "later" else (request[0], request)


def test_each_group_is_asked_once_and_answers_keep_their_places() -> None:
    asked: list[list[str]] = []

    def answer(items: list[str]) -> Sequence[bytes | Exception]:
        asked.append(items)
        return [item.encode() for item in items]

    a1, wrong, b1, later, a2, b2 = in_groups(["a1", "wrong", "b1", "later", "a2", "b2"], sort, answer)
    assert [a1, b1, a2, b2] == [b"a1", b"b1", b"a2", b"b2"]
    assert isinstance(wrong, InvalidValue)
    assert isinstance(later, Later)
    assert asked == [["a1", "a2"], ["b1", "b2"]]


def test_what_goes_wrong_with_a_group_is_the_answer_to_all_of_it() -> None:
    def answer(items: list[str]) -> Sequence[bytes | Exception]:
        if items[0].startswith("b"):
            raise KeyError(items[0])
        return [item.encode() for item in items]

    a1, b1, b2 = in_groups(["a1", "b1", "b2"], sort, answer)
    assert a1 == b"a1"
    assert isinstance(b1, KeyError)
    assert b2 is b1


def test_the_pixels_of_one_request_are_not_copied() -> None:
    pixels = memoryview(bytes(1000))
    assert joined([pixels]) is pixels
    assert joined([b"ab", memoryview(b"cd")]) == b"abcd"


@pytest.mark.parametrize("place", range(5))
def test_floats_at_any_place_in_memory_are_answered_alike(place: int) -> None:
    network = Network.initialize((784, 30, 10), rng=np.random.default_rng(0))
    model = Model("models/m/versions/1", network, "quadratic", 28, 28)
    images = np.random.default_rng(1).random((2 * ALONE + 3, 784), np.float32)
    data = memoryview(bytes(place) + images.tobytes())[place:]
    answers = forward(model, np.frombuffer(data, "<f4").reshape(-1, 784))
    np.testing.assert_allclose(answers, network.predict(images), atol=1e-6)
