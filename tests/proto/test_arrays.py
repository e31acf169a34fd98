"""Arrays as bytes: what goes in comes out, and the message is the one that protobuf itself would make."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message

from mnist_proto.arrays import array_to_pixels, pixels_to_array, set_packed
from mnist_proto.v1 import evaluation_pb2, prediction_pb2


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 4096, 100_000])  # lengths of one to three bytes
def test_packed_floats_are_those_of_protobuf(count: int) -> None:
    values = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    ours, protobufs = prediction_pb2.PredictResponse(), prediction_pb2.PredictResponse()
    set_packed(ours, "probabilities", values)
    protobufs.probabilities.extend(values.tolist())
    assert ours == protobufs
    assert ours.SerializeToString() == protobufs.SerializeToString()
    back = prediction_pb2.PredictResponse.FromString(ours.SerializeToString())
    np.testing.assert_array_equal(np.asarray(back.probabilities, dtype=np.float32), values)


def test_packed_floats_may_be_of_any_shape_type_and_order() -> None:
    values = np.arange(24, dtype=np.float64).reshape(3, 8) / 2
    values[:, ::2] = np.arange(12).reshape(3, 4)
    arrays: list[Any] = [values[:, ::2], values[:, ::2].astype(">f4"), np.asfortranarray(values[:, ::2])]
    for array in arrays:
        response = prediction_pb2.PredictResponse(model="m")
        set_packed(response, "probabilities", array)
        assert list(response.probabilities) == list(range(12))
        assert response.model == "m"


def test_values_that_only_floats_have_survive() -> None:
    values = np.array([np.inf, -np.inf, np.nan, -0.0, 1e-45], dtype=np.float32)
    response = prediction_pb2.PredictResponse()
    set_packed(response, "confidences", values)
    assert np.asarray(response.confidences, dtype=np.float32).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (prediction_pb2.PredictResponse(), "no_such_field"),
        (prediction_pb2.PredictResponse(), "digits"),  # packed, but of integers
        (prediction_pb2.PredictResponse(), "model"),
        (prediction_pb2.PredictResponse(), "classes"),
        (evaluation_pb2.Evaluation(), "per_class"),
        (evaluation_pb2.Mistake(), "confidence"),
    ],
)
def test_a_field_that_is_no_packed_float_is_named(message: Message, field: str) -> None:
    with pytest.raises(ValueError, match=rf"^field: '{field}' is not a packed float field of mnist\.v1\."):
        set_packed(message, field, np.zeros(2, dtype=np.float32))


def test_pixels_go_out_and_come_back() -> None:
    images = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    pixels = array_to_pixels(images)
    assert pixels == bytes(range(30))
    back = pixels_to_array(pixels, 3, 5)
    assert back.shape == (2, 3, 5)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, images)
    assert not back.flags.writeable
    assert np.shares_memory(back, np.frombuffer(pixels, np.uint8))


def test_pixels_are_in_the_order_they_are_seen() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for view in (images[::-1], images[:, :, ::2], images.transpose(0, 2, 1), np.asfortranarray(images)):
        np.testing.assert_array_equal(pixels_to_array(array_to_pixels(view), *view.shape[1:]), view)


def test_pixels_that_are_no_whole_images_are_refused() -> None:
    assert pixels_to_array(b"", 3, 5).shape == (0, 3, 5)
    for pixels in (b"x", bytes(14), bytes(31)):
        with pytest.raises(ValueError, match="reshape"):
            pixels_to_array(pixels, 3, 5)
