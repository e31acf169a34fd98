"""The fast path: hot methods answered in grpcio's own serving thread, many requests with one forward pass.

The only module that uses private names of grpcio. How it works:

1. `grpc.server()` runs one thread over one completion queue, and dispatches every event that it did not ask
   for itself as `state, callbacks = event.tag(event)`. So a tag may be a function of ours, called there.
2. Before the server starts, each hot method is registered with gRPC's core, which then keeps its calls for
   those who ask for them by name: us. Some `_Slot`s ask, always; one that got a call asks for the next.
3. A call's message is received and put on a list. The first on an empty list starts a batch of no
   operations, a marker, which is complete at once, but behind every event that is already queued. When it
   comes round, all that were ready have been gathered: the hot method is called once, and one batch of
   operations answers each call. Nobody waits for company, or for a timer.
4. A stream of messages asks for its next one before the marker is set, and sends one answer after the other.
   The marker goes round again while it brings more of them, since they come one by one.
5. What the hot method leaves for Later goes to the server's pool.
6. Calls are kept in the server's own book of them (`rpc_states`), so that `stop(grace)` waits for them.

All else stays with the public server: other methods, TLS, limits of messages, compression, keepalive.
`prepare` tries it on a private server first; where anything differs, the public path serves everything.
An exception in a tag would end the serving thread, so none leaves one.
"""

import importlib
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from time import perf_counter_ns
from typing import Any

import grpc
from grpc_status import rpc_status

from mnist_server.errors import InvalidRequest
from mnist_server.metrics import Metrics
from mnist_server.rpc import LATER, HotMethod, HotStream, Later
from mnist_server.status import to_status

log = logging.getLogger(__name__)

Methods = Mapping[str, HotMethod | HotStream]

# Calls that the core may hand over before we have asked for the next; with one, 64 callers get half as much.
_SLOTS = 64
# Requests that are answered together, at most: what comes meanwhile waits for them.
_TOGETHER = 64
# Bytes of a message whose parsing alone would keep the others waiting.
_LARGE = 2**19
# Bytes of messages and answers of one stream, after which no more are asked for until some are sent.
_HELD = 2**19
_CHECK_SECONDS = 5.0
_NOTHING: tuple[None, tuple[()]] = (None, ())  # what a tag returns that ends no call


def prepare(server: grpc.Server, methods: Methods, metrics: Metrics) -> "HotPath | None":
    """Takes over methods of a server, by path, that has all its handlers and was not started.

    Returns what is to `engage` right after its start; None, and one line in the log, if this grpcio or this
    server is not as expected. Then all methods are served as ever.
    """
    try:
        _check()
        return HotPath(server, methods, metrics)
    except Exception as error:
        log.warning("the fast path is not taken: %s: %s", type(error).__name__, error)
        return None


