import dataclasses

import numpy as np

from mnist_core.architecture import MAX_PARAMETERS
from mnist_core.pictures import MAX_PIXELS
from mnist_proto.arrays import set_packed
from mnist_proto.v1 import images_pb2, prediction_pb2, server_pb2
from mnist_server.limits import HEARTBEAT_SECONDS, SILENCE_SECONDS, Limits


def test_every_limit_is_published_as_it_is() -> None:
    limits = Limits(max_streams=7)
    message = limits.to_message()
    names = [field.name for field in server_pb2.Limits.DESCRIPTOR.fields]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(Limits))
    assert {name: getattr(message, name) for name in names} == vars(limits)
    assert message.max_streams == 7
    assert all(value > 0 for value in vars(limits).values())


def test_what_is_published_is_what_the_network_and_the_pictures_take() -> None:
    assert Limits().max_encoded_pixels == MAX_PIXELS
    assert Limits().max_parameters <= MAX_PARAMETERS


def test_the_largest_prediction_fits_into_a_message_both_ways() -> None:
    limits = Limits()
    count = limits.max_images_per_request
    pixels = bytes(count * 28 * 28)
    request = prediction_pb2.PredictRequest(model="models/" + "m" * 63, pixels=pixels, height=28, width=28)
    assert request.ByteSize() <= limits.max_message_bytes
    response = prediction_pb2.PredictResponse(
        model="models/" + "m" * 63, digits=[9] * count, inputs=pixels, input_height=28, input_width=28
    )
    set_packed(response, "confidences", np.ones(count, np.float32))
    set_packed(response, "probabilities", np.ones((count, 10), np.float32))
    assert response.ByteSize() <= limits.max_message_bytes


def test_the_largest_image_fits_into_a_message() -> None:
    limits = Limits()
    batch = images_pb2.LabeledImages(pixels=bytes(limits.max_image_pixels), labels=b"\0")
    assert batch.ByteSize() < limits.max_message_bytes


def test_an_idle_stream_speaks_before_a_proxy_would_drop_it() -> None:
    assert HEARTBEAT_SECONDS * 3 < 60 <= SILENCE_SECONDS
