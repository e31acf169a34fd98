"""A graph is a curve drawn with braille characters, two by four dots in each."""

import math
from collections.abc import Sequence

# The dots of a braille character by row and column, as bits above U+2800
# (Unicode Standard, section 21.1, Braille Patterns).
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def draw_curve(
    values: Sequence[float], *, span: int, low: float, high: float, columns: int, rows: int
) -> list[str]:
    """Returns `rows` lines of `columns` characters: values joined by lines, the first at the left edge.

    span is how many values fill the width: with fewer, the curve ends before the right edge. Values at low
    lie on the bottom, at high on the top, beyond them on the nearer of the two; one that is not finite leaves
    a gap. Raises ValueError if columns, rows or span is less than 1 or high is not above low.
    """
    if columns < 1 or rows < 1 or span < 1:
        raise ValueError(f"columns, rows, span: {columns}, {rows}, {span}; expected at least 1 each")
    if not low < high:
        raise ValueError(f"high: {high} is not above low, {low}")
    width, height = 2 * columns, 4 * rows
    cells = [[0] * columns for _ in range(rows)]

    def mark(x: int, y: int) -> None:
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    before: tuple[int, int] | None = None
    for index, value in enumerate(values[:span]):
        if not math.isfinite(value):
            before = None
            continue
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        here = (
            round(index / max(span - 1, 1) * (width - 1)),
            round((1.0 - share) * (height - 1)),
        )
        for x, y in _line(before or here, here):
            mark(x, y)
        before = here
    return ["".join(chr(0x2800 + bits) for bits in row) for row in cells]


def value_range(values: Sequence[float]) -> tuple[float, float] | None:
    """Returns the least and the greatest finite value, or 0 and the only one; None where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    if low == high:
        return min(low, 0.0), max(high, 0.0) or (1.0 if low == 0 else 0.0)
    return low, high


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots from start to end, both included."""
    (x0, y0), (x1, y1) = start, end
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    return [(x0 + round(i * (x1 - x0) / steps), y0 + round(i * (y1 - y0) / steps)) for i in range(steps + 1)]