class HotPath:
    """The hot methods of one server. Raises ValueError if it is not one that this module understands."""

    def __init__(self, server: grpc.Server, methods: Methods, metrics: Metrics) -> None:
        from grpc import _server

        cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")
        state: Any = server._state  # type: ignore[attr-defined]  # private: see above
        if state.interceptor_pipeline is not None:
            raise ValueError("the server has interceptors, which would not be asked")
        if state.stage is not _server._ServerStage.STOPPED:
            raise ValueError("the server was started")
        if taken := methods.keys() & state.registered_method_handlers.keys():
            raise ValueError(f"{', '.join(taken)} are registered already")
        self.state = state
        self.metrics = metrics
        self.started = _server._ServerStage.STARTED
        self.receive = cygrpc.ReceiveMessageOperation
        self.close = cygrpc.ReceiveCloseOnServerOperation
        self.metadata = cygrpc.SendInitialMetadataOperation
        self.message = cygrpc.SendMessageOperation
        self.status = cygrpc.SendStatusFromServerOperation
        self.more_follows: int = cygrpc.WriteFlag.buffer_hint
        self._slots = [
            _Slot(self, path, method, handler)
            for path, method in methods.items()
            for handler in [_handler(state, path, method)]
            for _ in range(_SLOTS)
        ]
        self.unsettled: set[_StreamCall] = set()
        self._waiting: list[tuple[_Call, bytes]] = []
        self._marked = False
        self._awaited = False
        for path in methods:
            state.server.register_method(path)

    def engage(self) -> None:
        """Begins to answer. Called once, right after the server's start."""
        with self.state.lock:
            for slot in self._slots:
                self.state.due.add(slot)
                slot.ask()

    def gather(self, call: "_Call", data: bytes, *, awaited: bool = False) -> None:
        """A message is there: it is answered with all that are ready with it. If the call's next one is
        `awaited`, it may be ready too, but behind the marker."""
        self._waiting.append((call, data))
        self._awaited |= awaited
        if not self._marked:
            self._mark(call)
        elif len(self._waiting) >= _TOGETHER:
            self._answer()

    def _mark(self, call: "_Call") -> None:
        self._marked = True
        self._awaited = False
        call.core.start_server_batch((), self._round)

    def _round(self, event: Any) -> Any:
        self._marked = False
        try:
            if self._awaited and self._waiting:
                self._mark(self._waiting[-1][0])
            else:
                self._answer()
        except Exception:
            log.exception("calls were not answered")
        return _NOTHING

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        now = time.time()
        groups: dict[HotMethod, tuple[list[_Call], list[bytes]]] = {}
        for call, data in waiting:
            if call.deadline < now:
                call.answer(data, _Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, ""))
                continue
            method = call.slot.answer
            group = groups.get(method)
            if group is None:
                group = groups[method] = ([], [])
            group[0].append(call)
            group[1].append(data)
        for method, (calls, messages) in groups.items():
            try:
                answers = method(messages)
                if len(answers) != len(calls):
                    raise RuntimeError(f"{len(answers)} answers to {len(calls)} requests")
            except Exception as error:
                answers = [error] * len(calls)
            for call, data, answer in zip(calls, messages, answers, strict=True):
                call.answer(data, answer)
        while self.unsettled:
            self.unsettled.pop().settle()


