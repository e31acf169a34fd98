"""Prediction: which digit is this, for one request, for many at once, or for a stream of them."""

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from time import perf_counter_ns
from typing import NamedTuple

import grpc
import numpy as np
from numpy.typing import NDArray

from mnist_core import InvalidValue
from mnist_core.digit_score import IS_DIGIT, digit_scores
from mnist_core.pictures import DigitInPicture, PictureError, Read, mean_of_views, read, read_all, views
from mnist_proto.arrays import array_to_pixels, field_head, pixels_to_array, varint
from mnist_proto.v1 import prediction_pb2 as pb
from mnist_server.errors import InvalidRequest
from mnist_server.grouping import ALONE, forward, in_groups, joined
from mnist_server.images import read_pixels
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics
from mnist_server.recurring import Content, Recurring, parted, varint_at
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import Calls, Later, attempt, check_wanted, parser
from mnist_server.status import to_status

PREDICT = "/mnist.v1.PredictionService/Predict"
PREDICT_STREAM = "/mnist.v1.PredictionService/PredictStream"
DIGIT_SIZE = 28  # what pictures are made into

# A context in which slow work is done.
Aside = Callable[[], AbstractContextManager[object]]

_METHODS = pb.DESCRIPTOR.services_by_name["PredictionService"].methods_by_name
_PIXELS = pb.PredictRequest.PIXELS_FIELD_NUMBER
_FIELDS = pb.PredictResponse.DESCRIPTOR.fields_by_name
_ID = varint(pb.PredictStreamResponse.ID_FIELD_NUMBER << 3)
_REQUEST = pb.PredictStreamRequest.REQUEST_FIELD_NUMBER
_ID_KEY, _REQUEST_KEY = pb.PredictStreamRequest.ID_FIELD_NUMBER << 3, _REQUEST << 3 | 2
_RESPONSE = pb.PredictStreamResponse.RESPONSE_FIELD_NUMBER


class _Asked(NamedTuple):
    """What a request says, but for its pixels."""

    model: str
    height: int
    width: int
    pictures: int
    aside: bool  # it asks for what takes longer than a forward pass
    return_inputs: bool
    pixels: bytes = b""  # of a message that has them never, or twice

    @classmethod
    def of(cls, request: pb.PredictRequest) -> "_Asked":
        aside = request.score_digits or request.all_digits
        pictures = len(request.encoded_images)
        return cls(
            request.model,
            request.height,
            request.width,
            pictures,
            aside,
            request.return_inputs,
            request.pixels,
        )


# One of the requests that a forward pass answers: its model, images and pixels, and whether to return these.
# A plain tuple takes a tenth of a named one's time to make.
_Item = tuple[Model, int, Content, bool]


class _Images(NamedTuple):
    """What a request asks about."""

    pixels: NDArray[np.uint8]  # (B, H, W)
    scores: list[float] | None = None  # of those that were found on pictures
    prepared: NDArray[np.bool_] | None = None  # which pictures were not in MNIST's form, (B,)
    found: list[tuple[int, DigitInPicture]] | None = None  # each with its picture's place, of all_digits


