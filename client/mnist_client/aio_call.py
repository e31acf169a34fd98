"""A call of grpc.aio: how it really ended, and an end to waiting for what does not come."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import grpc
import grpc.aio

from mnist_client.watch import silent

A = TypeVar("A")


class Ending:
    """How a call on which the client writes has ended, noted at once.

    When a write fails because the call has ended, grpc.aio may replace the status that the server had sent by
    one of its own (https://github.com/grpc/grpc/issues/36066). Its callbacks come before that.
    """

    def __init__(self, call: "grpc.aio.Call") -> None:
        self.first: grpc.aio.AioRpcError | None = None
        """The status, if it was not OK."""
        call.add_done_callback(lambda _: self._note(call))

    def _note(self, call: "grpc.aio.Call") -> None:
        code = _value(call.code())
        if code is None or code is grpc.StatusCode.OK:
            return
        metadata = _value(call.trailing_metadata()) or grpc.aio.Metadata()
        details = _value(call.details())
        self.first = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details, None)


def is_failed_write(error: grpc.RpcError) -> bool:
    """Says whether this is grpc.aio's own status for a write that failed."""
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == "Internal error from Core"


def _value(coroutine: Coroutine[Any, Any, A]) -> A | None:
    """What a coroutine returns that does not need to wait; None if it does."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: A = end.value
        return value
    coroutine.close()
    return None


class AsyncSilence:
    """Ends the wait for a message when so many seconds have gone by without one in either direction."""

    def __init__(self, seconds: float, server: str, waits: Callable[[], bool] = lambda: True) -> None:
        """`waits` says whether the other side owes a message at all."""
        self._seconds = seconds
        self._server = server
        self._waits = waits
        self._timeout: asyncio.Timeout | None = None

    def heard(self) -> None:
        """There is a sign of life."""
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)

    def sending(self, requests: Iterable[A]) -> Iterator[A]:
        """Yields requests on their way out; each counts as a sign of life, since the last one was taken."""
        for request in requests:
            self.heard()
            yield request
        self.heard()

    async def wait(self, message: Awaitable[A]) -> A:
        """Returns a message when it comes. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._seconds if self._waits() else None) as self._timeout:
                return await message
        except TimeoutError:
            raise silent(self._seconds, self._server) from None
        finally:
            self._timeout = None
