import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_client.datasets import Dataset
from mnist_core import load_model
from mnist_core.pictures import Read
from mnist_proto.v1 import prediction_pb2 as pb
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_server import serving
from mnist_server.data_directory import DataDirectory
from mnist_server.limits import Limits
from mnist_server.registry import Model

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DEADLINE = 2.0
Refused = Callable[..., Any]


@pytest.fixture(params=[True, False], ids=["fast", "public"])
def fast_path(request: pytest.FixtureRequest) -> bool:
    """Every test here is run on both paths."""
    return bool(request.param)


@pytest.fixture
def stub(make_version: Callable[..., str], channel: grpc.Channel) -> PredictionServiceStub:
    """The service, with a network that was never trained as models/mnist."""
    make_version()
    return PredictionServiceStub(channel)


@pytest.fixture
def images(digits: Dataset) -> NDArray[np.uint8]:
    return digits.train.images[:25]


def ask(images: NDArray[np.uint8], **fields: Any) -> pb.PredictRequest:
    _, height, width = images.shape
    return pb.PredictRequest(pixels=images.tobytes(), height=height, width=width, **fields)


def encode(image: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def assert_equal(answer: pb.PredictResponse, expected: pb.PredictResponse) -> None:
    """The same, but for the last bits, which differ with what an image was answered together with."""
    assert (answer.model, list(answer.digits)) == (expected.model, list(expected.digits))
    np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(answer.confidences, expected.confidences, atol=1e-5)


def test_answers_in_columns_in_the_order_of_the_images(
    stub: PredictionServiceStub, directory: DataDirectory, images: NDArray[np.uint8]
) -> None:
    response = stub.Predict(ask(images), timeout=DEADLINE)
    [file] = directory.models.iterdir()
    expected = load_model(file)[0].predict(images)
    assert response.model == "models/mnist/versions/1"
    assert response.classes == 10
    probabilities = np.array(response.probabilities, np.float32).reshape(25, 10)
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert list(response.digits) == expected.argmax(axis=1).tolist()
    np.testing.assert_allclose(response.confidences, expected.max(axis=1), atol=1e-5)
    assert not response.inputs
    assert (response.input_height, response.input_width) == (0, 0)


def test_many_images_are_answered_as_one_by_one(
    stub: PredictionServiceStub, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "chunk", property(lambda model: 10))
    whole = stub.Predict(ask(images), timeout=DEADLINE)
    each = [stub.Predict(ask(images[i : i + 1]), timeout=DEADLINE) for i in range(len(images))]
    assert list(whole.digits) == [answer.digits[0] for answer in each]
    singly = [number for answer in each for number in answer.probabilities]
    np.testing.assert_allclose(whole.probabilities, singly, atol=1e-5)


def test_probabilities_travel_as_the_bytes_of_the_array(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    response = stub.Predict(ask(images), timeout=DEADLINE)
    packed = np.array(response.probabilities, "<f4").tobytes()
    assert packed in response.SerializeToString()


def test_encoded_pictures_become_digits_and_are_shown_when_asked(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    drawn = 255 - np.kron(images[0], np.ones((5, 5), np.uint8))  # large, dark on light
    request = pb.PredictRequest(encoded_images=[encode(images[0]), encode(drawn, "JPEG")], return_inputs=True)
    response = stub.Predict(request, timeout=DEADLINE)
    assert (response.input_height, response.input_width) == (28, 28)
    inputs = np.frombuffer(response.inputs, np.uint8).reshape(2, 28, 28)
    np.testing.assert_array_equal(inputs[0], images[0])
    assert np.abs(inputs[1].astype(int) - images[0]).mean() < 16  # the same digit, but for JPEG's noise
    # The first was in MNIST's form. Of the other, which had to be made, this is the mean over five views.
    moved = [np.roll(inputs[1], by, axis=(0, 1)) for by in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))]
    of_inputs = stub.Predict(ask(np.stack([inputs[0], *moved])), timeout=DEADLINE)
    rows = np.array(of_inputs.probabilities).reshape(6, 10)
    expected = np.concatenate([rows[0], rows[1:].mean(axis=0)])
    np.testing.assert_allclose(response.probabilities, expected, atol=1e-5)
    assert np.abs(rows[1] - rows[1:].mean(axis=0)).max() > 1e-4


def test_return_inputs_of_pixels_are_the_pixels(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    response = stub.Predict(ask(images, return_inputs=True), timeout=DEADLINE)
    assert response.inputs == images.tobytes()
    assert (response.input_height, response.input_width) == (28, 28)


def test_names_stand_for_versions(
    stub: PredictionServiceStub, make_version: Callable[..., str], images: NDArray[np.uint8]
) -> None:
    def answers(name: str) -> str:
        return stub.Predict(ask(images[:1], model=name), timeout=DEADLINE).model

    second = make_version(seed=1)
    assert answers("") == answers("models/mnist") == "models/mnist/versions/1"
    assert answers(second) == second == "models/mnist/versions/2"
    assert answers("models/mnist/aliases/default") == "models/mnist/versions/1"
    promoted = make_version(seed=2, promote=True)
    deadline = time.monotonic() + DEADLINE  # another process than the server promoted it
    for name in ("", "models/mnist/aliases/default"):  # each is looked up anew within a poll
        while answers(name) != promoted:
            assert time.monotonic() < deadline
    assert promoted == "models/mnist/versions/3"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"pixels": bytes(785), "height": 28, "width": 28}, "pixels", ("785", "28 x 28", "784")),
        ({"pixels": b"", "height": 28, "width": 28}, "pixels", ("0 bytes", "at least one image")),
        ({}, "pixels", ("0 bytes", "at least one image")),
        ({"pixels": bytes(784), "height": 0, "width": 28}, "height", ("0", "at least 1")),
        ({"pixels": bytes(784), "height": 28, "width": 0}, "width", ("0", "at least 1")),
        ({"pixels": bytes(784), "height": 2**32 - 1, "width": 2**32 - 1}, "height", ("4294967295", "65536")),
        (
            {"pixels": bytes(1024), "height": 32, "width": 32},
            "height",
            ("32 x 32", "28 x 28", "models/mnist"),
        ),
        ({"pixels": bytes(784), "height": 14, "width": 56}, "height", ("14 x 56", "28 x 28")),
        ({"pixels": bytes(784), "encoded_images": [b"x"]}, "pixels", ("784 bytes", "encoded_images")),
        ({"encoded_images": [b"not a picture"]}, "encoded_images[0]", ("not a pi", "PNG")),
        ({"encoded_images": [b""]}, "encoded_images[0]", ("no bytes", "PNG")),
        (
            {"pixels": bytes(784), "height": 28, "width": 28, "model": "mnist"},
            "model",
            ("'mnist'", "models/{m}"),
        ),
        ({"model": "models/Mnist"}, "model", ("'models/Mnist'", "models/{m}")),
        ({"model": "models/mnist/versions/0"}, "model", ("'models/mnist/versions/0'", "models/{m}")),
        ({"model": "models/" + "x" * 100_000}, "model", ("xxx", "models/{m}")),
        ({"model": "models/" + "\N{GRINNING FACE}" * 100_000}, "model", ("models/{m}",)),
    ],
)
def test_bad_input_is_refused_and_nothing_is_slower_for_it(
    stub: PredictionServiceStub,
    images: NDArray[np.uint8],
    refused: Refused,
    fields: dict[str, Any],
    field: str,
    words: tuple[str, ...],
) -> None:
    refused(lambda: stub.Predict(pb.PredictRequest(**fields), timeout=DEADLINE), INVALID, *words, field=field)
    assert stub.Predict(ask(images), timeout=DEADLINE).model