class _Slot:
    """A standing request to the core for the next call of a method."""

    __slots__ = ("answer", "handler", "path", "paths", "stream")

    def __init__(self, paths: HotPath, path: str, method: HotMethod | HotStream, handler: Any) -> None:
        self.paths, self.path, self.handler = paths, path, handler
        self.stream = method if isinstance(method, HotStream) else None
        self.answer: HotMethod = method.answer if isinstance(method, HotStream) else method

    def ask(self) -> None:
        state = self.paths.state
        queue = state.completion_queue
        state.server.request_registered_call(queue, queue, self.path, self._arrived)

    def _arrived(self, event: Any) -> Any:
        state = self.paths.state
        try:
            with state.lock:
                if not event.success:  # the server stops: it counts this as a call that has ended
                    state.due.discard(self)
                    state.rpc_states.add(self)
                    return self, ()
                call = _StreamCall(self, self.stream, event) if self.stream else _Call(self, event)
                most = state.maximum_concurrent_rpcs
                full = most is not None and len(state.rpc_states) >= most
                state.rpc_states.add(call)
                state.due.discard(self)
                if state.stage is self.paths.started:
                    self.ask()
                    state.due.add(self)
            if full:
                call.refuse(_Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!"))
            else:
                call.begin()
        except Exception:
            log.exception("a call was not answered")
        return _NOTHING


class _Call:
    """One call with one message, from its headers to its end.

    To the ordinary handler, which answers what was left for Later, it is the context: as much of a
    grpc.ServicerContext as `rpc` uses.
    """

    __slots__ = ("_began", "_cancelled", "_code", "_pending", "core", "deadline", "slot")

    def __init__(self, slot: _Slot, event: Any) -> None:
        self.slot = slot
        self.core = event.call
        self.deadline: float = event.call_details.deadline  # seconds since the epoch
        self._pending = 1  # batches of operations that it ends with
        self._cancelled = False
        self._code: grpc.StatusCode | None = None
        self._began = perf_counter_ns()

    def begin(self) -> None:
        """Asks for its message."""
        self.core.start_server_batch((self.slot.paths.receive(0),), self._received)

    def _received(self, event: Any) -> Any:
        try:
            data = event.batch_operations[0].message()
            if data is None:  # cancelled; or over the limit, which the core has answered; or there is none
                details = f"{self.slot.path} takes exactly one message"
                self.refuse(_Refusal(grpc.StatusCode.UNIMPLEMENTED, details))
            elif len(data) > _LARGE:
                self._later(data)
            else:
                self.slot.paths.gather(self, data)
        except Exception:
            log.exception("a call was not answered")
            return self._ended(event)
        return _NOTHING

    def answer(self, data: bytes, answer: bytes | Exception) -> None:
        """Sends the answer to its message, or the status of an error, and ends the call."""
        if isinstance(answer, bytes):
            paths = self.slot.paths
            self._send(0, paths.message(answer, 0), paths.status((), 0, b"", 0))
        elif isinstance(answer, Later):
            self._later(data)
        else:
            self.refuse(_refusal(answer))

    def refuse(self, refusal: "_Refusal") -> None:
        """Ends the call with a status."""
        self._send(refusal.code.value[0], self.slot.paths.status(*refusal.operation(), 0))

    def _later(self, data: bytes) -> None:
        # Whether the caller is still there is known when this batch comes back, which is then before the end.
        self.core.start_server_batch((self.slot.paths.close(0),), self._closed)
        self._pending += 1
        try:
            self.slot.paths.state.thread_pool.submit(self._run, data)
        except RuntimeError:
            self.refuse(_Refusal(grpc.StatusCode.UNAVAILABLE, "the server is stopping"))

    def is_active(self) -> bool:
        """Whether somebody waits for the answer."""
        return not self._cancelled and time.time() < self.deadline

    def time_remaining(self) -> float:
        """Returns the seconds until its deadline."""
        return max(0.0, self.deadline - time.time())

    def code(self) -> grpc.StatusCode | None:
        """Returns the status that the handler has given it, if any."""
        return self._code

    def abort_with_status(self, status: Any) -> None:
        """Ends the call with a grpc.Status. Raises, always."""
        self._code = status.code
        raise _Refusal(status.code, status.details, status.trailing_metadata)

    def _run(self, data: bytes) -> None:
        handler = self.slot.handler
        try:
            answer = handler.unary_unary(data, self)
            done = answer if handler.response_serializer is None else handler.response_serializer(answer)
        except grpc.RpcError:  # the caller is gone
            done = _Refusal(grpc.StatusCode.CANCELLED, "")
        except Exception as error:
            done = error
        self.answer(data, done)

    def _send(self, code: int, *operations: Any) -> None:
        slot, paths = self.slot, self.slot.paths
        first = paths.metadata((), 0)
        try:
            if self._pending > 1:
                every: tuple[Any, ...] = (first, *operations)
            else:  # together with these, the core says when the call is over on its side too
                every = (paths.close(0), first, *operations)
                paths.metrics.observe(slot.path, code, perf_counter_ns() - self._began)
            if self.core.start_server_batch(every, self._ended):
                raise ValueError("gRPC's core has refused the operations")
        except Exception:
            log.exception("a call was not answered")
            with paths.state.lock:
                paths.state.rpc_states.discard(self)  # what is left of it is cancelled when it is forgotten

    def _closed(self, event: Any) -> Any:
        self._cancelled = event.batch_operations[0].cancelled()
        return self._ended(event)

    def _ended(self, event: Any) -> Any:
        # The server forgets what is returned, and looks whether that was what a stop() waits for.
        self._pending -= 1
        return _NOTHING if self._pending or self not in self.slot.paths.state.rpc_states else (self, ())


class _StreamCall(_Call):
    """One call with many messages, each of which is answered by one.

    All its tags are called in the serving thread, so it needs no lock.
    """

    def __init__(self, slot: _Slot, stream: HotStream, event: Any) -> None:
        super().__init__(slot, event)
        self._stream = stream
        self._pending = 0
        self._asked = self._sending = False  # for a message; a message
        self._open = True  # for more messages of the client
        self._unanswered = 0  # messages
        self._later_ones = 0  # of which so many are in the pool
        self._outbox: deque[bytes] = deque()
        self._held = 0  # bytes of messages and answers
        self._final: _Refusal | None = None  # the status, if it is not OK
        self._over = False  # the status was sent, or nobody is there to get it
        self._forgotten = False  # by the server
        self._room: AbstractContextManager[None] | None = None

    def begin(self) -> None:
        """Takes its room among the streams, and asks for its first message."""
        paths = self.slot.paths
        paths.metrics.started(self.slot.path)
        self._start(self._closed, paths.close(0))
        self._start(self._back, paths.metadata((), 0))
        try:
            room = self._stream.room()
            room.__enter__()
            self._room = room
        except Exception as error:
            self._end_with(error)
        self.settle()

    def refuse(self, refusal: "_Refusal") -> None:
        """Ends the call with a status, before it has begun."""
        self._pending = 1
        _Call.refuse(self, refusal)

    def answer(self, data: bytes, answer: bytes | Exception) -> None:
        """Has the answer to one of its messages sent, once it is settled."""
        if isinstance(answer, Later) and not self._over:
            self._later(data)
            return
        self._unanswered -= 1
        self._held -= len(data)
        if self._over:
            pass
        elif isinstance(answer, bytes):
            self._held += len(answer)
            self._outbox.append(answer)
        else:
            self._end_with(answer)
        self.slot.paths.unsettled.add(self)

    def settle(self) -> None:
        """Does what can be done now: asks for a message, sends one, or ends."""
        paths = self.slot.paths
        if self._over:
            if not self._pending and not self._forgotten:  # the end is noticed in a tag
                self._start(self._back)
            return
        if self._open and not self._asked and not self._later_ones and self._held < _HELD:
            self._asked = True
            self._start(self._got, paths.receive(0))
        if self._sending:
            return
        if self._outbox:
            self._sending = True
            answer = self._outbox.popleft()
            self._held -= len(answer)
            self._start(self._sent, paths.message(answer, paths.more_follows if self._outbox else 0))
        elif self._final or not (self._open or self._asked or self._unanswered):
            self._over = True
            operation = self._final.operation() if self._final else ((), 0, b"")
            self._start(self._back, paths.status(*operation, 0))

    def _start(self, tag: Any, *operations: Any) -> None:
        self._pending += 1
        if self.core.start_server_batch(operations, tag):
            self._pending -= 1
            raise ValueError("gRPC's core has refused the operations")

    def _got(self, event: Any) -> Any:
        self._asked = False
        data = event.batch_operations[0].message()
        if data is None:
            self._open = False
        elif not self._over:
            self._unanswered += 1
            self._held += len(data)
            try:
                if len(data) > _LARGE:
                    self._later(data)
                else:
                    self.settle()  # asks for the next before the marker is set: it may be there already
                    self.slot.paths.gather(self, data, awaited=self._asked)
            except Exception as error:
                self._end_with(error)
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
            self.core.cancel()
        if not self._over or self._pending or self._unanswered or self._forgotten:
            return _NOTHING
        self._forgotten = True
        if self._room is not None:
            self._room.__exit__(None, None, None)
        code = 1 if self._cancelled else self._final.code.value[0] if self._final else 0
        self.slot.paths.metrics.finished(self.slot.path, code, perf_counter_ns() - self._began)
        return self, ()

    def _end_with(self, error: Exception) -> None:
        self._open = False
        if self._final is None:
            self._final = _refusal(error)

    def _later(self, data: bytes) -> None:
        self._later_ones += 1
        try:
            self.slot.paths.state.thread_pool.submit(self._run, data)
        except RuntimeError:
            self._later_ones -= 1
            self.answer(data, _Refusal(grpc.StatusCode.UNAVAILABLE, "the server is stopping"))

    def _run(self, data: bytes) -> None:
        try:
            answer: bytes | Exception = self._stream.slow(data, self)
        except grpc.RpcError:  # the caller is gone
            answer = _Refusal(grpc.StatusCode.CANCELLED, "")
        except Exception as error:
            answer = error
        # An empty batch brings it to the serving thread.
        self.core.start_server_batch((), partial(self._ran, data, answer))

    def _ran(self, data: bytes, answer: bytes | Exception, event: Any) -> Any:
        self._pending += 1
        self._later_ones -= 1
        self.answer(data, answer)
        self.slot.paths.unsettled.discard(self)
        return self._back(event)


class _Refusal(Exception):
    """A status other than OK, on its way to the caller."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        super().__init__(code)
        self.code, self.details, self.trailing = code, details, trailing

    def operation(self) -> tuple[Any, int, bytes]:
        return self.trailing, self.code.value[0], self.details.encode()


def _refusal(error: Exception) -> _Refusal:
    if isinstance(error, _Refusal):
        return error
    status = rpc_status.to_status(to_status(error))
    return _Refusal(status.code, status.details, status.trailing_metadata)


def _handler(state: Any, path: str, method: HotMethod | HotStream) -> Any:
    """Returns the handler that the server would call for a method."""
    for handlers in state.generic_handlers:
        handler = handlers.service(_Details(path))
        if handler is not None:
            behavior = handler.stream_stream if isinstance(method, HotStream) else handler.unary_unary
            if behavior is None or handler.request_deserializer is not None:
                raise ValueError(f"{path} is another kind of method")
            return handler
    raise ValueError(f"{path} is not a method of the server")


class _Details(grpc.HandlerCallDetails):
    def __init__(self, path: str) -> None:
        self.method, self.invocation_metadata = path, ()


def _check() -> None:
    """Tries what the fast path relies on, on a server of its own. Raises if anything is not as expected."""
    threads: set[int] = set()
    special: dict[bytes, Exception] = {b"later": LATER, b"wrong": InvalidRequest("a", "b", "c")}

    def hot(messages: Sequence[bytes]) -> list[bytes | Exception]:
        threads.add(threading.get_ident())
        return [special.get(data, data) for data in messages]

    def ordinary(data: bytes, context: Any) -> bytes:
        return data + (b"!" if context.is_active() else b"?")

    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    handler: Any = grpc.unary_unary_rpc_method_handler(ordinary)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("check", {"Hot": handler, "Plain": handler}),)
    )
    paths = HotPath(server, {"/check/Hot": hot}, Metrics())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        paths.engage()
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            raw: Any = channel  # its types ask for serializers, which bytes do without
            call = raw.unary_unary("/check/Hot")
            asked = [b"%d" % number for number in range(4)] + [b"later"]
            calls = [call.future(data, timeout=_CHECK_SECONDS) for data in asked]
            found = [call.result() for call in calls]
            found.append(raw.unary_unary("/check/Plain")(b"plain", timeout=_CHECK_SECONDS))
            if found != [*asked[:-1], b"later!", b"plain!"]:
                raise RuntimeError(f"unexpected answers {found}")
            refused = call.future(b"wrong", timeout=_CHECK_SECONDS)
            status = rpc_status.from_call(refused)
            if status is None or status.code != grpc.StatusCode.INVALID_ARGUMENT.value[0]:
                raise RuntimeError(f"unexpected status {refused.code()}")
            if len(threads) != 1:
                raise RuntimeError("hot methods ran in more than one thread")
    finally:
        stopped = server.stop(0.5)
        stopped.wait(_CHECK_SECONDS)
        pool.shutdown(wait=False)
    if not stopped.is_set() or paths.state.due or paths.state.rpc_states:
        raise RuntimeError("the server has not stopped")
