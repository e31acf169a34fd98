"""Batches: a data set goes out whole, in order, in pieces that the server takes, without a second copy."""

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client import DataNotFound, Dataset, InvalidInput, Limits, Split
from mnist_client.batches import (
    CHUNK_BYTES,
    check_dataset,
    check_image_size,
    dataset_name,
    evaluate_requests,
    evaluation_config,
    to_dataset,
    to_split,
    train_requests,
    upload_requests,
)
from mnist_proto.v1 import images_pb2, training_pb2

CONFIG = evaluation_config("models/m", None, None, return_images=False)


def split(count: int, height: int = 28, width: int = 28, *, start: int = 0) -> Split:
    images = np.arange(start, start + count * height * width).astype(np.uint8).reshape(count, height, width)
    return Split(images, (np.arange(start, start + count) % 10).astype(np.uint8))


def joined(batches: list[images_pb2.LabeledImages]) -> tuple[NDArray[np.uint8], bytes]:
    pixels = b"".join(batch.pixels for batch in batches)
    shape = (-1, batches[0].height, batches[0].width)
    return np.frombuffer(pixels, np.uint8).reshape(shape), b"".join(batch.labels for batch in batches)


def test_every_split_goes_out_whole_after_the_configuration(limits: Limits) -> None:
    dataset = Dataset("d", split(300), split(20, start=5), split(70, start=9))
    config = training_pb2.TrainingConfig(epochs=3)
    first, *rest = train_requests(config, dataset, dataclasses.replace(limits, max_message_bytes=80_000))
    assert first.config == config
    assert {request.WhichOneof("message") for request in rest} == {"batch"}
    order = []
    for wire, original in (
        (images_pb2.SPLIT_TRAIN, dataset.train),
        (images_pb2.SPLIT_VALIDATION, dataset.validation),
        (images_pb2.SPLIT_TEST, dataset.test),
    ):
        batches = [request.batch for request in rest if request.batch.split == wire]
        images, labels = joined(batches)
        assert original is not None
        np.testing.assert_array_equal(images, original.images)
        assert labels == original.labels.tobytes()
        order += [wire] * len(batches)
    assert [request.batch.split for request in rest] == order
    assert len(rest) == 3 + 1 + 1


def test_an_evaluation_goes_out_whole_after_the_model(limits: Limits) -> None:
    data = split(200)
    first, *rest = evaluate_requests(CONFIG, data, dataclasses.replace(limits, max_message_bytes=50_000))
    assert first.config.model == "models/m"
    images, labels = joined([request.batch for request in rest])
    np.testing.assert_array_equal(images, data.images)
    assert labels == data.labels.tobytes()


@pytest.mark.parametrize("most", [2_000, 100_000, 2**20, 2**30])
def test_no_message_is_larger_than_the_server_takes(limits: Limits, most: int) -> None:
    limits = dataclasses.replace(limits, max_message_bytes=most)
    requests = list(evaluate_requests(CONFIG, split(4000), limits))
    assert max(request.ByteSize() for request in requests) <= min(most, CHUNK_BYTES)
    assert sum(len(request.batch.labels) for request in requests) == 4000


def test_an_image_of_the_largest_size_goes_out_alone(limits: Limits) -> None:
    limits = dataclasses.replace(limits, max_message_bytes=1_000)
    batches = [request.batch for request in evaluate_requests(CONFIG, split(3, 60, 60), limits)][1:]
    assert [len(batch.pixels) for batch in batches] == [3600] * 3


def test_arrays_that_are_no_slice_of_memory_go_out_as_they_look(limits: Limits) -> None:
    images = split(40).images[::2, ::-1, :]
    data = to_split((images, np.arange(20) % 10))
    _, request = evaluate_requests(CONFIG, data, limits)
    np.testing.assert_array_equal(joined([request.batch])[0], images)


def test_an_upload_holds_one_batch_at_a_time(limits: Limits) -> None:
    limits = dataclasses.replace(limits, max_message_bytes=2**24)
    data = split(40_000)  # 30 MiB
    tracemalloc.start()
    try:
        for request in evaluate_requests(CONFIG, data, limits):
            assert request.ByteSize() <= CHUNK_BYTES
            del request
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * CHUNK_BYTES


