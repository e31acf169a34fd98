"""Prediction: images of every kind make requests that the server takes, and answers come in their order."""

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_client import Box, DataError, DataNotFound, InternalError, InvalidInput, Limits, Predictions
from mnist_client.prediction import (
    in_terms_of_images,
    predict_requests,
    to_predictions,
)
from mnist_proto.arrays import pixels_to_array
from mnist_proto.v1 import prediction_pb2 as pb


def marked(*marks: int, height: int = 28, width: int = 28) -> NDArray[np.uint8]:
    """Images whose pixels all have one value, by which they are known again."""
    images = np.empty((len(marks), height, width), dtype=np.uint8)
    images[:] = np.array(marks, dtype=np.uint8)[:, np.newaxis, np.newaxis]
    return images


def picture(mark: int) -> bytes:
    """An encoded image whose last byte is its mark: nobody decodes it here."""
    return b"picture" + bytes([mark])


def answer(request: pb.PredictRequest) -> pb.PredictResponse:
    """What a server would say that takes the mark for the digit."""
    if request.encoded_images:
        assert not request.pixels
        marks = [encoded[-1] for encoded in request.encoded_images]
    else:
        images = pixels_to_array(request.pixels, request.height, request.width)
        marks = images[:, 0, 0].tolist()
        assert (images == images[:, :1, :1]).all()
    response = pb.PredictResponse(model="models/m/versions/1", digits=marks, classes=2)
    response.confidences.extend(mark / 256 for mark in marks)
    for mark in marks:
        response.probabilities.extend([mark / 256, 1 - mark / 256])
    if request.return_inputs:
        response.input_height, response.input_width = 1, 2
        response.inputs = bytes(value for mark in marks for value in (mark, mark))
    return response


def ask(images: Any, limits: Limits, *, return_inputs: bool = False) -> tuple[Predictions, int]:
    """The predictions that come of the answers to all requests, and how many requests there were."""
    answers = [
        (positions, answer(request))
        for positions, request in predict_requests(images, limits, return_inputs=return_inputs)
    ]
    return to_predictions(answers), len(answers)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "digit.png"
    path.write_bytes(picture(7))
    return path


def test_every_kind_of_image_may_be_given(limits: Limits, file: Path) -> None:
    for images, marks in (
        (marked(3)[0], [3]),
        (marked(3, 4, 5), [3, 4, 5]),
        (marked(3, 4).reshape(2, 784), [3, 4]),
        (picture(9), [9]),
        (file, [7]),
        (str(file), [7]),
        ([marked(3)[0], marked(4, 5)], [3, 4, 5]),
        ((picture(1), picture(2)), [1, 2]),
    ):
        predictions, _ = ask(images, limits)
        assert predictions.digits.tolist() == marks
        assert predictions.model == "models/m/versions/1"


def test_mixed_images_are_answered_in_the_order_given(limits: Limits, file: Path) -> None:
    images = [
        picture(1),
        marked(2, 3),
        file,
        marked(8, height=5, width=6),
        picture(9),
        marked(10)[0],
        marked(11, height=5, width=6)[0],
        picture(12),
    ]
    predictions, requests = ask(images, limits, return_inputs=True)
    marks = [1, 2, 3, 7, 8, 9, 10, 11, 12]
    assert predictions.digits.tolist() == marks
    np.testing.assert_array_equal(predictions.confidences, np.array(marks) / 256)
    np.testing.assert_array_equal(predictions.probabilities[:, 0], np.array(marks) / 256)
    assert predictions.probabilities.shape == (9, 2)
    assert predictions.inputs is not None
    assert predictions.inputs[:, 0, 0].tolist() == marks
    assert requests == 1 + 1 + 2  # a request a size, two pictures a request


