import numpy as np
import pytest
from benchmarks.serving.protocol import (
    INFER,
    INFER_UINT8,
    JSON,
    PREDICT,
    RAW,
    frame,
    null_answers,
    stream_messages,
)
from numpy.typing import NDArray

from mnist_proto.v1 import prediction_pb2


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 784), dtype=np.uint8)


@pytest.fixture
def probabilities() -> NDArray[np.float32]:
    values = np.random.default_rng(1).random((2, 10), dtype=np.float32)
    values /= values.sum(axis=1, keepdims=True)
    return values


def test_a_frame_is_a_flag_the_length_and_the_message() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_predict_carries_the_pixels(images: NDArray[np.uint8]) -> None:
    request = prediction_pb2.PredictRequest.FromString(PREDICT.encode(images))
    assert (request.pixels, request.height, request.width) == (images.tobytes(), 28, 28)


def test_model_infer_is_on_the_wire_what_the_protocol_says() -> None:
    images = np.full((1, 784), 255, dtype=np.uint8)
    tensor = b"\x0a\x06images" + b"\x12\x04FP32" + b"\x1a\x03\x01\x90\x06"  # name, datatype, shape [1, 784]
    expected = b"\x0a\x05mnist" + b"\x2a" + bytes([len(tensor)]) + tensor
    expected += b"\x32\x0f\x0a\x0dprobabilities"
    expected += b"\x3a\xc0\x18" + np.ones(784, dtype="<f4").tobytes()  # 3,136 bytes of field 7
    assert INFER.encode(images) == expected


def test_uint8_goes_to_a_model_of_its_own_as_it_is(images: NDArray[np.uint8]) -> None:
    request = INFER_UINT8.encode(images)
    assert request.startswith(b"\x0a\x0bmnist-uint8")
    assert request.endswith(images.tobytes())


def test_answers_of_a_server_that_computes_nothing_are_read_back(probabilities: NDArray[np.float32]) -> None:
    answers = null_answers(probabilities)
    assert np.array_equal(PREDICT.decode(answers["Predict"]), probabilities)
    assert np.array_equal(INFER.decode(answers["ModelInfer"]), probabilities)
    assert prediction_pb2.PredictResponse.FromString(answers["Predict"]).digits == [
        *probabilities.argmax(axis=1)
    ]


def test_model_infer_may_answer_with_typed_contents() -> None:
    contents = b"\x32\x28" + np.arange(10, dtype="<f4").tobytes()  # fp32_contents, packed
    output = b"\x0a\x0dprobabilities" + b"\x2a" + bytes([len(contents)]) + contents
    answer = b"\x2a" + bytes([len(output)]) + output
    assert INFER.decode(answer).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]


def test_model_infer_finds_its_output_among_others() -> None:
    def output(name: bytes) -> bytes:
        tensor = b"\x0a" + bytes([len(name)]) + name
        return b"\x2a" + bytes([len(tensor)]) + tensor

    values = np.arange(10, dtype="<f4")
    raw = b"\x32\x08" + bytes(8) + b"\x32\x28" + values.tobytes()
    assert np.array_equal(INFER.decode(output(b"digit") + output(b"probabilities") + raw), [values])


def test_raw_bytes_and_json(images: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
    assert RAW.encode(images) == images.tobytes()
    assert np.array_equal(RAW.decode(probabilities.tobytes()), probabilities)
    assert JSON.encode(images[:1, :3]).startswith(b'{"pixels": "')
    assert JSON.decode(b'{"probabilities": [[0, 1, 0, 0, 0, 0, 0, 0, 0, 0]]}').argmax() == 1


def test_a_stream_is_one_message_an_image(images: NDArray[np.uint8]) -> None:
    data = stream_messages(images)
    found = []
    while data:
        length = int.from_bytes(data[1:5], "big")
        found.append(prediction_pb2.PredictStreamRequest.FromString(data[5 : 5 + length]))
        data = data[5 + length :]
    assert [message.id for message in found] == [0, 1]
    assert [message.request.pixels for message in found] == [image.tobytes() for image in images]
