import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from grpc_status import rpc_status

from mnist_server import hotpath_check
from mnist_server.errors import InvalidRequest, LimitReached
from mnist_server.methods import OTHER
from mnist_server.metrics import Metrics
from mnist_server.rpc import LATER, HotStream, HotUnary

SECONDS = 20.0
UNARY, STREAM, PLAIN = "/test/Unary", "/test/Stream", "/test/Plain"


class Service:
    """Answers a message with itself and `!`, or as its first word says."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.batches: list[int] = []
        self.seen: list[bytes] = []
        self.hold = threading.Event()
        self.hold.set()
        self.held = threading.Event()
        self.room: Callable[[], AbstractContextManager[None]] = nullcontext

    def hot(self, messages: Sequence[bytes]) -> list[bytes | Exception]:
        self.threads.add(threading.get_ident())
        self.batches.append(len(messages))
        self.seen += messages
        if b"hold" in messages:
            self.held.set()
            assert self.hold.wait(SECONDS)
        if b"raise" in messages:
            raise KeyError("a secret")
        if b"short" in messages:
            return []
        special: dict[bytes, Exception] = {
            b"wrong": InvalidRequest("field", "this", "that"),
            b"bug": KeyError("a secret"),
        }
        return [
            LATER if data.startswith((b"later", b"gone")) else special.get(data, data + b"!")
            for data in messages
        ]

    def slow(self, data: bytes, context: Any) -> bytes:
        self.threads.add(threading.get_ident())
        if data == b"gone":
            self.held.set()
            while context.is_active():
                time.sleep(0.001)
            self.seen.append(b"seen to be gone")
            raise grpc.RpcError
        if data == b"later bug":
            raise KeyError("a secret")
        return data + b"?"


@pytest.fixture
def service() -> Service:
    return Service()


def make_server(service: Service, **options: Any) -> tuple[grpc.Server, ThreadPoolExecutor]:
    def stream(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from (data + b"~" for data in messages)

    unary: Any = grpc.unary_unary_rpc_method_handler(service.slow)
    streaming: Any = grpc.stream_stream_rpc_method_handler(stream)
    pool = ThreadPoolExecutor(8)
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)], **options)
    handlers = {"Unary": unary, "Plain": unary, "Stream": streaming}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    return server, pool


def methods(service: Service) -> Any:
    return {
        UNARY: HotUnary(service.hot, service.slow),
        STREAM: HotStream(service.hot, service.slow, lambda: service.room()),
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def engaged(service: Service, metrics: Metrics) -> Iterator[tuple[grpc.Server, int]]:
    """A server on the fast path, and its port. In the end it stops, with nothing left."""
    server, pool = make_server(service)
    path = hotpath_check.prepare(server, methods(service), metrics)
    assert path is not None
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    path.engage()
    yield server, port
    stopped = server.stop(0)
    assert stopped.wait(SECONDS)
    assert not path.state.rpc_states
    assert not path.state.due
    pool.shutdown()


@pytest.fixture
def channel(engaged: tuple[grpc.Server, int]) -> Iterator[Any]:
    with grpc.insecure_channel(f"127.0.0.1:{engaged[1]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


def call(channel: Any, data: bytes, path: str = UNARY) -> Any:
    return channel.unary_unary(path).future(data, timeout=SECONDS)


def stream(channel: Any, messages: Any, **options: Any) -> Any:
    return channel.stream_stream(STREAM)(iter(messages), timeout=SECONDS, **options)


def test_what_is_ready_together_is_answered_together_in_one_thread(service: Service, channel: Any) -> None:
    service.hold.clear()
    first = call(channel, b"hold")
    assert service.held.wait(SECONDS)
    calls = [call(channel, b"%d" % number) for number in range(200)]
    plain = call(channel, b"plain", PLAIN)
    time.sleep(0.2)  # for them to arrive; if they do not, they are answered in more batches
    service.hold.set()
    assert first.result() == b"hold!"
    assert [each.result() for each in calls] == [b"%d!" % number for number in range(200)]
    assert plain.result() == b"plain?"
    assert sum(service.batches) == 201
    assert max(service.batches) > 1


def test_each_gets_its_own_answer_whatever_is_wrong_with_others(service: Service, channel: Any) -> None:
    asked = [b"1", b"wrong", b"later", b"bug", b"2", b"later bug"] * 20
    for data, each in zip(asked, [call(channel, data) for data in asked], strict=True):
        if data in (b"wrong", b"bug", b"later bug"):
            status: Any = rpc_status.from_call(each)
            assert status.code == (code_pb2.INVALID_ARGUMENT if data == b"wrong" else code_pb2.INTERNAL)
            assert status.details
            assert "secret" not in each.details()
        else:
            assert each.result() == data + (b"?" if data == b"later" else b"!")


@pytest.mark.parametrize("data", [b"raise", b"short"])
def test_a_hot_method_that_fails_as_a_whole_stops_nothing(
    service: Service, channel: Any, data: bytes
) -> None:
    failed = call(channel, data)
    assert failed.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in failed.details()
    assert call(channel, b"1").result() == b"1!"


def test_no_work_is_done_past_the_deadline(service: Service, channel: Any) -> None:
    service.hold.clear()
    first = call(channel, b"hold")
    assert service.held.wait(SECONDS)
    late = channel.unary_unary(UNARY).future(b"late", timeout=0.1)
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.5)  # a server counts from when it heard of the call, so its deadline is the later one
    service.hold.set()
    assert first.result() == b"hold!"
    assert call(channel, b"1").result() == b"1!"
    assert b"late" not in service.seen


def test_calls_are_in_flight_until_they_are_answered(
    service: Service, channel: Any, metrics: Metrics
) -> None:
    def counts() -> tuple[int, int, int]:
        method = metrics.read().methods[OTHER]
        return method.started, method.in_flight, method.codes[0]

    service.hold.clear()
    first, slow = call(channel, b"hold"), None
    try:
        assert service.held.wait(SECONDS)
        assert counts() == (1, 1, 0)
        service.held.clear()
    finally:
        service.hold.set()
    assert first.result() == b"hold!"
    slow = call(channel, b"gone")
    assert service.held.wait(SECONDS)
    assert counts() == (2, 1, 1)
    slow.cancel()


def test_slow_work_learns_that_its_caller_is_gone(service: Service, channel: Any) -> None:
    slow = call(channel, b"gone")
    assert service.held.wait(SECONDS)
    slow.cancel()
    deadline = time.monotonic() + SECONDS
    while b"seen to be gone" not in service.seen:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_cancelled_calls_leave_nothing(service: Service, channel: Any) -> None:
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(SECONDS)
        yield b""

    for _ in range(5):
        calls = [call(channel, b"1") for _ in range(50)]
        calls += [channel.stream_unary(UNARY).future(nothing(), timeout=SECONDS) for _ in range(5)]
        calls += [stream(channel, [b"1", b"later", b"2"] * 20) for _ in range(10)]
        for each in calls:
            each.cancel()
        assert call(channel, b"1").result() == b"1!"
    never.set()


def test_a_client_without_a_message_is_told(channel: Any) -> None:
    none = channel.stream_unary(UNARY).future(iter(()), timeout=SECONDS)
    assert none.code() is grpc.StatusCode.UNIMPLEMENTED
    assert channel.unary_unary("/test/Unknown").future(b"", timeout=SECONDS).code() is (
        grpc.StatusCode.UNIMPLEMENTED
    )


@pytest.mark.parametrize("size", [0, 1, 1000, 2**19 + 1, 4 * 2**20])
def test_messages_of_any_size_compressed_or_not(service: Service, channel: Any, size: int) -> None:
    data = b"x" * size
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        each = channel.unary_unary(UNARY).future(data, timeout=SECONDS, compression=compression)
        if size == 4 * 2**20:
            data_back = each.exception()  # the answer is one byte over the client's limit
            assert data_back.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            assert each.result()[:-1] == data
        if size < 2**20:
            assert [part[:-1] for part in stream(channel, [data], compression=compression)] == [data]


def test_a_message_over_the_limit_is_refused(service: Service, channel: Any) -> None:
    assert call(channel, bytes(4 * 2**20 + 1)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    over = stream(channel, [b"1", bytes(4 * 2**20 + 1)])
    with pytest.raises(grpc.RpcError):
        list(over)
    assert over.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(channel, b"1").result() == b"1!"


def test_so_many_bytes_are_answered_together_and_no_more(
    service: Service, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_server.hotpath._BYTES", 10_000)
    sizes = [5000, 100, 4900, 9999, 100, 20_000, 1]
    service.hold.clear()
    held = call(channel, b"hold")
    assert service.held.wait(SECONDS)
    calls = [call(channel, b"x" * size) for size in sizes * 5]
    time.sleep(0.1)  # so that some are there together
    service.hold.set()
    assert [len(each.result()) - 1 for each in (held, *calls)] == [4, *(sizes * 5)]
    together, place = [], 0
    for count in service.batches:
        together.append([len(data) for data in service.seen[place : place + count]])
        place += count
    assert max(map(len, together)) > 1
    small = 10_000 // 64  # which are not counted
    assert all(sum(size for size in batch[:-1] if size > small) < 10_000 for batch in together)


class TestStreams:
    def test_every_message_is_answered(self, service: Service, channel: Any) -> None:
        asked = [b"%d" % number for number in range(500)] + [b"later %d" % number for number in range(5)]
        asked += [b"%d" % number for number in range(500, 520)]
        answers = list(stream(channel, asked))
        assert answers == [data + (b"?" if b"later" in data else b"!") for data in asked]  # in their order
        assert max(service.batches) > 1

    def test_many_at_once(self, service: Service, channel: Any) -> None:
        streams = [stream(channel, [b"%d %d" % (n, m) for m in range(50)]) for n in range(20)]
        for number, answers in enumerate(streams):
            assert sorted(answers) == sorted(b"%d %d!" % (number, m) for m in range(50))

    def test_an_error_ends_its_own_stream_after_what_came_before(
        self, service: Service, channel: Any
    ) -> None:
        other = stream(channel, [b"%d" % number for number in range(100)])
        failing = stream(channel, [b"1", b"later 2", b"wrong", b"3"])
        answers: list[bytes] = []
        with pytest.raises(grpc.RpcError):
            answers += failing
        assert answers == [b"1!", b"later 2?"]
        assert failing.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rpc_status.from_call(failing)
        assert len(list(other)) == 100

    def test_one_too_many_is_refused(self, service: Service, channel: Any) -> None:
        def full() -> AbstractContextManager[None]:
            raise LimitReached("all are taken", 5.0)

        service.room = full
        refused = stream(channel, [b"1"])
        with pytest.raises(grpc.RpcError):
            list(refused)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        service.room = nullcontext
        assert list(stream(channel, [b"1"])) == [b"1!"]

    def test_a_client_that_does_not_read_is_not_read_either(self, service: Service, channel: Any) -> None:
        big = b"x" * 60_000
        unread = stream(channel, [big] * 2000)
        deadline, before = time.monotonic() + SECONDS, -1
        while len(service.seen) != before:  # until no more are taken
            assert time.monotonic() < deadline
            before = len(service.seen)
            time.sleep(0.3)
        assert before < 2000
        assert call(channel, b"1").result() == b"1!"
        unread.cancel()


def test_stop_waits_for_calls_under_load(service: Service) -> None:
    server, pool = make_server(service)
    path = hotpath_check.prepare(server, methods(service), Metrics())
    assert path is not None
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    path.engage()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        service.hold.clear()
        held = call(channel, b"hold")
        assert service.held.wait(SECONDS)
        calls = [call(channel, b"%d" % number) for number in range(100)]
        # Not SECONDS: now and then gRPC's core keeps a call to itself that came while it was told to stop,
        # without our path too, and lets go of it at the end of this.
        stopped = server.stop(SECONDS / 10)
        service.hold.set()
        assert stopped.wait(SECONDS)
        assert held.result() == b"hold!"
        # Those that the server had not been given when it was stopped are gRPC's to send away.
        sent_away = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert {each.code() for each in calls} <= {grpc.StatusCode.OK, *sent_away}
    assert not path.state.rpc_states
    assert not path.state.due
    pool.shutdown()


class Interceptor(grpc.ServerInterceptor):
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        return continuation(handler_call_details)


def test_a_server_with_interceptors_keeps_to_the_public_path(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    server, pool = make_server(service, interceptors=[Interceptor()])
    assert hotpath_check.prepare(server, methods(service), Metrics()) is None
    [record] = caplog.records
    assert "interceptors" in record.message
    pool.shutdown()


@pytest.mark.parametrize(
    "missing",
    [
        "grpc._server._ServerStage",
        "grpc._cython.cygrpc.ReceiveMessageOperation",
        "grpc._cython.cygrpc.WriteFlag",
    ],
)
def test_where_grpcio_differs_the_public_path_serves(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing: str
) -> None:
    server, pool = make_server(service)
    with monkeypatch.context() as changed, caplog.at_level(logging.WARNING):
        changed.delattr(missing)
        assert hotpath_check.prepare(server, methods(service), Metrics()) is None
    [record] = [record for record in caplog.records if record.name == "mnist_server.hotpath_check"]
    assert "fast path is not taken" in record.message
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        assert call(channel, b"1").result() == b"1?"
    server.stop(0).wait(SECONDS)
    pool.shutdown()