class Prediction:
    """Answers `mnist.v1.PredictionService`."""

    def __init__(
        self, registry: ModelRegistry, limits: Limits, calls: Calls, metrics: Metrics, patience: float
    ) -> None:
        """patience: multiply-adds of one request that those which are ready with it wait for."""
        self._patience = patience
        self._registry = registry
        self._limits = limits
        self._calls = calls
        self._metrics = metrics
        self._parse = parser(_METHODS["Predict"])
        self._parse_on_stream = parser(_METHODS["PredictStream"])
        self._recurring = Recurring(_PIXELS, lambda data: _Asked.of(self._parse(data)))

    def predict(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        """Answers many Predict requests at once, those of one model with one forward pass: rpc.HotMethod.

        Pictures, requests of many images or for scores, and those for a model that is not in memory are left
        for Later.
        """
        return in_groups(requests, self._sort, self._answer_group)

    def answer(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """Answers one Predict request, however long it takes: rpc.HotUnary.slow."""
        return self._answer(data, context, self._calls.aside)

    def predict_stream(self, messages: Sequence[bytes]) -> list[bytes | Exception]:
        """Answers many messages of PredictStream at once, of whatever streams: rpc.HotStream.answer."""
        opened = [self._open(data) for data in messages]
        found = iter(self.predict([request for _, request in opened if isinstance(request, bytes)]))
        return [
            _on_stream(number, next(found) if isinstance(request, bytes) else request)
            for number, request in opened
        ]

    def answer_on_stream(self, data: bytes, context: grpc.ServicerContext) -> bytes | Exception:
        """Answers one message of PredictStream, however long it takes: rpc.HotStream.slow."""
        number, request = self._open(data)
        if isinstance(request, InvalidRequest):
            return request
        return _on_stream(number, attempt(lambda: self._answer(request, context, lambda: self._calls.slow)))

    def _open(self, data: bytes) -> tuple[int, bytes | InvalidRequest]:
        """Returns the id and the request in a message of PredictStream, or what is wrong with it."""
        number, place = 0, 0
        try:  # as clients write it: the id, and the request to the end; parsing takes three times as long
            if data[0] == _ID_KEY:
                number, place = varint_at(data, 1)
            size, start = varint_at(data, place + 1)
            if data[place] == _REQUEST_KEY and start + size == len(data) and number < 2**64:
                return number, data[start:]
        except IndexError:
            pass
        rest, request = parted(data, _REQUEST)
        try:
            message = self._parse_on_stream(rest)
        except InvalidRequest as error:
            return 0, error
        return message.id, message.request.SerializeToString() if request is None else bytes(request)

    def _sort(self, data: bytes) -> tuple[Hashable, _Item] | None:
        """Returns the group of requests that one forward pass answers, and this one as one of them: see
        in_groups. Raises InvalidRequest or InvalidValue."""
        asked, pixels = self._recurring.read(data)
        model = self._registry.held(asked.model)
        if model is None or asked.pictures or asked.aside:
            return None
        if pixels is None:
            pixels = asked.pixels
        height, width = model.height, model.width
        images, rest = divmod(len(pixels), height * width)
        if rest or not images or asked.height != height or asked.width != width:
            self._pixels(pixels, asked.height, asked.width, model)  # says what is wrong
        if images * model.work > self._patience:
            return None
        return model.name if images < ALONE else object(), (model, images, pixels, asked.return_inputs)

    def _answer_group(self, items: list[_Item]) -> list[bytes]:
        model = items[0][0]
        began = perf_counter_ns()
        images = pixels_to_array(joined([pixels for _, _, pixels, _ in items]), model.height, model.width)
        probabilities = forward(model, images)
        self._metrics.forward(model.name, len(items), len(images), perf_counter_ns() - began)
        answers = _encode(model, probabilities, [count for _, count, _, _ in items])
        for place, (_, _, pixels, return_inputs) in enumerate(items):
            if return_inputs:
                answers[place] += _inputs(pixels, model)
        return answers

    def _answer(self, data: bytes, context: grpc.ServicerContext, aside: Aside) -> bytes:
        rest, pixels = parted(data, _PIXELS)
        request = self._parse(rest)
        model = self._registry.load(request.model, field="model")
        if pixels is None:
            pixels = request.pixels
        if request.encoded_images:
            if pixels:
                raise InvalidValue("pixels", f"{len(pixels)} bytes", "none beside encoded_images")
            with aside():
                asked = self._decode(request, context)
            images = asked.pixels
            _check_size(images, model, "encoded_images")
        else:
            if request.all_digits:
                raise InvalidValue("all_digits", "true", "false where there are no encoded_images")
            images = self._pixels(pixels, request.height, request.width, model)
            asked = _Images(images)
        if request.score_digits and images.shape[1:] != (DIGIT_SIZE, DIGIT_SIZE):
            expected = f"false for images that are not {DIGIT_SIZE} x {DIGIT_SIZE}"
            raise InvalidValue("score_digits", "true", expected)
        began = perf_counter_ns()
        probabilities = _of_views(model, asked, lambda: check_wanted(context))
        self._metrics.forward(model.name, 1, len(images), perf_counter_ns() - began)
        [answer] = _encode(model, probabilities, [len(images)])
        if request.return_inputs:
            answer += _inputs(array_to_pixels(images), model)
        if request.score_digits:
            scores = asked.scores if asked.scores is not None else digit_scores(images).tolist()
            scored = pb.PredictResponse(digit_scores=scores, is_digit=[score >= IS_DIGIT for score in scores])
            answer += scored.SerializeToString()
        return answer + _boxes(asked.found) if asked.found else answer

    def _pixels(self, pixels: Content, height: int, width: int, model: Model) -> NDArray[np.uint8]:
        images = read_pixels(pixels, height, width, self._limits)
        most = self._limits.max_images_per_request
        if len(images) > most:
            raise InvalidValue("pixels", f"{len(images)} images", f"at most {most}")
        _check_size(images, model, "height")
        return images

    def _decode(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> _Images:
        count = len(request.encoded_images)
        if count > self._limits.max_encoded_images:
            raise InvalidValue(
                "encoded_images", f"{count} pictures", f"at most {self._limits.max_encoded_images}"
            )
        read_ones: list[Read | DigitInPicture] = []
        found: list[tuple[int, DigitInPicture]] = []
        for index, encoded in enumerate(request.encoded_images):
            check_wanted(context)  # a large picture may take half a second
            try:
                if request.all_digits:
                    found += [(index, digit) for digit in read_all(encoded)]
                else:
                    read_ones.append(read(encoded))
            except PictureError as error:
                raise InvalidValue(f"encoded_images[{index}]", error.found, error.expected) from None
        if request.all_digits:
            read_ones = [digit for _, digit in found]
        digits = np.empty((len(read_ones), DIGIT_SIZE, DIGIT_SIZE), dtype=np.uint8)
        for place, one in enumerate(read_ones):
            digits[place] = one.digit
        prepared = np.array([one.prepared for one in read_ones], dtype=np.bool_)
        scores = [one.score for one in read_ones] if request.score_digits else None
        return _Images(digits, scores, prepared, found)


def _check_size(images: NDArray[np.uint8], model: Model, field: str) -> None:
    height, width = images.shape[1:]
    if (height, width) != (model.height, model.width):
        expected = f"images of {model.height} x {model.width} pixels, the inputs of {model.name}"
        raise InvalidValue(field, f"{height} x {width}", expected)


def _of_views(model: Model, asked: _Images, before_each: Callable[[], None]) -> NDArray[np.float32]:
    """Returns the probabilities (B, C): of what was prepared, the means over several views."""
    if asked.prepared is None or not asked.prepared.any():
        return forward(model, asked.pixels, before_each)
    as_they_are = asked.pixels[~asked.prepared]
    together = np.concatenate([as_they_are, views(asked.pixels[asked.prepared])])
    said = forward(model, together, before_each)
    probabilities = np.empty((len(asked.pixels), model.classes), dtype=np.float32)
    probabilities[~asked.prepared] = said[: len(as_they_are)]
    probabilities[asked.prepared] = mean_of_views(said[len(as_they_are) :])
    return probabilities


def _encode(model: Model, probabilities: NDArray[np.float32], counts: list[int]) -> list[bytes]:
    """Returns the PredictResponses of requests of so many images each, on the wire.

    A serialized message is its fields one after the other, in any order, and a packed field is its head and
    the array's own bytes: https://protobuf.dev/programming-guides/encoding/. Slices of three byte strings
    cost a tenth of what filling messages does.
    """
    classes = model.classes
    own = pb.PredictResponse(
        model=model.name, classes=classes, class_names=model.class_names
    ).SerializeToString()
    digits = probabilities.argmax(axis=1)
    # A number below 128 is a byte of its own.
    narrow = digits.astype(np.uint8).tobytes() if classes <= 128 else None
    confidences = probabilities.max(axis=1).astype("<f4", copy=False).tobytes()
    rows = probabilities.astype("<f4", copy=False).tobytes()
    answers = []
    start, known = 0, -1
    for count in counts:
        stop = start + count
        if count != known:  # most have as many images as the one before
            known = count
            of_confidences = _head("confidences", 4 * count)
            of_probabilities = _head("probabilities", 4 * count * classes)
        if narrow is not None:
            named = narrow[start:stop]
        else:
            named = b"".join(map(varint, digits[start:stop].tolist()))
        answers.append(
            b"".join(
                (
                    own,
                    _head("digits", len(named)),
                    named,
                    of_confidences,
                    confidences[4 * start : 4 * stop],
                    of_probabilities,
                    rows[4 * start * classes : 4 * stop * classes],
                )
            )
        )
        start = stop
    return answers


def _on_stream(number: int, answer: bytes | Exception) -> bytes | Exception:
    """Returns the PredictStreamResponse to a message with this id, on the wire; Later, and the error of what
    is no message, which ends the stream, as they are."""
    if isinstance(answer, bytes):
        own = _ID + varint(number) if number else b""
        return b"".join((own, _response_head(len(answer)), answer))
    if isinstance(answer, (Later, InvalidRequest)):
        return answer
    status = to_status(answer)
    failure = pb.PredictionError(code=status.code, message=status.message)
    return pb.PredictStreamResponse(id=number, error=failure).SerializeToString()


@lru_cache(1024)
def _head(field: str, size: int) -> bytes:
    return field_head(_FIELDS[field].number, size)


@lru_cache(1024)
def _response_head(size: int) -> bytes:
    return field_head(_RESPONSE, size)


def _inputs(pixels: Content, model: Model) -> bytes:
    """Returns the fields of a PredictResponse that say what the network saw, on the wire."""
    seen = pb.PredictResponse(inputs=bytes(pixels), input_height=model.height, input_width=model.width)
    return seen.SerializeToString()


def _boxes(found: list[tuple[int, DigitInPicture]]) -> bytes:
    """Returns the fields of a PredictResponse that say where each digit was found, on the wire."""
    boxes = pb.PredictResponse(
        pictures=[picture for picture, _ in found],
        box_tops=[digit.top for _, digit in found],
        box_lefts=[digit.left for _, digit in found],
        box_heights=[digit.height for _, digit in found],
        box_widths=[digit.width for _, digit in found],
    )
    return boxes.SerializeToString()
