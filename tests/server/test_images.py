import numpy as np
import pytest

from mnist_core import InvalidValue
from mnist_proto.v1 import images_pb2
from mnist_server.images import read_batch, read_pixels
from mnist_server.limits import Limits

LIMITS = Limits(max_image_pixels=100)


def test_pixels_are_read_row_by_row_without_a_copy() -> None:
    pixels = bytes(range(12))
    images = read_pixels(pixels, 2, 3, LIMITS)
    assert images.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert np.shares_memory(images, np.frombuffer(pixels, np.uint8))


@pytest.mark.parametrize("size", [(1, 100), (100, 1), (10, 10)])
def test_an_image_may_be_as_large_as_the_limit(size: tuple[int, int]) -> None:
    assert read_pixels(bytes(200), *size, LIMITS).shape == (2, *size)


@pytest.mark.parametrize(
    ("pixels", "height", "width", "message"),
    [
        (b"1234", 0, 2, "height: 0 is not valid: expected at least 1 pixel"),
        (b"1234", 2, 0, "width: 0 is not valid: expected at least 1 pixel"),
        (b"", 0, 0, "pixels: '0 bytes' is not valid: expected at least one image"),
        (
            b"1234",
            101,
            1,
            "height: 101 is not valid: expected height x width of at most 100 pixels, not 101 x 1",
        ),
        (
            b"1234",
            2**32 - 1,
            2**32 - 1,
            "height: 4294967295 is not valid: expected height x width of at most 100 pixels, "
            "not 4294967295 x 4294967295",
        ),
        (b"", 2, 2, "pixels: '0 bytes' is not valid: expected at least one image"),
        (
            b"12345",
            2,
            2,
            "pixels: '5 bytes' is not valid: expected a multiple of height x width = 2 x 2 = 4 bytes",
        ),
        (
            b"1",
            2,
            2,
            "pixels: '1 bytes' is not valid: expected a multiple of height x width = 2 x 2 = 4 bytes",
        ),
    ],
)
def test_pixels_that_are_no_images_are_refused(pixels: bytes, height: int, width: int, message: str) -> None:
    for prefix in ("", "batch."):
        with pytest.raises(InvalidValue) as raised:
            read_pixels(pixels, height, width, LIMITS, prefix=prefix)
        assert str(raised.value) == prefix + message


def batch(pixels: bytes, labels: bytes) -> images_pb2.LabeledImages:
    return images_pb2.LabeledImages(pixels=pixels, height=2, width=2, labels=labels)


def test_a_batch_is_read_with_every_label_that_there_is() -> None:
    images, labels = read_batch(batch(bytes(40), bytes(range(10))), LIMITS, 10)
    assert images.shape == (10, 2, 2)
    assert labels.tolist() == list(range(10))
    images, labels = read_batch(batch(bytes(4), b"\xff"), LIMITS, 256)
    assert (images.shape, labels.tolist()) == ((1, 2, 2), [255])


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (8, b"", "batch.labels: '0 labels' is not valid: expected one for each of the 2 images"),
        (8, b"\1", "batch.labels: '1 labels' is not valid: expected one for each of the 2 images"),
        (8, b"\1\2\3", "batch.labels: '3 labels' is not valid: expected one for each of the 2 images"),
        (8, b"\1\x0a", "batch.labels[1]: 10 is not valid: expected a label from 0 to 9"),
        (16, b"\1\2\xff\x0b", "batch.labels[2]: 255 is not valid: expected a label from 0 to 9"),
        (0, b"", "batch.pixels: '0 bytes' is not valid: expected at least one image"),
    ],
)
def test_labels_that_do_not_fit_are_refused(pixels: int, labels: bytes, message: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        read_batch(batch(bytes(pixels), labels), LIMITS, 10)
    assert str(raised.value) == message


def test_a_label_must_be_one_that_the_model_knows() -> None:
    read_batch(batch(bytes(4), b"\1"), LIMITS, 2)
    with pytest.raises(InvalidValue, match=r"batch\.labels\[0\]: 2 .*from 0 to 1"):
        read_batch(batch(bytes(4), b"\2"), LIMITS, 2)


def test_labels_of_two_bytes() -> None:
    wide = images_pb2.LabeledImages(pixels=bytes(8), height=2, width=2, labels16=b"\x2c\1\7\0")
    assert read_batch(wide, LIMITS, 1000)[1].tolist() == [300, 7]
    with pytest.raises(InvalidValue, match=r"batch\.labels16\[0\]: 300 .*from 0 to 299"):
        read_batch(wide, LIMITS, 300)
    wide.labels16 = b"\x2c\1\7"
    with pytest.raises(InvalidValue, match=r"batch\.labels16: '1\.5 labels' .*each of the 2 images"):
        read_batch(wide, LIMITS, 1000)
    wide.labels = b"\1\2"
    with pytest.raises(InvalidValue, match=r"batch\.labels16: '3 bytes' .*none beside labels"):
        read_batch(wide, LIMITS, 1000)
