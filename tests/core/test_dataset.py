import numpy as np
import pytest

from mnist_core import Dataset, InvalidValue, Split


def split(images: int = 3, height: int = 2, width: int = 4) -> Split:
    return Split(np.zeros((images, height, width), np.uint8), np.zeros(images, np.uint8))


def test_a_split_knows_its_length_and_inputs() -> None:
    assert len(split()) == 3
    assert split().inputs == 8


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((3, 2, 4), np.float32),
        np.zeros((3, 8), np.uint8),
        np.zeros((0, 2, 4), np.uint8),
        np.zeros((3, 0, 4), np.uint8),
    ],
)
def test_images_of_another_kind_are_refused(images: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match=r"^images: ") as caught:
        Split(images, np.zeros(len(images), np.uint8))
    assert caught.value.field == "images"


@pytest.mark.parametrize(
    "labels",
    [np.zeros(2, np.uint8), np.zeros(4, np.uint8), np.zeros((3, 1), np.uint8), np.zeros(3, np.int64)],
)
def test_labels_of_another_kind_or_number_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(InvalidValue, match="a label an image"):
        Split(np.zeros((3, 2, 4), np.uint8), labels)


def test_images_are_not_copied_unless_they_lie_apart() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    assert np.shares_memory(Split(images, np.zeros(3, np.uint8)).images, images)
    apart = Split(images[:, :, ::2], np.zeros(3, np.uint8))
    assert apart.images.flags.c_contiguous
    np.testing.assert_array_equal(apart.images, images[:, :, ::2])


def test_splits_must_have_images_of_one_size() -> None:
    assert Dataset(split(5), validation=split(1), test=split(2)).test is not None
    with pytest.raises(InvalidValue, match=r"^validation\.images: .*2 x 4"):
        Dataset(split(), validation=split(width=5))
    with pytest.raises(InvalidValue, match=r"^test\.images: "):
        Dataset(split(), test=split(height=1, width=8))
