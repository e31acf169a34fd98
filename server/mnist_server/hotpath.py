"""The fast path: hot methods answered in grpcio's own serving thread, many requests with one forward pass.

The only module that uses private names of grpcio. How it works:

1. `grpc.server()` runs one thread over one completion queue, and dispatches every event that it did not ask
   for itself as `state, callbacks = event.tag(event)`. So a tag may be a function of ours: it is called there.
2. Before the server starts, each hot method is registered with gRPC's core, which then keeps its calls for
   those who ask for them by name: us. Some `_Slot`s ask, always; one that got a call asks for the next.
3. A call's message is received and put on a list. The first on an empty list starts a batch of no operations,
   which is complete at once, but behind every event that is already queued. When it comes round, all that were
   ready have been gathered: the hot method is called once, and one batch of operations answers each call.
   Nobody waits for company, or for a timer.
4. What the hot method leaves for Later goes to the server's pool, to the method's ordinary handler.
5. Calls are kept in the server's own book of them (`rpc_states`), so that `stop(grace)` waits for them.

All else stays with the public server: other methods, TLS, limits of messages, compression, keepalive. `prepare`
tries all of it on a private server first; where anything differs, the public path serves the hot methods too.
An exception in a tag would end the serving thread, so none leaves one.
"""

import importlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any

import grpc
from grpc_status import rpc_status

from mnist_server.errors import InvalidRequest
from mnist_server.metrics import Metrics
from mnist_server.rpc import LATER, HotMethod, Later
from mnist_server.status import to_status

log = logging.getLogger(__name__)

# Calls that the core may hand over before we have asked for the next; with one, 64 callers get half as much.
_SLOTS = 64
# Requests that are answered together, at most: what comes meanwhile waits for them.
_TOGETHER = 64
# Bytes of a message whose parsing alone would keep the others waiting.
_LARGE = 2**19
_CHECK_SECONDS = 5.0
_NOTHING: tuple[None, tuple[()]] = (None, ())  # what a tag returns that ends no call


def prepare(server: grpc.Server, methods: Mapping[str, HotMethod], metrics: Metrics) -> "HotPath | None":
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
    """The hot methods of one server. Raises if it is not one that this module understands."""

    def __init__(self, server: grpc.Server, methods: Mapping[str, HotMethod], metrics: Metrics) -> None:
        from grpc import _server

        cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")

        state: Any = server._state  # type: ignore[attr-defined]
        if state.interceptor_pipeline is not None:
            raise ValueError("the server has interceptors, which would not be asked")
        if state.stage is not _server._ServerStage.STOPPED:
            raise ValueError("the server was started")
        handlers = {path: _handler(state, path) for path in methods}
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
        self._slots = [
            _Slot(self, path, methods[path], handlers[path]) for path in methods for _ in range(_SLOTS)
        ]
        self._waiting: list[tuple[_Call, bytes]] = []
        self._marked = False
        for path in methods:
            state.server.register_method(path)

    def engage(self) -> None:
        """Begins to answer. Called once, right after the server's start."""
        with self.state.lock:
            for slot in self._slots:
                self.state.due.add(slot)
                slot.ask()

    def gather(self, call: "_Call", data: bytes) -> None:
        """A message is there: it is answered with all that are ready with it."""
        self._waiting.append((call, data))
        if len(self._waiting) >= _TOGETHER:
            self._answer()
        elif not self._marked:
            self._marked = True
            call.core.start_server_batch((), self._round)

    def _round(self, event: Any) -> Any:
        self._marked = False
        try:
            self._answer()
        except Exception:
            log.exception("calls were dropped")
        return _NOTHING

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        now = time.time()
        groups: dict[HotMethod, tuple[list[_Call], list[bytes]]] = {}
        for call, data in waiting:
            if call.deadline < now:
                call.refuse(grpc.StatusCode.DEADLINE_EXCEEDED, "")
                continue
            method = call.slot.method
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
                if isinstance(answer, Later):
                    call.later(data)
                else:
                    call.answer(answer)