def test_data_may_be_arrays_a_split_or_a_data_set(tmp_path: Path) -> None:
    data = split(5)
    whole = Dataset("d", data, None, split(3))
    assert to_dataset(whole) is whole
    assert to_dataset(data).train is data
    arrays = to_dataset((data.images.reshape(5, 784), data.labels.tolist()))
    np.testing.assert_array_equal(arrays.train.images, data.images)
    np.testing.assert_array_equal(arrays.train.labels, data.labels)
    assert (arrays.validation, arrays.test) == (None, None)
    assert to_split(whole) is whole.test
    assert to_split(Dataset("d", data)) is data
    assert to_split(data) is data
    np.savez(tmp_path / "digits.npz", images=data.images, labels=data.labels)
    for spec in (tmp_path / "digits.npz", str(tmp_path / "digits.npz")):
        np.testing.assert_array_equal(to_dataset(spec).train.images, data.images)
        np.testing.assert_array_equal(to_split(spec).images, data.images)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((np.zeros((2, 28, 28)), [1, 2]), "images: an array of float64"),
        (
            (np.zeros((2, 28, 28), np.uint8), [1]),
            "labels: 1 labels is not valid: expected one for each of the 2",
        ),
        ((np.zeros((2, 28, 28), np.uint8), [1.0, 2.0]), "labels: an array of 2 float64"),
        ((np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8)), "images: 0 images is not valid"),
        ((np.zeros((2, 28, 28), np.uint8),), "data: tuple is not valid: expected a SPEC"),
        (np.zeros((2, 28, 28), np.uint8), "data: ndarray is not valid"),
        (None, "data: NoneType is not valid"),
    ],
)
def test_what_is_no_data_is_named(data: Any, message: str) -> None:
    for read in (to_dataset, to_split):
        with pytest.raises(InvalidInput) as raised:
            read(data)
        assert str(raised.value).startswith(message)


def test_a_file_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        to_dataset(tmp_path / "none.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"max_dataset_images": 119}, "data: 120 images is not valid: expected at most 119"),
        ({"max_dataset_bytes": 94_079}, "data: 94080 bytes of pixels is not valid: expected at most 94079"),
        (
            {"max_image_pixels": 783},
            "images: 28 x 28 pixels is not valid: expected at most 783 pixels an image",
        ),
    ],
)
def test_what_the_server_does_not_take_is_not_sent(
    limits: Limits, changed: dict[str, int], message: str
) -> None:
    dataset = Dataset("d", split(100), split(10), split(10))
    check_dataset(dataset, dataclasses.replace(limits, **{name: most + 1 for name, most in changed.items()}))
    limits = dataclasses.replace(limits, **changed)
    with pytest.raises(InvalidInput) as raised:
        check_dataset(dataset, limits)
    assert str(raised.value) == message
    if "max_image_pixels" in changed:
        with pytest.raises(InvalidInput):
            check_image_size(dataset.train.images, limits)


def test_labels_above_a_byte_go_out_as_two_in_every_batch(limits: Limits) -> None:
    images = np.zeros((3, 2, 2), np.uint8)
    few = Split(images, np.array([4, 5, 6], np.uint8))
    dataset = Dataset("many", Split(images, np.array([1, 2, 300], np.uint16)), test=few)
    batches = [request.batch for request in upload_requests(dataset, limits)]
    assert [batch.labels16 for batch in batches] == [b"\1\0\2\0\x2c\1", b"\4\0\5\0\6\0"]
    assert not any(batch.labels for batch in batches)
    # As if it had come so: the name does not depend on the arrays' types.
    wide = Split(images, np.array([4, 5, 6], np.uint16))
    assert dataset_name(dataset) == dataset_name(Dataset("many", dataset.train, test=wide))


def test_small_labels_go_out_as_bytes_whatever_their_type(limits: Limits) -> None:
    images, labels = np.zeros((3, 2, 2), np.uint8), np.array([4, 5, 255])
    wide = Dataset("few", Split(images, labels.astype(np.uint16)))
    narrow = Dataset("few", Split(images, labels.astype(np.uint8)))
    [batch] = [request.batch for request in upload_requests(wide, limits)]
    assert (batch.labels, batch.labels16) == (b"\4\5\xff", b"")
    assert dataset_name(wide) == dataset_name(narrow)
