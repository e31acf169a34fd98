"""Pictures of an evaluation: its confusion matrix, and a contact sheet of its most confident mistakes.

They are drawn with Pillow, which is imported here only. Colours are those that people who see red and green
alike tell apart (Okabe and Ito 2008, Color Universal Design).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from mnist_client.results import Evaluation, Mistake

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Anchor = Literal["mm", "lm", "rm", "lt", "mt", "mb", "lb"]

_PAPER: Color = (255, 255, 255)
_INK: Color = (34, 34, 34)
_GREY: Color = (110, 110, 110)
_LINE: Color = (214, 214, 214)
_RIGHT: Color = (0, 114, 178)  # blue
_WRONG: Color = (213, 94, 0)  # vermilion
_MARGIN = 24
_CELL = 56
_MOST_PIXELS = 1400  # of a matrix's side: the cells of many classes are smaller, and then without counts
_LEAST_WITH_COUNT = 30
_LEAST_BETWEEN_NAMES = 36
_MOST_OF_A_NAME = 110
_TILE = 112
_GAP = 20
_COLUMNS = 5


def confusion_picture(evaluation: Evaluation) -> "Image.Image":
    """Returns the confusion matrix: a row a class, a column what it was taken for.

    The diagonal is blue, darker the larger its share of the row; what lies beside it is vermilion, darker the
    more images it is, since it is of another order.
    """
    counts = evaluation.confusion_matrix
    classes = len(counts)
    cell = max(min(_CELL, _MOST_PIXELS // classes), 2)
    step = max(1, -(-_LEAST_BETWEEN_NAMES // cell))
    longest = max(_font(16).getlength(name) for name in evaluation.names)
    left, top = _MARGIN + 55 + round(min(longest, _MOST_OF_A_NAME)), _MARGIN + 104
    side = cell * classes
    picture, draw = _sheet(left + side + 100 + _MARGIN, top + side + 76 + _MARGIN)
    _title(draw, evaluation, "Confusion matrix")
    _text(draw, (left + side / 2, top - 32), "taken for", 16, _GREY)
    axis = "class" if evaluation.class_names else "digit"
    _sideways(picture, (_MARGIN + 10, top + side // 2), axis, 16)
    rows = counts.sum(axis=1)
    beside = counts - np.diag(counts.diagonal())
    most = max(int(beside.max()), 1)
    for row in range(classes):
        for column in range(classes):
            count = int(counts[row, column])
            if row == column:
                color, strength = _RIGHT, count / max(int(rows[row]), 1)
            else:
                color, strength = _WRONG, count / most
            fill = _mix(color, strength)
            x, y = left + column * cell, top + row * cell
            draw.rectangle((x, y, x + cell - 1, y + cell - 1), fill, _LINE if cell >= 8 else None)
            if cell >= _LEAST_WITH_COUNT and count:
                ink = _PAPER if _is_dark(fill) else _INK
                _text(draw, (x + cell / 2, y + cell / 2), str(count), 17 if cell >= 48 else 12, ink)
    for each in range(0, classes, step):
        name = evaluation.names[each]
        _text(draw, (left + (each + 0.5) * cell, top - 12), _fit(name, step * cell - 4, 16), 16)
        _text(draw, (left - 8, top + (each + 0.5) * cell), _fit(name, _MOST_OF_A_NAME, 16), 16, anchor="rm")
        if cell >= 16:
            found = evaluation.per_class[each]
            _text(
                draw, (left + side + 12, top + (each + 0.5) * cell), _percent(found.recall), 14, anchor="lm"
            )
            if cell >= 48:
                _text(draw, (left + (each + 0.5) * cell, top + side + 14), _percent(found.precision), 14)
    if cell >= 16:
        _text(draw, (left + side + 12, top - 12), "recall", 14, _GREY, anchor="lm")
    if cell >= 48:
        _text(draw, (left - 8, top + side + 14), "precision", 14, _GREY, anchor="rm")
    legend = top + side + 50
    draw.rectangle((left, legend - 8, left + 16, legend + 8), _mix(_RIGHT, 0.9))
    _text(draw, (left + 24, legend), "named rightly", 14, _GREY, anchor="lm")
    draw.rectangle((left + 150, legend - 8, left + 166, legend + 8), _mix(_WRONG, 0.9))
    _text(draw, (left + 174, legend), f"mistakes; full colour: {most}", 14, _GREY, anchor="lm")
    return picture


def contact_sheet(evaluation: Evaluation) -> "Image.Image":
    """Returns the most confident mistakes that have their images, each with what it is and was taken for."""
    shown = [mistake for mistake in evaluation.mistakes if mistake.image is not None]
    rows = max(-(-len(shown) // _COLUMNS), 1)
    width = 2 * _MARGIN + _COLUMNS * _TILE + (_COLUMNS - 1) * _GAP
    named = bool(evaluation.class_names)
    step = _TILE + (82 if named else 62)
    top = _MARGIN + 84
    picture, draw = _sheet(width, top + rows * step + _MARGIN)
    _title(draw, evaluation, "Most confident mistakes")
    if not shown:
        _text(draw, (width / 2, top + step / 2), "none", 18, _GREY)
    for place, mistake in enumerate(shown):
        x = _MARGIN + place % _COLUMNS * (_TILE + _GAP)
        y = top + place // _COLUMNS * step
        tile = _tile(mistake)
        inset_x, inset_y = (_TILE - tile.width) // 2, (_TILE - tile.height) // 2
        picture.paste(tile, (x + inset_x, y + inset_y))
        draw.rectangle((x - 1, y - 1, x + _TILE, y + _TILE), None, _LINE)
        middle = x + _TILE / 2
        lines = _caption(evaluation.names[mistake.label], evaluation.names[mistake.predicted], named=named)
        for line, words in enumerate(lines):
            _words(draw, (middle, y + _TILE + 15 + line * 20), words, 16)
        sure = math.floor(1e4 * mistake.confidence) / 100  # never 100 %, of a mistake
        caption = f"{sure:.2f} % sure, no. {mistake.index}"
        _text(draw, (middle, y + _TILE + 16 + 20 * len(lines)), caption, 12, _GREY)
    return picture


def _caption(label: str, predicted: str, *, named: bool) -> list[list[tuple[str, Color]]]:
    """The lines below an image: one of digits, two of names, which are longer."""
    if not named:
        return [[(label, _RIGHT), (" taken for ", _GREY), (predicted, _WRONG)]]
    room = _TILE + _GAP - 6
    left = room - _font(16).getlength("taken for ")
    return [
        [(_fit(label, room, 16), _RIGHT)],
        [("taken for ", _GREY), (_fit(predicted, left, 16), _WRONG)],
    ]


def _tile(mistake: Mistake) -> "Image.Image":
    """An image as ink on paper, as large as a tile takes it."""
    from PIL import Image

    assert mistake.image is not None
    image = Image.fromarray(255 - mistake.image)
    larger = max(image.size)
    if larger > _TILE:
        image.thumbnail((_TILE, _TILE))
        return image
    times = _TILE // larger
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def _sheet(width: int, height: int) -> "tuple[Image.Image, ImageDraw.ImageDraw]":
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), _PAPER)
    return picture, ImageDraw.Draw(picture)


def _title(draw: "ImageDraw.ImageDraw", evaluation: Evaluation, title: str) -> None:
    _text(draw, (_MARGIN, _MARGIN), title, 24, anchor="lt")
    said = (
        f"{evaluation.model}: {evaluation.correct:,} of {evaluation.total:,} right, "
        f"{_percent(evaluation.accuracy, 2)} (95 % interval {100 * evaluation.accuracy_low:.2f} to "
        f"{100 * evaluation.accuracy_high:.2f})"
    )
    _text(draw, (_MARGIN, _MARGIN + 36), said, 14, _GREY, anchor="lt")


def _text(
    draw: "ImageDraw.ImageDraw",
    place: tuple[float, float],
    text: str,
    size: int,
    color: Color = _INK,
    *,
    anchor: Anchor = "mm",
) -> None:
    draw.text(place, text, fill=color, font=_font(size), anchor=anchor)


def _words(
    draw: "ImageDraw.ImageDraw",
    middle: tuple[float, float],
    words: Sequence[tuple[str, Color]],
    size: int,
) -> None:
    """Writes words of several colours after each other, centred."""
    font = _font(size)
    x = middle[0] - sum(font.getlength(word) for word, _ in words) / 2
    for word, color in words:
        draw.text((x, middle[1]), word, fill=color, font=font, anchor="lm")
        x += font.getlength(word)


def _fit(text: str, room: float, size: int) -> str:
    """Returns as much of a text as fits into so many pixels."""
    font = _font(size)
    if font.getlength(text) <= room:
        return text
    cut = (f"{text[:end]}…" for end in range(len(text), 0, -1))
    return next((short for short in cut if font.getlength(short) <= room), text[0])


def _sideways(picture: "Image.Image", middle: tuple[int, int], text: str, size: int) -> None:
    from PIL import Image, ImageDraw

    label = Image.new("RGB", (120, size + 8), _PAPER)
    _text(ImageDraw.Draw(label), (60, size / 2 + 4), text, size, _GREY)
    turned = label.rotate(90, expand=True)
    picture.paste(turned, (middle[0] - turned.width // 2, middle[1] - turned.height // 2))


def _font(size: int) -> "ImageFont.FreeTypeFont | ImageFont.ImageFont":
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _mix(color: Color, strength: float) -> Color:
    """A colour on paper, 0 to 1; what is not nothing can be seen."""
    share = 0.0 if strength <= 0 else 0.12 + 0.88 * min(strength, 1.0)
    red, green, blue = (
        round(paper + (full - paper) * share) for paper, full in zip(_PAPER, color, strict=True)
    )
    return red, green, blue


def _is_dark(color: Color) -> bool:
    """Whether white can be read better on it than black; by luma, the weights of Rec. 601."""
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"