def test_one_bad_picture_among_good_ones_is_named(
    stub: PredictionServiceStub, images: NDArray[np.uint8], refused: Refused
) -> None:
    pictures = [encode(images[0]), encode(images[1])[:100]]
    request = pb.PredictRequest(encoded_images=pictures)
    words = ("truncated or corrupt PNG",)
    refused(lambda: stub.Predict(request, timeout=DEADLINE), INVALID, *words, field="encoded_images[1]")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("models/unknown", ("'models/unknown'", "models/mnist", "models/other")),
        ("models/mnist/versions/7", ("'models/mnist/versions/7'", "models/mnist/versions/1")),
        ("models/mnist/versions/999999999999999999", ("models/mnist/versions/1",)),
        ("models/mnist/aliases/stable", ("'models/mnist/aliases/stable'", "models/mnist/aliases/default")),
    ],
)
def test_what_is_not_there_is_not_found_and_what_is_there_is_listed(
    stub: PredictionServiceStub,
    make_version: Callable[..., str],
    images: NDArray[np.uint8],
    refused: Refused,
    name: str,
    words: tuple[str, ...],
) -> None:
    make_version("other")
    request = ask(images, model=name)
    refused(lambda: stub.Predict(request, timeout=DEADLINE), grpc.StatusCode.NOT_FOUND, *words)


