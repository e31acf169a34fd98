"""A prediction stream: which requests are on their way, and what each one's answer says."""

from collections.abc import Iterator

import grpc
import numpy as np

from mnist_client.errors import InternalError, InvalidInput, MnistError, from_code
from mnist_client.prediction import Images, Positions, in_terms_of_images, predict_requests, to_predictions
from mnist_client.resources import Limits
from mnist_client.results import Predictions
from mnist_proto.v1 import prediction_pb2 as pb


class PredictionStream:
    """What a stream of requests still owes: it numbers requests, and knows the answers by their numbers."""

    def __init__(self, model: str, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._owed: dict[int, Positions] = {}
        self._refused: dict[int, MnistError] = {}

    @property
    def owes(self) -> int:
        """Requests that have no answer yet."""
        return len(self._owed)

    def request(self, index: int, images: Images) -> pb.PredictStreamRequest:
        """Returns the request for one batch.

        A batch that makes none goes out as an empty one: the server's complaint about that comes when its
        answer is due, and is replaced by ours.
        """
        positions: Positions = np.empty(0, dtype=np.intp)
        request = pb.PredictRequest()
        try:
            whole = self._limits.max_message_bytes
            positions, request = self._only(predict_requests(images, self._limits, chunk_bytes=whole))
        except MnistError as error:
            self._refused[index] = error
        self._owed[index] = positions
        request.model = self._model
        return pb.PredictStreamRequest(id=index, request=request)

    def answer(self, response: pb.PredictStreamResponse, server: str) -> tuple[int, Predictions | MnistError]:
        """Returns a batch's index and what became of it. Raises InternalError for what was never asked."""
        positions = self._owed.pop(response.id, None)
        if positions is None:
            message = f"an answer to request {response.id}, which is not waiting for one"
            raise InternalError(grpc.StatusCode.INTERNAL, message, server=server)
        if refused := self._refused.pop(response.id, None):
            return response.id, refused
        if response.WhichOneof("result") == "error":
            error = from_code(response.error.code, response.error.message, server)
            if isinstance(error, InvalidInput):
                error = in_terms_of_images(error, positions)
            return response.id, error
        return response.id, to_predictions([(positions, response.response)])

    def close(self, server: str) -> None:
        """The stream has ended. Raises InternalError if it still owes an answer."""
        if self._owed:
            message = f"the stream ended without an answer to {len(self._owed)} requests"
            raise InternalError(grpc.StatusCode.INTERNAL, message, server=server)

    def _only(
        self, requests: Iterator[tuple[Positions, pb.PredictRequest]]
    ) -> tuple[Positions, pb.PredictRequest]:
        first = next(requests)
        if next(requests, None) is not None:
            limits = self._limits
            raise InvalidInput.of(
                "images",
                "a batch that makes more than one request",
                f"at most {limits.max_images_per_request} images of one size, or {limits.max_encoded_images} "
                f"pictures, and less than {limits.max_message_bytes} bytes",
            )
        return first
