"""A contender is a running server, on its core, that has answered rightly before anything is timed."""

import http.client
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from benchmarks.serving.process import Process
from benchmarks.serving.protocol import (
    STREAM_PATH,
    Images,
    Probabilities,
    Protocol,
    frame,
    stream_request,
)
from benchmarks.serving.recipes import Recipe, environment, free_port

from mnist_proto.v1 import prediction_pb2

START_SECONDS, ANSWER_SECONDS = 60, 10
# Float32 in another order of additions.
TOLERANCE = 1e-4
_POLL_SECONDS = 0.005
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
_OPTIONS += [("grpc.use_local_subchannel_pool", 1)]


class Unfit(RuntimeError):
    """A contender did not start, or does not answer, or answers wrongly."""


@dataclass(frozen=True)
class Questions:
    """Payloads by the number of images in one, and what is right for them."""

    images: Images
    right: Probabilities

    def payload(self, protocol: Protocol, images: int) -> bytes:
        """Returns a request of the first images."""
        return protocol.encode(self.images[:images])


class Contender:
    """A recipe's server. A context, which ends it."""

    def __init__(
        self, recipe: Recipe, questions: Questions, shared: Path, folder: Path, cores: Sequence[int]
    ):
        """Raises Missing if it cannot be run here."""
        self.recipe = recipe
        self.name = recipe.name
        self.address = f"127.0.0.1:{free_port()}"
        self.restarts = 0
        self._questions = questions
        folder.mkdir()
        launch = recipe.prepare(shared, folder, int(self.address.rsplit(":", 1)[1]))
        self.versions = launch.versions
        self._begin = partial(Process, launch.command, environment(shared, launch.environment), cores, folder)
        self.process = self._begin()

    def restart(self) -> None:
        """Starts it again, since it has ended by itself. Raises Unfit."""
        self.process.stop()
        self.restarts += 1
        self.process = self._begin()
        self.first_answer()
        self.process.settle()

    def first_answer(self) -> float:
        """Returns the seconds from its start to its first answer, in the first of its protocols.

        Raises Unfit.
        """
        protocol = self.recipe.protocols[0]
        payload = self._questions.payload(protocol, 1)
        trouble: Exception | None = None
        while time.perf_counter() - self.process.started < START_SECONDS:
            if not self.process.running():
                raise Unfit(f"{self.name}: has ended: {self._last_words()}")
            try:
                answer = self.ask(protocol, payload)
            except (grpc.RpcError, OSError, http.client.HTTPException) as error:
                trouble = error
                time.sleep(_POLL_SECONDS)
                continue
            seconds = time.perf_counter() - self.process.started
            self._judge(protocol, answer, 1)
            return seconds
        raise Unfit(f"{self.name}: no answer in {START_SECONDS} s: {_words(trouble)} {self._last_words()}")

    def validate(self, protocol: Protocol, images: int) -> int:
        """Asks once and compares with the forward pass; returns the bytes of the answer, gRPC's 5 included.

        Raises Unfit.
        """
        try:
            answer = self.ask(protocol, self._questions.payload(protocol, images))
        except (grpc.RpcError, OSError, http.client.HTTPException) as error:
            raise Unfit(f"{self.name}, {protocol.name}, {images} images: {_words(error)}") from None
        self._judge(protocol, answer, images)
        return len(answer) + 5

    def validate_stream(self, messages: int) -> int:
        """Sends a stream of images, one a message, and compares; returns the bytes of all answers.

        Raises Unfit.
        """
        images, right = self._questions.images[:messages], self._questions.right[:messages]
        digits = np.full(messages, -1)
        size = 0
        requests = (stream_request(number, image) for number, image in enumerate(images))
        try:
            with grpc.insecure_channel(self.address, _OPTIONS) as channel:
                call: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_PATH)
                for answer in call(requests, timeout=ANSWER_SECONDS):
                    size += len(frame(answer))
                    response = prediction_pb2.PredictStreamResponse.FromString(answer)
                    [digits[response.id]] = response.response.digits
        except (grpc.RpcError, ValueError, IndexError) as error:
            raise Unfit(f"{self.name}, PredictStream: {_words(error)}") from None
        if not np.array_equal(digits, right.argmax(axis=1)):
            raise Unfit(f"{self.name}, PredictStream: answers wrongly")
        return size

    def ask(self, protocol: Protocol, payload: bytes) -> bytes:
        """Returns the answer to one request, on a connection of its own."""
        if protocol.grpc:
            with grpc.insecure_channel(self.address, _OPTIONS) as channel:
                call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(protocol.path)
                return call(payload, timeout=ANSWER_SECONDS)
        host, port = self.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", protocol.path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise http.client.HTTPException(f"status {response.status}")
        return body

    def _judge(self, protocol: Protocol, answer: bytes, images: int) -> None:
        if self.recipe.computes is False:
            images = 1  # it answers the first question, whatever it is asked
        right = self._questions.right[:images]
        try:
            found = protocol.decode(answer)
        except Exception as error:
            raise Unfit(f"{self.name}, {protocol.name}: answers {answer[:80]!r}: {error!r}") from None
        same = found.shape == right.shape and np.array_equal(found.argmax(axis=1), right.argmax(axis=1))
        if not same or not np.allclose(found, right, atol=TOLERANCE):
            raise Unfit(f"{self.name}, {protocol.name}: answers wrongly: {found[:1]}, expected {right[:1]}")

    def _last_words(self) -> str:
        return " ".join(self.process.log.read_text(errors="replace").split())[-400:]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()


def _words(error: Any) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return repr(error)
