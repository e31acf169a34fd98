"""Pictures of an evaluation: every cell and image is where it belongs, in the colour that it should have."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mnist_client import ClassMetrics, Evaluation, Mistake
from mnist_client.evaluation_pictures import confusion_picture, contact_sheet

THREE = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def evaluation(counts: Any, mistakes: tuple[Mistake, ...] = ()) -> Evaluation:
    matrix = np.array(counts, np.int64)
    total, correct = int(matrix.sum()), int(matrix.trace())
    return Evaluation(
        model="models/mnist/versions/1",
        correct=correct,
        total=total,
        accuracy=correct / total,
        accuracy_low=0.1,
        accuracy_high=0.9,
        loss=0.5,
        confusion_matrix=matrix,
        per_class=tuple(ClassMetrics(0.5, 0.5, 0.5, int(row.sum())) for row in matrix),
        ece=0.01,
        mistakes=mistakes,
        split=None,
    )


def corner(picture: Image.Image, row: int, column: int, cell: int = 56) -> tuple[int, int, int]:
    """The colour of a cell, in its corner, where no number is."""
    pixel: Any = picture.getpixel((88 + column * cell + 3, 128 + row * cell + 3))
    return tuple(pixel)


def test_right_ones_are_blue_and_mistakes_vermilion_by_how_many_they_are() -> None:
    picture = confusion_picture(evaluation([[90, 10, 0], [5, 45, 0], [0, 1, 0]]))
    assert corner(picture, 0, 2) == corner(picture, 2, 2) == (255, 255, 255)
    red, _, blue = corner(picture, 0, 0)
    assert blue > red
    assert corner(picture, 0, 0) == corner(picture, 1, 1)  # each nine tenths of its row
    reds = [corner(picture, *cell) for cell in ((2, 1), (1, 0), (0, 1))]
    assert all(red > green > blue for red, green, blue in reds)
    lightness = [sum(color) for color in reds]
    assert lightness == sorted(lightness, reverse=True)
    assert reds[-1] == (213, 94, 0)


def test_counts_are_written_where_there_is_room_alone() -> None:
    def inks(picture: Image.Image) -> int:
        return len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0))

    few = confusion_picture(evaluation(np.full((3, 3), 7)))
    many = confusion_picture(evaluation(np.full((200, 200), 7)))
    assert few.size == (380, 396)
    assert many.size[0] < 1700
    assert inks(many) < inks(few)
    assert corner(many, 3, 7, cell=7) == (213, 94, 0)


@pytest.mark.parametrize(("count", "rows"), [(0, 1), (1, 1), (5, 1), (6, 2), (20, 4)])
def test_a_contact_sheet_has_each_image_as_ink_on_paper(count: int, rows: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (max(count, 1), 28, 28), np.uint8)
    mistakes = tuple(Mistake(index, 1, 2, 0.9, images[index]) for index in range(count))
    sheet = contact_sheet(evaluation(THREE, mistakes))
    assert sheet.size == (688, 132 + rows * 174)
    for index in range(count):
        x, y = 24 + index % 5 * 132, 108 + index // 5 * 174
        tile = np.asarray(sheet)[y : y + 112, x : x + 112]
        np.testing.assert_array_equal(tile[::4, ::4, 0], 255 - images[index])
        np.testing.assert_array_equal(tile[..., 0], tile[..., 2])


@pytest.mark.parametrize("size", [(5, 9), (28, 20), (300, 100)])
def test_images_of_any_size_fit_their_tiles(size: tuple[int, int]) -> None:
    image = np.full(size, 255, np.uint8)
    sheet = np.asarray(contact_sheet(evaluation(THREE, (Mistake(0, 1, 2, 0.9, image),))))
    black = np.argwhere((sheet[108:220, 24:136] == 0).all(axis=2))
    (top, left), (bottom, right) = black.min(axis=0), black.max(axis=0)
    height, width = bottom - top + 1, right - left + 1
    assert max(height, width) > 56
    assert height / width == pytest.approx(size[0] / size[1], rel=0.03)
    assert abs((top + bottom) - 111) <= 1
    assert abs((left + right) - 111) <= 1


def test_classes_are_called_by_their_names_as_far_as_there_is_room() -> None:
    image = np.zeros((28, 28), np.uint8)
    judged = evaluation([[3, 1], [0, 2]], (Mistake(0, 0, 1, 0.9, image),))
    named = dataclasses.replace(judged, class_names=("t-shirt with a very long name", "o"))
    assert judged.names == ("0", "1")
    assert named.names == named.class_names
    # A name is cut where it does not fit: the matrix is moved by what a name may take at most.
    moved = confusion_picture(named).width - confusion_picture(judged).width
    assert 90 < moved < 110
    # Names are longer than digits: two lines below an image, which stay below their own tile.
    sheets = [np.asarray(contact_sheet(each)) for each in (judged, named)]
    assert sheets[1].shape[0] == sheets[0].shape[0] + 20
    places = np.argwhere((sheets[0] != sheets[1][:-20]).any(axis=2))
    assert places[:, 0].min() > 220
    assert places[:, 1].max() < 150


def test_mistakes_without_images_are_left_out() -> None:
    image = np.zeros((28, 28), np.uint8)
    mistakes = tuple(Mistake(index, 1, 2, 0.9, image if index % 2 else None) for index in range(12))
    assert contact_sheet(evaluation(THREE, mistakes)).size[1] == 132 + 2 * 174
    assert dataclasses.replace(mistakes[0], image=image) == mistakes[0]
