"""A slow call is one of a hot method that takes too long for the fast path: the server's pool answers it."""

import logging
import time
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import grpc

from mnist_server.refusal import Refusal, refusal

if TYPE_CHECKING:
    from mnist_server.hotpath import HotPath, Method

log = logging.getLogger(__name__)

_NOTHING: tuple[None, tuple[()]] = (None, ())  # what a tag returns that ends no call
_OK = 0


class SlowCall:
    """One call that the pool answers, with the method that the server would call.

    To that it is the context: as much of a grpc.ServicerContext as `rpc` uses. It was counted when it came.
    """

    __slots__ = ("_cancelled", "_code", "_core", "_deadline", "_left", "_method", "_paths", "began")

    def __init__(self, paths: "HotPath", method: "Method", core: Any, deadline: float, began: int) -> None:
        self.began = began
        self._paths, self._method, self._core, self._deadline = paths, method, core, deadline
        self._left = 2  # batches of operations that it ends with
        self._cancelled = False
        self._code: grpc.StatusCode | None = None

    def begin(self, data: bytes) -> None:
        """Hands it over."""
        paths = self._paths
        # Whether the caller is still there is known when this batch comes back, which is then before the end.
        try:
            paths.start(self._core, self._closed, paths.receive_close(0))
        except Exception:
            paths.lose(self._core)
            return
        try:
            paths.state.thread_pool.submit(self._run, data)
        except RuntimeError:
            stopping = Refusal(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            self._send(stopping)
            paths.metrics.finished(self._method.path, stopping.number, perf_counter_ns() - self.began)

    def is_active(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self._cancelled and time.time() < self._deadline

    def time_remaining(self) -> float:
        """Returns the seconds until its deadline."""
        return max(0.0, self._deadline - time.time())

    def code(self) -> grpc.StatusCode | None:
        """Returns the status that the handler has given it, if any."""
        return self._code

    def abort_with_status(self, status: Any) -> None:
        """Ends the call with a grpc.Status. Raises, always."""
        self._code = status.code
        raise Refusal(status.code, status.details, status.trailing_metadata)

    def _run(self, data: bytes) -> None:
        handler = self._method.handler
        try:
            answer = handler.unary_unary(data, self)
            self._send(answer if handler.response_serializer is None else handler.response_serializer(answer))
        except grpc.RpcError:  # the caller is gone
            self._send(Refusal(grpc.StatusCode.CANCELLED, ""))
        except Exception as error:
            self._send(refusal(error))

    def _send(self, answer: bytes | Refusal) -> None:
        paths = self._paths
        operations: tuple[Any, ...]
        if isinstance(answer, bytes):
            operations = (paths.message(answer, 0), paths.status((), _OK, b"", 0))
        else:
            operations = (paths.status(answer.trailing, answer.number, answer.details.encode(), 0),)
        try:
            paths.start(self._core, self._ended, paths.no_metadata, *operations)
        except Exception:
            log.exception("a call was not answered")
            paths.start(self._core, self._ended)

    def _closed(self, event: Any) -> Any:
        self._cancelled = event.batch_operations[0].cancelled()
        return self._ended(event)

    def _ended(self, event: Any) -> Any:
        self._left -= 1
        return _NOTHING if self._left else self._paths.ended(event)