def test_without_any_model_it_says_to_train_one(
    channel: grpc.Channel, images: NDArray[np.uint8], refused: Refused
) -> None:
    stub = PredictionServiceStub(channel)
    not_found = grpc.StatusCode.NOT_FOUND
    refused(lambda: stub.Predict(ask(images), timeout=DEADLINE), not_found, "models/mnist", "train one")


def test_weights_that_are_not_what_was_written_are_data_loss(
    stub: PredictionServiceStub, directory: DataDirectory, images: NDArray[np.uint8], refused: Refused
) -> None:
    [file] = directory.models.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    refused(lambda: stub.Predict(ask(images), timeout=DEADLINE), grpc.StatusCode.DATA_LOSS, "models/mnist")
    file.unlink()
    refused(lambda: stub.Predict(ask(images), timeout=DEADLINE), grpc.StatusCode.DATA_LOSS, "models/mnist")


@pytest.mark.parametrize("garbage", [b"\xff", b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x01\xff"])
def test_bytes_that_are_no_message_are_refused(
    stub: PredictionServiceStub,
    channel: grpc.Channel,
    images: NDArray[np.uint8],
    refused: Refused,
    garbage: bytes,
) -> None:
    raw: Any = channel
    predict = raw.unary_unary("/mnist.v1.PredictionService/Predict")
    words = (f"{len(garbage)} bytes", "mnist.v1.PredictRequest")
    refused(lambda: predict(garbage, timeout=DEADLINE), INVALID, *words, field="request")
    assert stub.Predict(ask(images), timeout=DEADLINE).model


def test_limits_hold_where_they_are_published(
    stub: PredictionServiceStub, images: NDArray[np.uint8], refused: Refused
) -> None:
    most = Limits().max_images_per_request
    black = np.zeros((most + 1, 28, 28), np.uint8)
    assert len(stub.Predict(ask(black[:-1], return_inputs=True), timeout=30).digits) == most
    words = (f"{most + 1} images", f"at most {most}")
    refused(lambda: stub.Predict(ask(black), timeout=30), INVALID, *words, field="pixels")
    most = Limits().max_encoded_images
    pictures = [encode(images[0])] * (most + 1)
    assert len(stub.Predict(pb.PredictRequest(encoded_images=pictures[:-1]), timeout=30).digits) == most
    words = (f"{most + 1} pictures", f"at most {most}")
    many = pb.PredictRequest(encoded_images=pictures)
    refused(lambda: stub.Predict(many, timeout=30), INVALID, *words, field="encoded_images")


def test_a_message_over_the_limit_is_refused_and_one_of_just_its_size_is_read(
    stub: PredictionServiceStub, images: NDArray[np.uint8], refused: Refused
) -> None:
    most = Limits().max_message_bytes
    request = pb.PredictRequest(height=28, width=28)
    request.pixels = bytes(
        most - pb.PredictRequest(pixels=bytes(most), height=28, width=28).ByteSize() + most
    )
    assert request.ByteSize() == most
    refused(lambda: stub.Predict(request, timeout=30), INVALID, "784", field="pixels")  # so it was read
    request.pixels += b"\0"
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=30)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"{most + 1} vs. {most}" in error.details()
    assert stub.Predict(ask(images), timeout=DEADLINE).model


def bomb(pixels: int) -> bytes:
    """A black picture whose file is about a thousandth of what it becomes."""
    width = 6000
    return encode(np.zeros((pixels // width, width), np.uint8))


def test_a_decompression_bomb_is_refused_before_it_goes_off(
    stub: PredictionServiceStub, images: NDArray[np.uint8], refused: Refused
) -> None:
    most = Limits().max_encoded_pixels
    request = pb.PredictRequest(encoded_images=[encode(images[0]), bomb(most + 6000)])
    assert request.ByteSize() < 100_000
    words = ("6000 x 4001", f"at most {most}")
    refused(lambda: stub.Predict(request, timeout=DEADLINE), INVALID, *words, field="encoded_images[1]")
    assert stub.Predict(pb.PredictRequest(encoded_images=[bomb(most)]), timeout=30).model


def test_work_that_nobody_waits_for_any_more_is_dropped(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    """As many slow requests as there are turns: each would take seconds, its caller waits for a moment."""
    file = io.BytesIO()
    Image.new("RGBA", (6000, 4000)).save(file, "PNG")
    slow = pb.PredictRequest(encoded_images=[file.getvalue()] * Limits().max_encoded_images)
    calls = [stub.Predict.future(slow, timeout=0.3) for _ in range(2 * serving.UNARY_THREADS)]
    assert {call.code() for call in calls} == {grpc.StatusCode.DEADLINE_EXCEEDED}
    assert stub.Predict(ask(images), timeout=10).model


def test_clients_that_never_send_their_message_keep_nobody_waiting(
    stub: PredictionServiceStub, channel: grpc.Channel, images: NDArray[np.uint8]
) -> None:
    """Headers alone, as from a client on a slow line: more of them than there are turns."""
    done = threading.Event()

    def nothing() -> Iterator[bytes]:
        done.wait(30)
        yield from ()

    raw: Any = channel
    predict = raw.stream_unary("/mnist.v1.PredictionService/Predict")
    calls = [predict.future(nothing()) for _ in range(8 * serving.UNARY_THREADS)]
    try:
        for _ in range(20):
            assert stub.Predict(ask(images), timeout=DEADLINE).model
    finally:
        for call in calls:
            call.cancel()
        done.set()


def test_threads_may_predict_at_once(stub: PredictionServiceStub, images: NDArray[np.uint8]) -> None:
    requests = [ask(images[i : i + 5]) for i in range(20)]
    expected = [stub.Predict(request, timeout=DEADLINE) for request in requests]
    calls = [stub.Predict.future(request, timeout=30) for request in requests * 10]
    for call, answer in zip(calls, expected * 10, strict=True):
        assert_equal(call.result(), answer)


class TestPredictStream:
    def test_answers_carry_the_id_and_a_bad_request_an_error_of_its_own(
        self, stub: PredictionServiceStub, images: NDArray[np.uint8]
    ) -> None:
        requests = [
            pb.PredictStreamRequest(id=7, request=ask(images[:2])),
            pb.PredictStreamRequest(id=2**64 - 1, request=pb.PredictRequest(pixels=b"12", height=3, width=1)),
            pb.PredictStreamRequest(id=8, request=ask(images[:1], model="models/unknown")),
            pb.PredictStreamRequest(),
            pb.PredictStreamRequest(id=9, request=ask(images[2:])),
        ]
        answers = {answer.id: answer for answer in stub.PredictStream(iter(requests), timeout=10)}
        assert answers.keys() == {7, 2**64 - 1, 8, 0, 9}
        assert_equal(answers[7].response, stub.Predict(requests[0].request, timeout=DEADLINE))
        assert_equal(answers[9].response, stub.Predict(requests[4].request, timeout=DEADLINE))
        assert answers[2**64 - 1].error.code == INVALID.value[0]
        assert answers[2**64 - 1].error.message.startswith(
            "pixels: '2 bytes' is not valid: expected a multiple"
        )
        assert answers[8].error.code == grpc.StatusCode.NOT_FOUND.value[0]
        assert answers[0].error.code == INVALID.value[0]

    def test_messages_may_be_written_in_any_way(
        self, stub: PredictionServiceStub, channel: grpc.Channel, images: NDArray[np.uint8]
    ) -> None:
        """The request before the id, in two halves, or none; an id twice; fields that nobody knows."""
        expected = stub.Predict(ask(images[:1]), timeout=DEADLINE)
        whole = pb.PredictStreamRequest(request=ask(images[:1])).SerializeToString()
        sizes = pb.PredictStreamRequest(request=pb.PredictRequest(height=28, width=28)).SerializeToString()
        pixels = pb.PredictStreamRequest(
            request=pb.PredictRequest(pixels=images[:1].tobytes())
        ).SerializeToString()
        one = b"\x08\x01"
        messages = [
            whole + one,
            sizes + one + pixels,
            b"\x08\x05" + one + whole,
            one + whole + b"\xa0\x06\x05",
        ]
        raw: Any = channel
        stream = raw.stream_stream("/mnist.v1.PredictionService/PredictStream")
        answers = [
            pb.PredictStreamResponse.FromString(data) for data in stream(iter([*messages, one]), timeout=10)
        ]
        assert [answer.id for answer in answers] == [1] * 5
        for answer in answers[:-1]:
            assert_equal(answer.response, expected)
        assert answers[-1].error.code == INVALID.value[0]

    def test_answers_come_while_the_stream_is_open(
        self, stub: PredictionServiceStub, images: NDArray[np.uint8]
    ) -> None:
        answered = threading.Event()

        def requests() -> Iterator[pb.PredictStreamRequest]:
            yield pb.PredictStreamRequest(id=1, request=ask(images))
            assert answered.wait(10)
            yield pb.PredictStreamRequest(id=2, request=ask(images))

        stream: Any = stub.PredictStream(requests(), timeout=20)
        assert next(stream).id == 1
        answered.set()
        assert next(stream).id == 2
        assert list(stream) == []

    def test_bytes_that_are_no_message_end_the_stream(
        self, stub: PredictionServiceStub, channel: grpc.Channel, refused: Refused
    ) -> None:
        raw: Any = channel
        stream = raw.stream_stream("/mnist.v1.PredictionService/PredictStream")
        for data, said in ((b"\xff", "PredictStreamRequest"), (b"\x08\x01\x12\x01\xff", "PredictRequest")):
            refused(lambda: list(stream(iter([data]), timeout=10)), INVALID, said, field="request")  # noqa: B023

    def test_without_a_message_it_ends(self, stub: PredictionServiceStub) -> None:
        assert list(stub.PredictStream(iter(()), timeout=10)) == []


def test_pictures_keep_nobody_from_an_answer(
    stub: PredictionServiceStub, images: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many calls decode, and however long that takes, those that bring pixels are answered."""
    decoding, done = threading.Semaphore(0), threading.Event()

    def slow(encoded: bytes) -> Read:
        decoding.release()
        assert done.wait(30)
        return Read(np.zeros((28, 28), np.uint8), border=0.0, prepared=True)

    monkeypatch.setattr("mnist_server.prediction.read", slow)
    picture = pb.PredictRequest(encoded_images=[encode(images[0])])
    calls = [stub.Predict.future(picture, timeout=30) for _ in range(8)]
    try:
        for _ in range(2):
            assert decoding.acquire(timeout=10)
        for _ in range(10):
            assert stub.Predict(ask(images), timeout=DEADLINE).digits
        assert not decoding.acquire(blocking=False)  # two at a time
    finally:
        done.set()
    for call in calls:
        assert call.result().digits


# Every digit on a picture, and how much each looks like one


def sheet(digits: NDArray[np.uint8], *, enlarged: int = 3) -> bytes:
    """A page with these digits in rows of three, dark on light; each on a square of 40 by 40, enlarged."""
    rows = -(-len(digits) // 3)
    page = np.zeros((rows * 40, 120), np.uint8)
    for place, digit in enumerate(digits):
        page[place // 3 * 40 + 6 :, place % 3 * 40 + 6 :][:28, :28] = digit
    return encode(255 - np.kron(page, np.ones((enlarged, enlarged), np.uint8)))


def test_all_digits_of_several_pictures_in_reading_order(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    blank = encode(np.full((200, 300), 240, np.uint8))
    request = pb.PredictRequest(
        encoded_images=[sheet(images[:5]), blank, sheet(images[5:7])], all_digits=True, return_inputs=True
    )
    response = stub.Predict(request, timeout=DEADLINE)
    assert list(response.pictures) == [0] * 5 + [2] * 2
    boxes = np.array([response.box_tops, response.box_lefts, response.box_heights, response.box_widths]).T
    for place, image, box in zip([*range(5), 0, 1], images[:7], boxes.tolist(), strict=True):
        top, left, height, width = box
        inked = 3 * (np.ptp(np.flatnonzero((image > 100).any(axis=1))) + 1)
        assert 0.75 * inked <= height <= inked + 9
        assert place // 3 * 120 <= top < top + height <= (place // 3 + 1) * 120
        assert place % 3 * 120 <= left < left + width <= (place % 3 + 1) * 120
    seen = np.frombuffer(response.inputs, np.uint8).reshape(7, 28, 28)
    assert np.abs(seen.astype(int) - images[:7]).mean() < 20
    shuffled = [sheet(images[5:7]), sheet(images[:5])]
    again = stub.Predict(pb.PredictRequest(encoded_images=shuffled, all_digits=True), timeout=DEADLINE)
    assert list(again.digits) == [*response.digits[5:], *response.digits[:5]]
    assert len(response.probabilities) == 70


def test_no_digit_on_any_picture(stub: PredictionServiceStub) -> None:
    blank = encode(np.full((200, 300), 240, np.uint8))
    request = pb.PredictRequest(
        encoded_images=[blank, blank], all_digits=True, return_inputs=True, score_digits=True
    )
    response = stub.Predict(request, timeout=DEADLINE)
    assert response.model == "models/mnist/versions/1"
    columns = (response.digits, response.pictures, response.probabilities, response.digit_scores)
    assert [len(column) for column in columns] == [0, 0, 0, 0]


def test_digits_are_scored_when_asked_by_either_way_in(
    stub: PredictionServiceStub, images: NDArray[np.uint8]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    mixed = np.concatenate([images[:10], noise, np.zeros((1, 28, 28), np.uint8)])
    plain = stub.Predict(ask(mixed), timeout=DEADLINE)
    assert not plain.digit_scores
    assert not plain.is_digit
    of_pixels = stub.Predict(ask(mixed, score_digits=True), timeout=DEADLINE)
    assert_equal(of_pixels, plain)  # a digit is named all the same
    of_pictures = stub.Predict(
        pb.PredictRequest(encoded_images=list(map(encode, mixed)), score_digits=True), timeout=DEADLINE
    )
    for answer in (of_pixels, of_pictures):
        assert list(answer.is_digit) == [score >= 0.5 for score in answer.digit_scores]
        assert sum(answer.is_digit[:10]) >= 9
        assert max(answer.digit_scores[10:]) < 0.5
    assert of_pixels.digit_scores[-1] == 0


def test_what_cannot_be_asked_of_pixels(stub: PredictionServiceStub, images: NDArray[np.uint8]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(ask(images, all_digits=True), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "all_digits" in str(caught.value.details())