@pytest.mark.parametrize("most", [1, 7, 100])
def test_many_images_are_cut_to_what_the_server_takes(limits: Limits, most: int) -> None:
    limits = dataclasses.replace(limits, max_images_per_request=most)
    marks = list(range(250))
    predictions, requests = ask([marked(*marks[:90]), *marked(*marks[90:])], limits)
    assert predictions.digits.tolist() == marks
    assert requests == -(-250 // most)


def test_neither_request_nor_answer_is_larger_than_a_message(limits: Limits) -> None:
    limits = dataclasses.replace(limits, max_images_per_request=10_000, max_message_bytes=50_000)
    for size in (1, 28, 200):
        images = marked(*range(200), height=size, width=size)[:, :, :]
        limits = dataclasses.replace(limits, max_image_pixels=size * size)
        for _, request in predict_requests(images, limits, return_inputs=True):
            response = answer(request)
            response.inputs = request.pixels
            response.ClearField("probabilities")
            response.probabilities.extend([0.5] * 10 * len(response.digits))
            assert max(request.ByteSize(), response.ByteSize()) <= 50_000


def test_pictures_are_gathered_by_number_and_size(limits: Limits) -> None:
    limits = dataclasses.replace(limits, max_encoded_images=3, max_message_bytes=10_000)
    small, large = b"s" * 100, b"l" * 4_000
    sizes = [
        [len(encoded) for encoded in request.encoded_images]
        for _, request in predict_requests([small, small, small, small, large, large, large], limits)
    ]
    assert sizes == [[100, 100, 100], [100, 4000], [4000], [4000]]


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_picture_larger_than_a_message_is_refused_here(limits: Limits, tmp_path: Path, kind: str) -> None:
    data = b"x" * limits.max_message_bytes
    path = tmp_path / "large.png"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"^images\[1\]: .* bytes or more is not valid: expected at most"):
        list(predict_requests([picture(1), data if kind == "bytes" else path], limits))


def test_files_are_read_when_their_request_is_made(limits: Limits, tmp_path: Path) -> None:
    requests = predict_requests([picture(1), picture(2), tmp_path / "later.png"], limits)
    assert len(next(requests)[1].encoded_images) == 2
    (tmp_path / "later.png").write_bytes(picture(3))
    assert next(requests)[1].encoded_images[0] == picture(3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((28, 28)), "images: an array of float64 is not valid"),
        ([marked(1), np.zeros(784)], r"images[1]: an array of float64"),
        ([], "images: no image is not valid: expected at least one"),
        (marked(), "images: no image is not valid"),
        (3.5, "images: float is not valid: expected uint8 arrays, paths, bytes or PIL images"),
        (None, "images: NoneType is not valid"),
        ([picture(1), 7], "images[1]: int is not valid"),
        ([[1, 2]], "images[0]: list is not valid"),
        (marked(1, height=101, width=100), "images: 101 x 100 pixels is not valid: expected at most 10000"),
    ],
)
def test_what_is_no_image_is_named(limits: Limits, images: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        list(predict_requests(images, limits))
    assert str(raised.value).startswith(message)


def test_files_that_cannot_be_read_are_data_errors(limits: Limits, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"none\.png: no such file"):
        list(predict_requests(tmp_path / "none.png", limits))
    with pytest.raises(DataError):
        list(predict_requests(tmp_path, limits))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "HSV"])
def test_pil_images_go_out_as_png(limits: Limits, mode: str) -> None:
    original = Image.new("RGB", (12, 9), (250, 3, 3))
    original.paste((2, 2, 240), (0, 0, 5, 4))
    image = original.convert("L").convert("I;16") if mode == "I;16" else original.convert(mode)
    [(_, request)] = predict_requests(image, limits)
    sent = Image.open(io.BytesIO(request.encoded_images[0]))
    assert sent.format == "PNG"
    assert sent.size == image.size
    if mode in ("CMYK", "YCbCr", "HSV"):
        np.testing.assert_array_equal(np.asarray(sent), np.asarray(image.convert("RGB")))
    else:
        np.testing.assert_array_equal(np.asarray(sent), np.asarray(image))


