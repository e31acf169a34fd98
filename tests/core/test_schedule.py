import math

import pytest

from mnist_core.schedule import learning_rate


def test_a_constant_rate_is_itself() -> None:
    assert {learning_rate("constant", 3.0, 0.0, step, 7) for step in range(7)} == {3.0}


def test_a_rate_rises_in_a_straight_line_and_falls_along_a_cosine() -> None:
    # 20 % of 10 steps: half, whole; then 8 steps of a cosine over half a period, from the whole.
    found = [learning_rate("cosine", 2.0, 0.2, step, 10) for step in range(10)]
    assert found[:3] == [1.0, 2.0, 2.0]
    assert found[6] == pytest.approx(1.0)  # half way
    assert found[9] == pytest.approx(1 + math.cos(math.pi * 7 / 8))
    assert found[2:] == sorted(found[2:], reverse=True)
    assert learning_rate("cosine", 2.0, 0.2, 10, 10) == 0.0
    assert learning_rate("cosine", 2.0, 0.2, 11, 10) == 0.0


def test_a_rate_may_rise_without_falling_and_for_all_steps() -> None:
    assert [learning_rate("constant", 4.0, 0.5, step, 4) for step in range(4)] == [2.0, 4.0, 4.0, 4.0]
    assert [learning_rate("cosine", 4.0, 1.0, step, 4) for step in range(4)] == [1.0, 2.0, 3.0, 4.0]
    assert learning_rate("cosine", 4.0, 0.0, 0, 1) == 4.0