class _Slot:
    """A standing request to the core for the next call of a method."""

    __slots__ = ("handler", "method", "path", "paths")

    def __init__(self, paths: HotPath, path: str, method: HotMethod, handler: Any) -> None:
        self.paths, self.path, self.method, self.handler = paths, path, method, handler

    def ask(self) -> None:
        state = self.paths.state
        queue = state.completion_queue
        state.server.request_registered_call(queue, queue, self.path, self._arrived)

    def _arrived(self, event: Any) -> Any:
        paths = self.paths
        state = paths.state
        try:
            with state.lock:
                if not event.success:  # the server stops; it counts this as a call that has ended
                    state.due.discard(self)
                    state.rpc_states.add(self)
                    return self, ()
                call = _Call(self, event)
                full = state.maximum_concurrent_rpcs is not None and (
                    len(state.rpc_states) >= state.maximum_concurrent_rpcs
                )
                state.rpc_states.add(call)
                if state.stage is paths.started:
                    self.ask()
                else:
                    state.due.discard(self)
            if full:
                call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            else:
                call.core.start_server_batch((paths.receive(0),), call.received)
        except Exception:
            log.exception("a call was dropped")
        return _NOTHING


class _Call:
    """One call, from its headers to its end.

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

    def received(self, event: Any) -> Any:
        """The tag of the receive of its message."""
        try:
            data = event.batch_operations[0].message()
            if (
                data is None
            ):  # cancelled, or over the limit, which the core has answered, or without a message
                self.refuse(grpc.StatusCode.UNIMPLEMENTED, f"{self.slot.path} takes exactly one message")
            elif len(data) > _LARGE:
                self.later(data)
            else:
                self.slot.paths.gather(self, data)
        except Exception:
            log.exception("a call was not answered")
            return self._ended(event)
        return _NOTHING

    def answer(self, answer: bytes | Exception) -> None:
        """Sends a message, or the status of an error, and ends the call."""
        if isinstance(answer, bytes):
            paths = self.slot.paths
            self._send(0, paths.message(answer, 0), paths.status((), 0, b"", 0))
        else:
            status = rpc_status.to_status(to_status(answer))
            self.refuse(status.code, status.details, status.trailing_metadata)

    def refuse(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        """Ends the call with a status."""
        number = code.value[0]
        self._send(number, self.slot.paths.status(trailing, number, details.encode(), 0))

    def later(self, data: bytes) -> None:
        """Has its message answered by the ordinary handler, in the server's pool."""
        # Whether the caller is still there is known when this batch comes back, which is then before the end.
        self.core.start_server_batch((self.slot.paths.close(0),), self._closed)
        self._pending += 1
        try:
            self.slot.paths.state.thread_pool.submit(self._run, data)
        except RuntimeError:
            self.refuse(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

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
        raise _Refusal(status)

    def _run(self, data: bytes) -> None:
        handler = self.slot.handler
        try:
            answer = handler.unary_unary(data, self)
            self.answer(
                answer if handler.response_serializer is None else handler.response_serializer(answer)
            )
        except _Refusal as refusal:
            self.refuse(refusal.status.code, refusal.status.details, refusal.status.trailing_metadata)
        except grpc.RpcError:  # the caller is gone
            self.refuse(grpc.StatusCode.CANCELLED, "")
        except Exception as error:
            self.answer(error)

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


class _Refusal(Exception):
    """What abort_with_status raises."""

    def __init__(self, status: Any) -> None:
        self.status = status


def _handler(state: Any, path: str) -> Any:
    """Returns the handler that the server would call for a method."""
    for handlers in state.generic_handlers:
        handler = handlers.service(_Details(path))
        if handler is not None:
            if handler.unary_unary is None or handler.request_deserializer is not None:
                raise ValueError(f"{path} does not take one message as bytes and answer with one")
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
