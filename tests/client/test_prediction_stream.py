"""A prediction stream: answers find their requests, in whatever order they come."""

import os
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client import DataError, InternalError, InvalidInput, Limits, Predictions
from mnist_client.prediction_stream import PredictionStream
from mnist_proto.v1 import prediction_pb2 as pb


def marked(*marks: int) -> NDArray[np.uint8]:
    """Images whose pixels all have one value, by which they are known again."""
    return np.array(marks, dtype=np.uint8).reshape(-1, 1, 1) * np.ones((1, 28, 28), dtype=np.uint8)


def picture(mark: int) -> bytes:
    """An encoded image: nobody decodes it here."""
    return b"picture" + bytes([mark])


def answer(request: pb.PredictRequest) -> pb.PredictResponse:
    """What a server would say that takes the mark for the digit."""
    marks = list(request.pixels[:: request.height * request.width])
    ones = [1.0] * len(marks)
    return pb.PredictResponse(
        model="models/m/versions/1", digits=marks, confidences=ones, probabilities=ones, classes=1
    )


def test_a_stream_knows_answers_by_their_number(limits: Limits) -> None:
    stream = PredictionStream("models/m", limits)
    requests = [stream.request(index, marked(index, index)) for index in range(3)]
    assert stream.owes == 3
    assert {request.request.model for request in requests} == {"models/m"}
    for request in reversed(requests):
        response = pb.PredictStreamResponse(id=request.id, response=answer(request.request))
        index, predictions = stream.answer(response, "server")
        assert index == request.id
        assert isinstance(predictions, Predictions)
        assert predictions.digits.tolist() == [index, index]
    assert stream.owes == 0
    stream.close("server")


def test_a_stream_gives_errors_as_answers(limits: Limits) -> None:
    stream = PredictionStream("", limits)
    stream.request(0, [picture(1), picture(2)])
    error = pb.PredictionError(code=3, message="encoded_images[1]: no image")
    index, answered = stream.answer(pb.PredictStreamResponse(id=0, error=error), "server")
    assert index == 0
    assert isinstance(answered, InvalidInput)
    assert str(answered) == "images[1]: no image"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (marked(1).astype(float), "images: an array of float64"),
        (marked(*[1] * 101), "images: a batch that makes more than one request is not valid"),
        ([marked(1), picture(1)], "images: a batch that makes more than one request"),
        (os.devnull + "/none", os.devnull),
    ],
)
def test_a_batch_that_makes_no_request_is_answered_by_its_own_error(
    limits: Limits, images: Any, message: str
) -> None:
    stream = PredictionStream("models/m", limits)
    request = stream.request(5, images)
    assert request == pb.PredictStreamRequest(id=5, request=pb.PredictRequest(model="models/m"))
    servers = pb.PredictionError(code=3, message="height: 0 is not valid")
    index, answered = stream.answer(pb.PredictStreamResponse(id=5, error=servers), "server")
    assert index == 5
    assert isinstance(answered, InvalidInput | DataError)
    assert str(answered).startswith(message)


def test_an_answer_to_nothing_is_the_servers_fault(limits: Limits) -> None:
    stream = PredictionStream("", limits)
    request = stream.request(0, marked(1))
    response = pb.PredictStreamResponse(id=0, response=answer(request.request))
    stream.answer(response, "server")
    with pytest.raises(InternalError, match="an answer to request 0, which is not waiting for one"):
        stream.answer(response, "server")


def test_a_stream_that_ends_early_is_the_servers_fault(limits: Limits) -> None:
    stream = PredictionStream("", limits)
    stream.request(0, marked(1))
    with pytest.raises(InternalError, match="ended without an answer to 1 requests"):
        stream.close("server")
