"""RPC: binds a servicer's methods to a service of the contract.

Each method is given parsed messages and raises plain errors. Here bytes are parsed, errors become statuses,
streams are counted, and unary calls take turns. Every call has a thread from its headers on: neither streams,
however long they last, nor clients that are slow to send a message keep another call waiting.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from mnist_server.accounting import counted, counted_stream
from mnist_server.errors import InvalidRequest, LimitReached
from mnist_server.limits import SILENCE_SECONDS
from mnist_server.metrics import Metrics
from mnist_server.status import abort

log = logging.getLogger(__name__)

# Pictures may take half a second each, and hundreds of megabytes: so many calls decode theirs at a time.
_SLOW_TURNS = 2

Behavior = Callable[[Any, grpc.ServicerContext], Any]

# A hot method answers many requests at once, as bytes: for each, in order, its answer or what is wrong with
# it. It is pure, never blocks (no disk, no lock, no picture) and never raises.
HotMethod = Callable[[Sequence[bytes]], "list[bytes | Exception]"]


class Later(Exception):
    """A hot method's answer to a request that takes too long for it: the servicer's own method has time."""


LATER = Later()


# Answers a request that is left for Later, with the context as a servicer has it; may raise.
SlowMethod = Callable[[bytes, Any], "bytes | Exception"]


class HotUnary(NamedTuple):
    """A method with one message and one answer; many calls at once."""

    answer: HotMethod
    slow: SlowMethod


class HotStream(NamedTuple):
    """A method with streams of messages either way, each answered by one; many at once, of any streams."""

    answer: HotMethod  # an error ends its stream
    slow: SlowMethod
    room: Callable[[], AbstractContextManager[None]]  # entered by each stream, while it lasts; may raise


class Calls:
    """How many unary calls are answered at a time, the others waiting, and how many streams may be open."""

    def __init__(self, turns: int, streams: int) -> None:
        self.turns = threading.BoundedSemaphore(turns)
        self.slow = threading.BoundedSemaphore(_SLOW_TURNS)
        self.limit = streams
        self._lock = threading.Lock()
        self._open = 0

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leaves a unary call's turn to others while it does what is slow: two calls at a time do."""
        self.turns.release()
        try:
            with self.slow:
                yield
        finally:
            self.turns.acquire()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """One more stream, while it lasts. Raises LimitReached."""
        with self._lock:
            if self._open >= self.limit:
                raise LimitReached(f"{self._open} streams are open: expected fewer than {self.limit}", 5.0)
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1


def bind(
    service: ServiceDescriptor,
    servicer: object,
    calls: Calls,
    metrics: Metrics,
    hot: Mapping[str, HotUnary | HotStream] | None = None,
) -> grpc.GenericRpcHandler:
    """Returns the handlers of a service whose methods are those of `servicer`, by name.

    A method in `hot`, by its path, `/package.Service/Method`, is answered by what is there instead.
    """
    hot = hot or {}
    handlers = {}
    for method in service.methods:
        found = hot.get(f"/{service.full_name}/{method.name}")
        if found is None:
            made = _handler(method, parser(method), getattr(servicer, method.name), calls, metrics)
        else:
            made = _handler(method, bytes, _behavior(found), calls, metrics)  # bytes(data) is data itself
        handlers[method.name] = made
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _behavior(hot: HotUnary | HotStream) -> Behavior:
    def one(data: bytes, context: grpc.ServicerContext) -> bytes:
        [answer] = hot.answer([data])
        if isinstance(answer, Later):
            answer = hot.slow(data, context)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def each(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        return (one(data, context) for data in messages)

    return one if isinstance(hot, HotUnary) else each


def _handler(
    method: MethodDescriptor,
    parse: Callable[[bytes], Any],
    behavior: Behavior,
    calls: Calls,
    metrics: Metrics,
) -> "grpc.RpcMethodHandler[Any, Any]":
    name = f"/{method.containing_service.full_name}/{method.name}"
    request, response = method.client_streaming, method.server_streaming
    if not request and not response:

        def unary(data: bytes, context: grpc.ServicerContext) -> Any:
            with calls.turns:
                check_wanted(context)
                try:
                    return behavior(parse(data), context)
                except grpc.RpcError:
                    raise
                except Exception as error:
                    abort(context, error)

        return grpc.unary_unary_rpc_method_handler(
            counted(metrics, name, unary), response_serializer=_serialize
        )

    def messages(data: Iterator[bytes]) -> Iterator[Any]:
        yield from map(parse, data)
        # A stream that broke, since its client died or sent a message over the limit, may end here as if its
        # client had finished it, a moment before grpcio hears that the call was cancelled. A request for one
        # more message stands behind that news in grpcio's queue, and raises grpc.RpcError once it is known.
        next(data, None)

    def arguments(data: Any) -> Any:
        return messages(data) if request else parse(data)

    def streaming(data: Any, context: grpc.ServicerContext) -> Iterator[Message | bytes]:
        try:
            with calls.stream():
                yield from behavior(arguments(data), context)
        except grpc.RpcError:  # the caller is gone; grpcio knows what it has raised itself
            raise
        except Exception as error:
            abort(context, error)

    def collecting(data: Any, context: grpc.ServicerContext) -> Message | None:
        try:
            with calls.stream():
                answer: Message = behavior(arguments(data), context)
        except grpc.RpcError:
            raise
        except Exception as error:
            abort(context, error)
            return None
        return answer

    inner = counted_stream(metrics, name, streaming) if response else counted(metrics, name, collecting)
    make = {
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[request, response]
    return make(inner, response_serializer=_serialize)


def attempt(slow: Callable[[], bytes | Exception]) -> bytes | Exception:
    """Returns an answer, or the error that was raised instead. Raises grpc.RpcError: the caller is gone."""
    try:
        return slow()
    except grpc.RpcError:
        raise
    except Exception as error:
        return error


def check_wanted(context: grpc.ServicerContext) -> None:
    """Raises grpc.RpcError if nobody waits for the answer any more: cancelled, or past its deadline."""
    if not context.is_active():
        raise grpc.RpcError("the caller is gone")


def _serialize(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()


def parser(method: MethodDescriptor) -> Callable[[bytes], Any]:
    """Returns what parses a method's requests. It raises InvalidRequest for bytes that are none."""
    message = GetMessageClass(method.input_type)

    def parse(data: bytes) -> Message:
        try:
            return message.FromString(data)
        except DecodeError:
            raise InvalidRequest(
                "request", f"a message of {len(data)} bytes", f"a {method.input_type.full_name}"
            ) from None

    return parse


class Silence:
    """Ends a call whose client has sent nothing for so long, in the middle of an upload."""

    def __init__(self, context: grpc.ServicerContext, seconds: float = SILENCE_SECONDS) -> None:
        self._context = context
        self._seconds = seconds
        self._heard = time.monotonic()
        self._over = False
        self._timer = self._wait(seconds)

    def heard(self) -> None:
        """The client has sent something."""
        self._heard = time.monotonic()

    def _wait(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._look)
        timer.daemon = True
        timer.start()
        return timer

    def _look(self) -> None:
        left = self._heard + self._seconds - time.monotonic()
        if self._over:
            return
        if left > 0:
            self._timer = self._wait(left)
            return
        log.warning("stream ended: its client sent nothing", extra={"seconds": self._seconds})
        self._context.cancel()

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._timer.cancel()
