"""The fast path: hot methods answered in grpcio's own serving thread, many requests with one forward pass.

The only module that uses private names of grpcio. How it works:

1. `grpc.server()` runs one thread over one completion queue, and dispatches every event that it did not ask
   for itself as `state, callbacks = event.tag(event)`. So a tag may be a function of ours, called there.
2. Before the server starts, each hot method is registered with gRPC's core, which then keeps its calls for
   those who ask for them by name: us. So many calls are always asked for; each that comes is asked for anew.
3. A call's message is received and put on its method's list. The first one starts a batch of no operations,
   whose event comes behind those that are queued. From there on events are dispatched here, as grpcio would,
   until the queue has none that is ready: all that were have then been gathered. The hot method is called
   once, and one batch of operations answers each call. Nobody waits for company, or for a timer.
4. A stream of messages (hotpath_stream.py) asks for its next one before it is answered, so that those which
   are there already are gathered too, and sends one answer after the other.
5. What the hot method leaves for Later goes to the server's pool (hotpath_slow.py).
6. The server keeps a book of its calls, `rpc_states`, and one of what it has asked for, `due`; `stop(grace)`
   waits until both are empty. In each of them one entry stands for all of ours: they are counted in the
   serving thread alone, without a lock.

All else stays with the public server: other methods, TLS, limits of messages, compression, keepalive.
`hotpath_check.prepare` tries it on a private server first; where anything differs, the public path serves
everything. An exception in a tag would end the serving thread, so none leaves one.
"""

import importlib
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import itemgetter
from time import perf_counter_ns
from typing import Any

import grpc

from mnist_server.hotpath_slow import SlowCall
from mnist_server.hotpath_stream import StreamCall
from mnist_server.metrics import Metrics
from mnist_server.refusal import Refusal, refusal
from mnist_server.rpc import HotStream, HotUnary, Later

log = logging.getLogger(__name__)

Methods = Mapping[str, HotUnary | HotStream]

# Calls that the core may hand over before we have asked for the next; with one, 64 callers get half as much.
_ASKED = 64
# Requests that are answered together, at most: what comes meanwhile waits for them.
_TOGETHER = 64
# Bytes of them, after which the next ones wait: some twenty milliseconds, of a small network.
_BYTES = 2**24
_NOTHING: tuple[None, tuple[()]] = (None, ())  # what a tag returns that ends no call
_AT_ONCE = 0.0  # a deadline that has passed
# Events that are dispatched here, at most, before grpcio's own loop has its turn.
_FOLLOWED = 1000
_OK = 0

# A call that waits for its answer: the core's call, its deadline, and when it began or, of a stream, its
# StreamCall.
Waiting = tuple[Any, float, Any]
_DEADLINE = itemgetter(1)


