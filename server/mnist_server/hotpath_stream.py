"""A stream call is one of the fast path's with many messages, each of which is answered by one.

All its tags are called in the serving thread, so it needs no lock.
"""

import logging
import time
from collections import deque
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import grpc

from mnist_server.refusal import Refusal, refusal
from mnist_server.rpc import HotStream, Later

if TYPE_CHECKING:
    from mnist_server.hotpath import HotPath, Method

log = logging.getLogger(__name__)

# Bytes of messages and answers of one stream, after which no more are asked for until some are sent.
_HELD = 2**19
_OK = 0
_NOTHING: tuple[None, tuple[()]] = (None, ())  # what a tag returns that ends no call


class _Slow:
    """Holds the place of an answer, among those to be sent, that the pool is still at work on."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: bytes | Refusal | None = None


class StreamCall:
    """One stream, from its headers to its end. To the slow method it is the context."""

    def __init__(
        self, paths: "HotPath", method: "Method", stream: HotStream, core: Any, deadline: float
    ) -> None:
        self._paths, self._method, self._stream = paths, method, stream
        self._core, self._deadline = core, deadline
        self._began = perf_counter_ns()
        self._pending = 0  # batches of operations
        self._asked = self._sending = False  # for a message; a message
        self._open = True  # for more messages of the client
        self._unanswered = 0  # messages
        self._later = 0  # of which so many are in the pool
        self._outbox: deque[bytes | Refusal | _Slow] = deque()  # in the order of the messages
        self._held = 0  # bytes of messages and answers
        self._final: Refusal | None = None  # the status, if it is not OK
        self._cancelled = False
        self._over = False  # the status was sent, or nobody is there to get it
        self._forgotten = False
        self._room: AbstractContextManager[None] | None = None

    def begin(self) -> None:
        """Takes its room among the streams, and asks for its first message."""
        paths = self._paths
        paths.metrics.started(self._method.path)
        self._start(self._closed, paths.receive_close(0))
        self._start(self._back, paths.no_metadata)
        try:
            room = self._stream.room()
            room.__enter__()
            self._room = room
        except Exception as error:
            self._outbox.append(self._end_with(error))
        self.settle()

    def is_active(self) -> bool:
        """Whether somebody waits for the answers."""
        return not self._cancelled and time.time() < self._deadline

    def answer(self, data: bytes, answer: bytes | Exception) -> None:
        """Has the answer to one of its messages sent, after those to the ones before, once it is settled."""
        if isinstance(answer, Later) and not self._over:
            self._leave(data)
            return
        self._unanswered -= 1
        self._held -= len(data)
        if isinstance(answer, bytes):
            self._held += len(answer)
            self._outbox.append(answer)
        elif not self._over:
            self._outbox.append(self._end_with(answer))
        self._paths.unsettled.add(self)

    def settle(self) -> None:
        """Does what can be done now: asks for a message, sends one, or ends."""
        if self._over:
            if not self._pending and not self._forgotten:  # the end is noticed in a tag
                self._start(self._back)
            return
        if not self._asked:
            self._ask()
        if self._sending:
            return
        ready = self._outbox[0] if self._outbox else None
        if isinstance(ready, _Slow):
            ready = ready.answer
        if isinstance(ready, bytes):
            self._send(ready)
        elif ready is not None or not (self._open or self._asked or self._unanswered):
            self._over, self._final = True, ready
            self._outbox.clear()  # as if what came after an error had not been read
            about = (ready.trailing, ready.number, ready.details.encode()) if ready else ((), _OK, b"")
            self._start(self._back, self._paths.status(*about, 0))

    def _ask(self) -> None:
        if self._open and not self._later and self._held < _HELD:
            self._asked = True
            self._start(self._got, self._paths.receive(0))

    def _send(self, answer: bytes) -> None:
        paths, outbox = self._paths, self._outbox
        outbox.popleft()
        self._held -= len(answer)
        self._sending = True
        hint = paths.more_follows if outbox and isinstance(outbox[0], bytes) else 0
        self._start(self._sent, paths.message(answer, hint))

    def _start(self, tag: Any, *operations: Any) -> None:
        if self._core.start_server_batch(operations, tag):
            raise ValueError("gRPC's core has refused the operations")
        self._pending += 1

    def _got(self, event: Any) -> Any:
        data = event.batch_operations[0].message()
        self._asked = False
        if data is None:
            self._open = False
        elif not self._over:
            self._unanswered += 1
            self._held += len(data)
            try:
                self._ask()  # for the next, which may be there already
                self._paths.gather(self._method, (self._core, self._deadline, self), data)
                self._pending -= 1
                return _NOTHING  # there is nothing to settle before it is answered
            except Exception as error:
                self._outbox.append(self._end_with(error))
        return self._back(event)

    def _sent(self, event: Any) -> Any:
        self._sending = False
        return self._back(event)

    def _closed(self, event: Any) -> Any:
        if event.batch_operations[0].cancelled():
            self._cancelled = self._over = True
            self._outbox.clear()
        return self._back(event)

    def _back(self, event: Any) -> Any:
        """A batch of operations has come back."""
        self._pending -= 1
        try:
            if not self._over:
                self.settle()
        except Exception:
            log.exception("a stream was not answered")
            self._over = True
            self._core.cancel()
        if not self._over or self._pending or self._unanswered or self._forgotten:
            return _NOTHING
        self._forgotten = True
        if self._room is not None:
            self._room.__exit__(None, None, None)
        code = 1 if self._cancelled else self._final.number if self._final else 0
        self._paths.metrics.finished(self._method.path, code, perf_counter_ns() - self._began)
        return self._paths.ended(event)

    def _end_with(self, error: Exception) -> Refusal:
        """Takes no message any more. Returns the status to end with, once all before it has been sent."""
        self._open = False
        return refusal(error)

    def _leave(self, data: bytes) -> None:
        """Leaves a message to the pool."""
        try:
            slow = _Slow()
            self._paths.state.thread_pool.submit(self._run, data, slow)
        except RuntimeError:
            self.answer(data, Refusal(grpc.StatusCode.UNAVAILABLE, "the server is stopping"))
        else:
            self._later += 1
            self._outbox.append(slow)

    def _run(self, data: bytes, slow: _Slow) -> None:
        try:
            answer: bytes | Exception = self._stream.slow(data, self)
        except grpc.RpcError:  # the caller is gone
            answer = Refusal(grpc.StatusCode.CANCELLED, "")
        except Exception as error:
            answer = error
        # An empty batch brings it to the serving thread.
        self._core.start_server_batch((), partial(self._ran, data, slow, answer))

    def _ran(self, data: bytes, slow: _Slow, answer: bytes | Exception, event: Any) -> Any:
        self._pending += 1
        self._later -= 1
        self._unanswered -= 1
        self._held -= len(data)
        if isinstance(answer, bytes):
            self._held += len(answer)
            slow.answer = answer
        else:
            slow.answer = self._end_with(answer)
        return self._back(event)
