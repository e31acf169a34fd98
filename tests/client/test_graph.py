import math

import pytest

from mnist_client.graph import draw_curve, value_range


def dots(lines: list[str]) -> set[tuple[int, int]]:
    """The dots of a drawing as (x, y), y from the top, by the standard's numbers (dots 1 to 8)."""
    where = {1: (0, 0), 2: (0, 1), 3: (0, 2), 4: (1, 0), 5: (1, 1), 6: (1, 2), 7: (0, 3), 8: (1, 3)}
    return {
        (2 * column + where[dot][0], 4 * row + where[dot][1])
        for row, line in enumerate(lines)
        for column, character in enumerate(line)
        for dot in where
        if (ord(character) - 0x2800) >> (dot - 1) & 1
    }


def test_a_rising_line_runs_from_corner_to_corner() -> None:
    lines = draw_curve([0.0, 1.0], span=2, low=0.0, high=1.0, columns=4, rows=2)
    assert [len(line) for line in lines] == [4, 4]
    assert dots(lines) == {(x, 7 - x) for x in range(8)}


def test_a_curve_that_is_not_done_ends_where_it_has_come() -> None:
    seen = dots(draw_curve([0.5, 0.5, 0.5], span=5, low=0.0, high=1.0, columns=10, rows=1))
    assert {x for x, _ in seen} == set(range(0, 11))  # the third of five points lies in the middle of 20 dots


def test_each_value_is_where_it_belongs() -> None:
    values = [0.0, 0.25, 1.0, 0.5]
    seen = dots(draw_curve(values, span=4, low=0.0, high=1.0, columns=8, rows=4))
    for index, value in enumerate(values):
        assert (round(index / 3 * 15), round((1 - value) * 15)) in seen


def test_a_value_that_is_not_finite_leaves_a_gap() -> None:
    lines = draw_curve([1.0, math.nan, math.inf, 0.0], span=4, low=0.0, high=1.0, columns=2, rows=1)
    assert dots(lines) == {(0, 0), (3, 3)}


def test_values_beyond_the_bounds_lie_on_them() -> None:
    assert dots(draw_curve([9.0], span=1, low=0.0, high=1.0, columns=1, rows=1)) == {(0, 0)}
    assert dots(draw_curve([-9.0], span=1, low=0.0, high=1.0, columns=1, rows=1)) == {(0, 3)}


def test_more_values_than_the_span_are_left_out() -> None:
    lines = draw_curve([0.0, 0.0, 1.0], span=2, low=0.0, high=1.0, columns=3, rows=1)
    assert {y for _, y in dots(lines)} == {3}


@pytest.mark.parametrize(
    ("change", "named"),
    [({"columns": 0}, "columns"), ({"rows": 0}, "rows"), ({"span": 0}, "span"), ({"high": 0.0}, "high")],
)
def test_what_cannot_be_drawn_is_refused(change: dict[str, float], named: str) -> None:
    arguments = {"span": 2, "low": 0.0, "high": 1.0, "columns": 2, "rows": 2} | change
    with pytest.raises(ValueError, match=named):
        draw_curve([0.0], **arguments)  # type: ignore[arg-type]  # a mixed mapping


@pytest.mark.parametrize(
    ("values", "bounds"),
    [
        ([0.9, 0.95, math.nan, 0.93], (0.9, 0.95)),
        ([0.9], (0.0, 0.9)),
        ([-2.0, -2.0], (-2.0, 0.0)),
        ([0.0, 0.0], (0.0, 1.0)),
        ([math.nan, math.inf], None),
        ([], None),
    ],
)
def test_range_of_values(values: list[float], bounds: tuple[float, float] | None) -> None:
    assert value_range(values) == bounds