class Method:
    """A hot method, and the messages that are to be answered next."""

    __slots__ = ("answer", "arrived", "calls", "handler", "messages", "path", "stream")

    def __init__(self, path: str, method: HotUnary | HotStream, handler: Any) -> None:
        self.path, self.handler = path, handler
        self.stream = method if isinstance(method, HotStream) else None
        self.answer = method.answer
        self.arrived: Any = None  # the tag of what is asked for
        self.calls: list[Waiting] = []
        self.messages: list[bytes] = []


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
        self._started = _server._ServerStage.STARTED
        self._process = _server._process_event_and_continue
        self._none_ready = cygrpc.CompletionType.queue_timeout
        self.receive = cygrpc.ReceiveMessageOperation
        self.receive_close = cygrpc.ReceiveCloseOnServerOperation
        self.message = cygrpc.SendMessageOperation
        self.status = cygrpc.SendStatusFromServerOperation
        self.more_follows: int = cygrpc.WriteFlag.buffer_hint
        # The core reads these as a batch starts, and what it writes nobody reads: one of each for all calls.
        self.no_metadata = cygrpc.SendInitialMetadataOperation((), 0)
        self._close = self.receive_close(0)
        self._ok = self.status((), _OK, b"", 0)
        self._methods = [
            Method(path, method, _handler(state, path, method)) for path, method in methods.items()
        ]
        self.unsettled: set[StreamCall] = set()  # with something to do once all are answered
        self._asked = object()  # stands for the calls that are asked for, in the server's book
        self._asking = 0  # for so many
        self._calls = 0  # have not ended
        self._following = False
        # Looked up once, and not for each call.
        self._end = self.ended
        self._queue, self._request = state.completion_queue, state.server.request_registered_call
        self._most = state.maximum_concurrent_rpcs
        for path in methods:
            state.server.register_method(path)

    def engage(self) -> None:
        """Begins to answer. Called once, right after the server's start."""
        with self.state.lock:
            self.state.due.add(self._asked)
            self._asking = _ASKED * len(self._methods)
            for method in self._methods:
                method.arrived = partial(self._arrived, method)
                for _ in range(_ASKED):
                    self._ask(method)

    def _ask(self, method: Method) -> None:
        self._request(self._queue, self._queue, method.path, method.arrived)

    def _arrived(self, method: Method, event: Any) -> Any:
        """A call is there; or the server stops, and what was asked for comes back without one."""
        try:
            if not event.success or self.state.stage is not self._started:
                raise ValueError("the server stops")
            self._ask(method)  # which raises the same if it has just begun to
        except ValueError:
            self._asking -= 1
        try:
            if event.success:
                self._begin(method, event)
        except Exception:
            log.exception("a call was not answered")
        return _NOTHING if self._asking else self._none_asked()

    def _none_asked(self) -> Any:
        with self.state.lock:
            self.state.due.discard(self._asked)
            self.state.rpc_states.add(self._asked)  # the end of which has grpcio look whether all is over
        return self._asked, ()

    def _begin(self, method: Method, event: Any) -> None:
        core, deadline = event.call, event.call_details.deadline  # seconds since the epoch
        if not self._calls:
            self._enter()
        self._calls += 1
        if self._most is not None and self._calls > self._most:
            self._refuse(core, Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!"))
        elif method.stream is not None:
            StreamCall(self, method, method.stream, core, deadline).begin()
        else:
            tag = partial(self._received, method, core, deadline, perf_counter_ns())
            core.start_server_batch((self.receive(0),), tag)

    def _enter(self) -> None:
        with self.state.lock:
            self.state.rpc_states.add(self)

    def ended(self, event: Any) -> Any:
        """One call is over: the tag of what is sent last."""
        self._calls -= 1
        return _NOTHING if self._calls else (self, ())

    def _received(self, method: Method, core: Any, deadline: float, began: int, event: Any) -> Any:
        try:
            data = event.batch_operations[0].message()
            if data is None:  # cancelled; or over the limit, which the core has answered; or there is none
                details = f"{method.path} takes exactly one message"
                self._refuse(core, Refusal(grpc.StatusCode.UNIMPLEMENTED, details))
            else:
                self.gather(method, (core, deadline, began), data)
        except Exception:
            log.exception("a call was not answered")
        return _NOTHING

    def gather(self, method: Method, call: Waiting, data: bytes) -> None:
        """A message is there: it is answered with all that are ready with it."""
        method.calls.append(call)
        method.messages.append(data)
        full = len(method.messages) >= _TOGETHER
        if len(data) > _BYTES // _TOGETHER:  # smaller ones cannot be so many bytes by themselves
            full = full or sum(map(len, method.messages)) >= _BYTES
        if full:
            self._answer(method)
            self._settle()
        elif not self._following:
            self.start(call[0], self._follow)
            self._following = True

    def _follow(self, event: Any) -> Any:
        """Dispatches events as grpcio would, until none is ready any more; then answers what was gathered,
        and goes on for as long as that brings more."""
        state, poll = self.state, self._queue.poll
        if not self._calls:
            self._enter()  # so that the server cannot be over before this has returned
        try:
            for _ in range(_FOLLOWED):
                event = poll(_AT_ONCE)
                if event.completion_type == self._none_ready:
                    if not self._answer_all():
                        break
                    continue
                tag = event.tag
                if isinstance(tag, str):  # grpcio's own, which it compares and does not call
                    self._process(state, event)
                else:
                    call, callbacks = tag(event)
                    for callback in callbacks:
                        try:
                            callback()
                        except Exception:
                            log.exception("a callback failed")
                    if call is not None and call is not self:
                        with state.lock:
                            state.rpc_states.remove(call)
                event = tag = None  # as in grpcio: a call's go before the next is waited for
        except Exception:
            log.exception("an event was not dispatched")
        self._following = False
        try:
            self._answer_all()
        except Exception:
            log.exception("calls were not answered")
        return _NOTHING if self._calls else (self, ())

    def _answer_all(self) -> bool:
        """Answers what was gathered. Returns whether there was anything."""
        waiting = [method for method in self._methods if method.messages]
        for method in waiting:
            self._answer(method)
        self._settle()
        return bool(waiting)

    def _answer(self, method: Method) -> None:
        calls, messages = method.calls, method.messages
        method.calls, method.messages = [], []
        now = time.time()
        if min(calls, key=_DEADLINE)[1] < now:
            calls, messages = self._without_late(method, calls, messages, now)
            if not calls:
                return
        if method.stream is None:
            self.metrics.started(method.path, len(calls))
        try:
            answers = method.answer(messages)
            if len(answers) != len(calls):
                raise RuntimeError(f"{len(answers)} answers to {len(calls)} requests")
        except Exception as error:
            answers = [error] * len(calls)
        if method.stream is None:
            self._send(method, calls, messages, answers)
        else:
            for (_, _, call), data, answer in zip(calls, messages, answers, strict=True):
                call.answer(data, answer)

    def _settle(self) -> None:
        while self.unsettled:
            self.unsettled.pop().settle()

    def _without_late(
        self, method: Method, calls: list[Waiting], messages: list[bytes], now: float
    ) -> tuple[list[Waiting], list[bytes]]:
        """Ends those whose deadline has passed, and returns the others."""
        late = Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        kept = []
        for (core, deadline, about), data in zip(calls, messages, strict=True):
            if deadline >= now:
                kept.append(((core, deadline, about), data))
            elif method.stream is not None:
                about.answer(data, late)
            else:
                self._refuse(core, late)
                self.metrics.observe(method.path, late.number, perf_counter_ns() - about)
        return [call for call, _ in kept], [data for _, data in kept]

    def _send(
        self,
        method: Method,
        calls: list[Waiting],
        messages: list[bytes],
        answers: Sequence[bytes | Exception],
    ) -> None:
        """Sends their answers, or the statuses of errors, and ends the calls."""
        well = []  # when those began that went well
        # These cost something: they are looked up once.
        message, close, metadata, ok, end = self.message, self._close, self.no_metadata, self._ok, self._end
        for (core, deadline, began), data, answer in zip(calls, messages, answers, strict=True):
            if isinstance(answer, bytes):
                well.append(began)
                try:
                    # Together with these, the core says when the call is over on its side too.
                    if core.start_server_batch((close, metadata, message(answer, 0), ok), end):
                        raise ValueError("gRPC's core has refused the operations")
                except Exception:
                    self.lose(core)
            elif isinstance(answer, Later):
                SlowCall(self, method, core, deadline, began).begin(data)
            else:
                refused = refusal(answer)
                self._refuse(core, refused)
                self.metrics.finished(method.path, refused.number, perf_counter_ns() - began)
        now = perf_counter_ns()
        self.metrics.finished_all(method.path, _OK, [now - began for began in well])

    def _refuse(self, core: Any, refused: Refusal) -> None:
        status = self.status(refused.trailing, refused.number, refused.details.encode(), 0)
        try:
            self.start(core, self._end, self._close, self.no_metadata, status)
        except Exception:
            self.lose(core)

    def start(self, core: Any, tag: Any, *operations: Any) -> None:
        """Starts a batch of operations of a call, whose event `tag` is given. Raises ValueError."""
        if core.start_server_batch(operations, tag):
            raise ValueError("gRPC's core has refused the operations")

    def lose(self, core: Any) -> None:
        """Gives a call up, in the middle of an exception: it is cancelled when the core's is forgotten."""
        log.exception("a call was not answered")
        with suppress(ValueError):
            self.start(core, self._end)  # an empty batch, to count it in the serving thread


def _handler(state: Any, path: str, method: HotUnary | HotStream) -> Any:
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