def test_pil_images_keep_the_side_that_is_up(limits: Limits) -> None:
    image = Image.new("L", (12, 9))
    image.getexif()[0x0112] = 6
    [(_, request)] = predict_requests([image], limits)
    assert Image.open(io.BytesIO(request.encoded_images[0])).getexif()[0x0112] == 6


def test_nothing_of_pillow_is_needed_for_arrays() -> None:
    script = (
        "import sys; sys.modules['PIL'] = None\n"
        "import numpy as np\n"
        "from mnist_client.prediction import predict_requests\n"
        "from mnist_client import Limits\n"
        "import dataclasses\n"
        "limits = Limits(**{field.name: 10**6 for field in dataclasses.fields(Limits)})\n"
        "print(len(list(predict_requests([np.zeros((28, 28), np.uint8), b'x'], limits))))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (said.stdout, said.stderr) == ("2\n", "")


def test_complaints_about_pictures_name_the_images_given() -> None:
    error = InvalidInput(
        grpc.StatusCode.INVALID_ARGUMENT,
        "encoded_images[1]: no image; not unencoded_images[1]",
        violations=(("encoded_images[1]", "encoded_images[1]: no image"), ("model", "unknown")),
        server="s",
    )
    renamed = in_terms_of_images(error, np.array([4, 9]))
    assert str(renamed) == "images[9]: no image; not unencoded_images[1]"
    assert renamed.violations == (("images[9]", "images[9]: no image"), ("model", "unknown"))
    assert renamed.server == "s"


@pytest.mark.parametrize(
    "changed",
    [{"digits": [1]}, {"confidences": [0.5]}, {"probabilities": [0.5] * 3}, {"classes": 3}],
)
def test_an_answer_that_does_not_fit_is_the_servers_fault(changed: dict[str, Any]) -> None:
    columns: dict[str, Any] = {
        "digits": [1, 1],
        "confidences": [0.5] * 2,
        "probabilities": [0.5] * 4,
        "classes": 2,
    }
    positions = np.arange(2)
    assert len(to_predictions([(positions, pb.PredictResponse(**columns))])) == 2
    with pytest.raises(InternalError, match="for 2 images"):
        to_predictions([(positions, pb.PredictResponse(**{**columns, **changed}))])


def found(pictures: list[int], digits: list[int]) -> pb.PredictResponse:
    """The answer to pictures on which so many digits were found, each 10 pixels below the last."""
    count = len(digits)
    return pb.PredictResponse(
        model="models/mnist/versions/1",
        digits=digits,
        confidences=[1.0] * count,
        probabilities=[0.1] * 10 * count,
        classes=10,
        pictures=pictures,
        box_tops=range(0, 10 * count, 10),
        box_lefts=[5] * count,
        box_heights=[8] * count,
        box_widths=[6] * count,
        digit_scores=[0.25] * count,
        is_digit=[False] * count,
    )


def test_all_digits_are_put_in_the_order_of_their_pictures() -> None:
    answers = [(np.array([0, 2]), found([0, 1, 1], [7, 1, 2])), (np.array([1]), found([0, 0], [3, 4]))]
    predictions = to_predictions(answers, all_digits=True)
    assert [(one.image, one.digit) for one in predictions] == [(0, 7), (1, 3), (1, 4), (2, 1), (2, 2)]
    assert [one.box and one.box.top for one in predictions] == [0, 0, 10, 10, 20]
    assert predictions[0].box == Box(0, 5, 8, 6)
    assert (predictions[0].score, predictions[0].is_digit) == (0.25, False)


def test_pictures_without_a_digit_have_no_answers() -> None:
    assert len(to_predictions([(np.array([0, 1]), found([], []))], all_digits=True)) == 0


def test_what_is_asked_of_every_image_is_in_every_request(limits: Limits) -> None:
    picture = Image.new("L", (20, 20))
    asked = list(predict_requests([marked(1), picture], limits, score=True, all_digits=True))
    assert [(request.score_digits, request.all_digits) for _, request in asked] == [(True, True)] * 2
    plain = list(predict_requests([marked(1), picture], limits))
    assert not any(request.score_digits or request.all_digits for _, request in plain)
