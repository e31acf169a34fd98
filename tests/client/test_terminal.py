import io
import re
from typing import TextIO

import numpy as np
import pytest

from mnist_client.terminal import Greys, draw_bar, draw_image, greys, is_terminal, is_unicode


class Terminal(io.TextIOWrapper):
    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Greys.TRUECOLOR),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, Greys.TRUECOLOR),
        ({"TERM": "xterm-direct"}, Greys.TRUECOLOR),
        ({"TERM": "screen-256color"}, Greys.PALETTE),
        ({"TERM": "vt100"}, Greys.CHARACTERS),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, Greys.CHARACTERS),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, Greys.CHARACTERS),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, Greys.PALETTE),  # no-color.org: empty does not count
        ({}, Greys.CHARACTERS),
    ],
)
def test_greys_by_environment(environ: dict[str, str], expected: Greys) -> None:
    assert greys(Terminal(), environ) is expected


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal(encoding="ascii")])
def test_only_a_terminal_of_unicode_gets_colour(stream: TextIO) -> None:
    assert greys(stream, {"TERM": "xterm-256color", "COLORTERM": "truecolor"}) is Greys.CHARACTERS


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert is_terminal(Terminal())
    assert not is_terminal(io.StringIO())


def test_unicode_is_the_encoding_s() -> None:
    assert is_unicode(Terminal())
    assert not is_unicode(Terminal(encoding="ascii"))
    assert not is_unicode(io.StringIO())


def image(rows: list[list[int]]) -> "np.ndarray[tuple[int, int], np.dtype[np.uint8]]":
    return np.array(rows, dtype=np.uint8)


def test_characters_shade_the_mean_of_two_rows() -> None:
    drawn = draw_image(image([[0, 255, 0, 1], [0, 255, 255, 0]]), Greys.CHARACTERS)
    # 0 -> blank, 255 -> '@', 127.5 -> ceil(4.5) = 5th of ten, and the faintest ink is not blank.
    assert drawn == [" @+."]


def test_an_odd_row_stands_on_paper() -> None:
    assert draw_image(image([[255], [255], [255]]), Greys.CHARACTERS) == ["@", "+"]


def test_truecolor_gives_each_half_of_a_cell_its_own_grey() -> None:
    (line,) = draw_image(image([[0, 7], [255, 7]]), Greys.TRUECOLOR)
    assert line == "\x1b[38;2;0;0;0;48;2;255;255;255m▀\x1b[38;2;7;7;7;48;2;7;7;7m▀\x1b[0m"


def test_an_escape_is_written_only_where_a_colour_changes() -> None:
    (line,) = draw_image(image([[9, 9, 9], [1, 1, 1]]), Greys.TRUECOLOR)
    assert line.count("\x1b") == 2
    assert line.endswith("▀▀▀\x1b[0m")


def test_the_palette_has_the_nearest_of_its_greys() -> None:
    (line,) = draw_image(np.arange(256, dtype=np.uint8).repeat(2).reshape(256, 2).T, Greys.PALETTE)
    levels = {16: 0, 231: 255} | {232 + step: 8 + 10 * step for step in range(24)}
    chosen: list[int] = []
    for part in re.findall(r"\x1b\[38;5;(\d+);48;5;\1m(▀+)", line):
        chosen += [int(part[0])] * len(part[1])
    assert len(chosen) == 256
    for grey, color in enumerate(chosen):
        assert abs(levels[color] - grey) == min(abs(level - grey) for level in levels.values())
    assert (chosen[0], chosen[243], chosen[255]) == (16, 255, 231)


def test_an_image_of_three_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 2\)"):
        draw_image(np.zeros((1, 2, 2), dtype=np.uint8), Greys.CHARACTERS)


@pytest.mark.parametrize(
    ("share", "blocks", "bar"),
    [
        (0.0, True, ""),
        (0.5, True, "████"),
        (1.0, True, "████████"),
        (0.5 / 8, True, "▌"),
        (1.2, True, "████████"),
        (0.5, False, "####"),
        (0.0, False, ""),
        (-0.1, False, ""),
    ],
)
def test_bar(share: float, blocks: bool, bar: str) -> None:
    assert draw_bar(share, 8, blocks=blocks) == bar
