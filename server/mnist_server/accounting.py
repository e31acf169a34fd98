"""Accounting: counts every call that grpcio hands to a method, whatever ends it.

What never gets as far is not counted: a message over the limit, a call whose client leaves before its message
is there, one more call than grpcio takes.
"""

from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any, TypeVar

import grpc

from mnist_server.methods import OTHER
from mnist_server.metrics import Metrics

_OK = 0
_CANCELLED = 1
_UNKNOWN = 2
_DEADLINE_EXCEEDED = 4
_UNIMPLEMENTED = 12

Answer = TypeVar("Answer")


def counted(
    metrics: Metrics, method: str, behavior: Callable[[Any, grpc.ServicerContext], Answer]
) -> Callable[[Any, grpc.ServicerContext], Answer]:
    """Returns a handler with one answer that counts its calls under a method's full name."""

    def handler(data: Any, context: grpc.ServicerContext) -> Answer:
        began = getattr(context, "began", 0)  # of a call that the fast path has counted when it came
        if not began:
            began = perf_counter_ns()
            metrics.started(method)
        code = _UNKNOWN  # what grpcio sends when an exception gets as far as here
        try:
            answer = behavior(data, context)
            code = _OK
            return answer
        finally:  # an answer that nobody waits for any more was given all the same
            metrics.finished(method, _code(context, code, done=code == _OK), perf_counter_ns() - began)

    return handler


def counted_stream(
    metrics: Metrics, method: str, behavior: Callable[[Any, grpc.ServicerContext], Iterator[Answer]]
) -> Callable[[Any, grpc.ServicerContext], Iterator[Answer]]:
    """Returns a handler with a stream of answers that counts its calls under a method's full name."""

    def handler(data: Any, context: grpc.ServicerContext) -> Iterator[Answer]:
        began = perf_counter_ns()
        metrics.started(method)
        code = _UNKNOWN
        try:
            yield from behavior(data, context)
            code = _OK
        finally:  # also when grpcio drops the generator, since nobody listens any more
            metrics.finished(method, _code(context, code, done=False), perf_counter_ns() - began)

    return handler


def _code(context: Any, code: int, *, done: bool) -> int:  # a ServicerContext, whose types lack code()
    """What the caller gets: what was set, or what happened to a call that is not `done`, or else `code`."""
    said = context.code()
    if said is not None:
        return int(said.value[0])
    if done or context.is_active():
        return code
    return _CANCELLED if context.time_remaining() > 0 else _DEADLINE_EXCEEDED


class Unserved(grpc.GenericRpcHandler):
    """The last of a server's handlers: has none for any method, and counts that one was asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        """Returns None, upon which grpcio answers UNIMPLEMENTED."""
        self._metrics.observe(OTHER, _UNIMPLEMENTED, 0)
