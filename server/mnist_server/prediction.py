"""Prediction: which digit is this, for one request or a stream of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import grpc
import numpy as np
from numpy.typing import NDArray

from mnist_core import InvalidValue
from mnist_core.pictures import PictureError, to_digit
from mnist_proto.arrays import array_to_pixels, set_packed
from mnist_proto.v1 import prediction_pb2 as pb
from mnist_proto.v1 import prediction_pb2_grpc
from mnist_server.images import read_pixels
from mnist_server.limits import Limits
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import Calls, check_wanted
from mnist_server.status import to_status

DIGIT_SIZE = 28  # what to_digit makes
# Images that one product answers: what lies between its steps fits into memory, however wide the layers.
_CHUNK = 1024

# A context in which slow work is done.
Aside = Callable[[], AbstractContextManager[object]]


class PredictionServicer(prediction_pb2_grpc.PredictionServiceServicer):
    """Answers `mnist.v1.PredictionService`."""

    def __init__(self, registry: ModelRegistry, limits: Limits, calls: Calls) -> None:
        self._registry = registry
        self._limits = limits
        self._calls = calls

    def Predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        """Names every image of one request."""
        return self._predict(request, context, self._calls.aside)

    def PredictStream(
        self, request_iterator: Iterator[pb.PredictStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.PredictStreamResponse]:
        """Names the images of many requests; a bad one gets an error of its own."""
        for message in request_iterator:
            try:
                response = self._predict(message.request, context, lambda: self._calls.slow)
                yield pb.PredictStreamResponse(id=message.id, response=response)
            except grpc.RpcError:
                raise
            except Exception as error:
                status = to_status(error)
                failure = pb.PredictionError(code=status.code, message=status.message)
                yield pb.PredictStreamResponse(id=message.id, error=failure)

    def _predict(
        self, request: pb.PredictRequest, context: grpc.ServicerContext, aside: Aside
    ) -> pb.PredictResponse:
        model = self._registry.load(request.model, field="model")
        images = self._images(request, model, context, aside)
        probabilities = np.empty((len(images), model.classes), dtype=np.float32)
        for start in range(0, len(images), _CHUNK):
            check_wanted(context)
            part = slice(start, start + _CHUNK)
            probabilities[part] = model.network.predict(images[part])
        digits = probabilities.argmax(axis=1)
        response = pb.PredictResponse(model=model.name, digits=digits.tolist(), classes=model.classes)
        set_packed(response, "confidences", probabilities[np.arange(len(digits)), digits])
        set_packed(response, "probabilities", probabilities)
        if request.return_inputs:
            response.inputs = array_to_pixels(images)
            response.input_height, response.input_width = images.shape[1:]
        return response

    def _images(
        self, request: pb.PredictRequest, model: Model, context: grpc.ServicerContext, aside: Aside
    ) -> NDArray[np.uint8]:
        if request.encoded_images:
            if request.pixels:
                raise InvalidValue("pixels", f"{len(request.pixels)} bytes", "none beside encoded_images")
            with aside():
                images = self._decode(request, context)
        else:
            images = read_pixels(request.pixels, request.height, request.width, self._limits)
            if len(images) > self._limits.max_images_per_request:
                raise InvalidValue(
                    "pixels", f"{len(images)} images", f"at most {self._limits.max_images_per_request}"
                )
        height, width = images.shape[1:]
        if (height, width) != (model.height, model.width):
            raise InvalidValue(
                "encoded_images" if request.encoded_images else "height",
                f"{height} x {width}",
                f"images of {model.height} x {model.width} pixels, the inputs of {model.name}",
            )
        return images

    def _decode(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> NDArray[np.uint8]:
        count = len(request.encoded_images)
        if count > self._limits.max_encoded_images:
            raise InvalidValue(
                "encoded_images", f"{count} pictures", f"at most {self._limits.max_encoded_images}"
            )
        digits = np.empty((count, DIGIT_SIZE, DIGIT_SIZE), dtype=np.uint8)
        for index, encoded in enumerate(request.encoded_images):
            check_wanted(context)  # a large picture may take half a second
            try:
                digits[index] = to_digit(encoded)
            except PictureError as error:
                raise InvalidValue(f"encoded_images[{index}]", error.found, error.expected) from None
        return digits
