"""A watch: one job's history as it is received, over as many streams as that takes."""

import random
import time
from collections.abc import Callable
from typing import TypeAlias

import grpc

from mnist_client.errors import (
    DataLoss,
    DeadlineExceeded,
    InternalError,
    InvalidInput,
    JobCancelled,
    JobFailed,
    ServerError,
    Unavailable,
)
from mnist_client.history import Cancelled, Event, Failed, Notice, Succeeded
from mnist_client.wire import to_message
from mnist_proto.v1 import training_pb2 as pb

End: TypeAlias = Succeeded | Failed | Cancelled
"""What a job's history ends with."""

# Three heartbeats missed: the server sends one where it had nothing else to say for 15 s.
SILENCE_SECONDS = 45.0
RECONNECT_SECONDS = 60.0
_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
_UPLOADS = 4

# What gRPC itself says of a stream that broke. The server's own errors of these codes have an ErrorInfo.
_BROKEN = frozenset({grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})


class Backoff:
    """How long to wait before each next attempt: twice as long every time, with jitter, up to a longest."""

    def __init__(self) -> None:
        self._delay = _FIRST_DELAY

    def next(self) -> float:
        """Returns how long to wait now, in seconds."""
        delay = self._delay * random.uniform(0.5, 1.0)
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        return delay


class Uploading:
    """How often an upload that may be done twice is done again."""

    def __init__(self) -> None:
        self._left = _UPLOADS - 1
        self._backoff = Backoff()

    def failed(self, error: ServerError) -> float:
        """Returns how long to wait before trying again, in seconds. Raises `error` if that would not help."""
        if not self._left or not isinstance(error, Unavailable):
            raise error
        self._left -= 1
        return self._backoff.next()


class Watch:
    """Where a watch stands: what to ask for next, what has come, and when to give up. It does no I/O.

    A caller opens a stream with `request()`, hands every message to `take()` and every end of a stream to
    `ended()` or `lost()`, which say how long to wait before the next.
    """

    def __init__(
        self,
        job: str,
        after_sequence: int,
        *,
        server: str,
        reconnect_timeout: float,
        contact: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`contact` says that the server was just spoken with, so that being unable to reach it now is an
        interruption, not a mistake in its address."""
        if after_sequence < 0:
            raise InvalidInput.of("after_sequence", after_sequence, "at least 0")
        self._job = job
        self._sequence = after_sequence
        self._server = server
        self._timeout = reconnect_timeout
        self._clock = clock
        self._contact = clock() if contact else None
        self._backoff = Backoff()
        self._messages = 0
        self._draining = False

    def request(self) -> pb.WatchTrainingRequest:
        """Returns what to open the next stream with."""
        self._messages = 0
        self._draining = False
        return pb.WatchTrainingRequest(job=self._job, after_sequence=self._sequence)

    def take(self, response: pb.WatchTrainingResponse) -> Event | Notice | None:
        """Returns what a message says, None for what this SDK does not know.

        Raises DataLoss for an event that is not the next.
        """
        self._contact = self._clock()
        self._messages += 1
        if response.WhichOneof("message") == "event":
            sequence = response.event.sequence
            if sequence != self._sequence + 1:
                gap = f"{self._job}: event {sequence} came after event {self._sequence}"
                raise DataLoss(grpc.StatusCode.DATA_LOSS, gap, server=self._server)
            self._sequence = sequence
        if response.notice.HasField("draining"):
            self._draining = True
        else:
            self._backoff = Backoff()
        return to_message(response)

    def ended(self) -> float | None:
        """The stream ended in good order. Returns how long to wait before the next, in seconds.

        None means that nothing more is to come: a job that has ended says nothing after its last event.
        """
        if not self._messages:
            return None
        why = "it is stopping" if self._draining else "the stream ended before the job"
        return self.lost(Unavailable(grpc.StatusCode.UNAVAILABLE, why, server=self._server))

    def lost(self, error: ServerError) -> float:
        """The stream broke, or could not be opened. Returns how long to wait before the next, in seconds.

        Raises `error` if trying again would not help, or has not helped for so long.
        """
        interrupted = (
            isinstance(error, Unavailable | DeadlineExceeded)
            or error.retry_after is not None
            or (error.details is None and error.code in _BROKEN)
        )
        if not interrupted or self._contact is None:
            raise error
        left = self._contact + self._timeout - self._clock()
        if left <= 0:
            raise error
        return min(max(self._backoff.next(), error.retry_after or 0.0), left)


def outcome(message: Event | Notice) -> Succeeded | None:
    """Returns a job's success; None while it goes on. Raises JobFailed or JobCancelled."""
    match message:
        case Succeeded():
            return message
        case Failed():
            raise JobFailed(message.job, message.reason)
        case Cancelled():
            raise JobCancelled(message.job)
    return None


def accepted_job(response: pb.TrainResponse, server: str) -> str:
    """Returns the job of the first message of Train. Raises InternalError if that is not its acceptance."""
    if response.event.WhichOneof("event") != "accepted":
        message = "the first message of Train is not the job's acceptance"
        raise InternalError(grpc.StatusCode.INTERNAL, message, server=server)
    return response.event.job


def silent(seconds: float, server: str) -> DeadlineExceeded:
    """Returns the error for a stream on which nothing has come for so long."""
    message = f"nothing was heard for {seconds:g} s"
    return DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, message, server=server)
