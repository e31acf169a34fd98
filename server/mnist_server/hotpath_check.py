"""The check of the fast path: whether what it relies on is there, tried out at every start.

What is private to grpcio may change with any release of it. So a private server is asked before the server
itself is changed.
"""

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_status import rpc_status

from mnist_server.errors import InvalidRequest
from mnist_server.hotpath import HotPath, Methods
from mnist_server.metrics import Metrics
from mnist_server.rpc import LATER, HotUnary

log = logging.getLogger(__name__)

_CHECK_SECONDS = 5.0


def prepare(server: grpc.Server, methods: Methods, metrics: Metrics) -> HotPath | None:
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
    paths = HotPath(server, {"/check/Hot": HotUnary(hot, ordinary)}, Metrics())
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
