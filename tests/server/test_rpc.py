import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from mnist_core import InvalidValue
from mnist_proto.v1 import evaluation_pb2, evaluation_pb2_grpc, training_pb2, training_pb2_grpc
from mnist_server import rpc as rpc_module
from mnist_server.metrics import Metrics
from mnist_server.rpc import Calls, Silence, bind
from mnist_server.status import DOMAIN

SECONDS = 20.0  # a deadline for what takes some milliseconds
STREAM_LIMIT = 3
TURNS = 2

Behavior = Callable[[Any, grpc.ServicerContext], Any]


class Servicer:
    """Answers every method of every service as a test says, by the method's name."""

    def __init__(self) -> None:
        self.behaviors: dict[str, Behavior] = {}

    def __getattr__(self, name: str) -> Behavior:
        return lambda data, context: self.behaviors[name](data, context)


class Wire:
    """A client that can send anything to anyone: each kind of call by a method of that kind."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel: Any = channel  # its types ask for serializers, which bytes do without
        self.training = training_pb2_grpc.TrainingServiceStub(channel)
        self.evaluation = evaluation_pb2_grpc.EvaluationServiceStub(channel)

    def call(self, name: str, *, first: bool = True) -> list[Message]:
        """Calls the method `name` with two requests where it takes many. Returns its answers."""
        if name == "GetTrainingJob":
            return [
                self.training.GetTrainingJob(training_pb2.GetTrainingJobRequest(job="1"), timeout=SECONDS)
            ]
        if name == "WatchTraining":
            return list(
                self.training.WatchTraining(training_pb2.WatchTrainingRequest(job="1"), timeout=SECONDS)
            )
        if name == "Evaluate":
            requests = iter([evaluation_pb2.EvaluateRequest()] * 2)
            return [self.evaluation.Evaluate(requests, timeout=SECONDS)]
        return list(self.training.Train(iter([training_pb2.TrainRequest()] * 2), timeout=SECONDS))

    def send(self, name: str, *messages: bytes) -> object:
        """Sends bytes, whatever they are, and waits for the end of the call."""
        service = "EvaluationService" if name == "Evaluate" else "TrainingService"
        path = f"/mnist.v1.{service}/{name}"
        if name == "GetTrainingJob":
            return self.channel.unary_unary(path)(messages[-1], timeout=SECONDS)
        if name == "WatchTraining":
            return list(self.channel.unary_stream(path)(messages[-1], timeout=SECONDS))
        if name == "Evaluate":
            return self.channel.stream_unary(path)(iter(messages), timeout=SECONDS)
        return list(self.channel.stream_stream(path)(iter(messages), timeout=SECONDS))


METHODS = ["GetTrainingJob", "WatchTraining", "Evaluate", "Train"]
STREAMS = METHODS[1:]
ANSWERS: dict[str, type[Message]] = {
    "GetTrainingJob": training_pb2.GetTrainingJobResponse,
    "WatchTraining": training_pb2.WatchTrainingResponse,
    "Evaluate": evaluation_pb2.EvaluateResponse,
    "Train": training_pb2.TrainResponse,
}


def behavior(name: str, action: Callable[[], None]) -> Behavior:
    """A behaviour that reads all there is to read, then does `action`, then answers once."""

    def unary(data: Any, context: grpc.ServicerContext) -> Message:
        if name == "Evaluate":
            assert len(list(data)) == 2
        action()
        return ANSWERS[name]()

    def streaming(data: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        if name == "Train":
            assert len(list(data)) == 2
        yield ANSWERS[name]()
        action()

    return unary if name in ("GetTrainingJob", "Evaluate") else streaming


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def calls() -> Calls:
    return Calls(TURNS, STREAM_LIMIT)


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(200)


@pytest.fixture
def wire(servicer: Servicer, calls: Calls, pool: ThreadPoolExecutor) -> Iterator[Wire]:
    server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
    services = (
        training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        evaluation_pb2.DESCRIPTOR.services_by_name["EvaluationService"],
    )
    server.add_generic_rpc_handlers(tuple(bind(service, servicer, calls, Metrics()) for service in services))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            yield Wire(channel)
    finally:
        server.stop(0).wait(SECONDS)
        pool.shutdown()


def status_of(error: Any) -> status_pb2.Status:
    status: status_pb2.Status | None = rpc_status.from_call(error)
    assert status is not None, f"no details: {error}"
    assert error.code().value[0] == status.code
    assert error.details() == status.message
    return status


def reason_of(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == DOMAIN
    return str(info.reason)


def fail(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize("name", METHODS)
def test_messages_come_parsed_and_answers_leave(servicer: Servicer, wire: Wire, name: str) -> None:
    servicer.behaviors[name] = behavior(name, lambda: None)
    assert wire.call(name) == [ANSWERS[name]()]


def test_a_message_is_the_one_that_was_sent(servicer: Servicer, wire: Wire) -> None:
    servicer.behaviors["GetTrainingJob"] = lambda request, context: training_pb2.GetTrainingJobResponse(
        job=training_pb2.TrainingJob(name=request.job)
    )
    assert wire.call("GetTrainingJob") == [
        training_pb2.GetTrainingJobResponse(job=training_pb2.TrainingJob(name="1"))
    ]


@pytest.mark.parametrize("name", METHODS)
def test_an_error_becomes_a_status_with_details(servicer: Servicer, wire: Wire, name: str) -> None:
    servicer.behaviors[name] = behavior(name, fail(InvalidValue("job", "1", "another")))
    with pytest.raises(grpc.RpcError) as raised:
        wire.call(name)
    status = status_of(raised.value)
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.message == "job: '1' is not valid: expected another"
    assert reason_of(status) == "INVALID_VALUE"
    request = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(request)
    assert request.field_violations[0].field == "job"


@pytest.mark.parametrize("name", METHODS)
def test_our_own_bug_leaves_without_its_text(
    servicer: Servicer, wire: Wire, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    servicer.behaviors[name] = behavior(name, fail(KeyError("a secret")))
    with caplog.at_level(logging.ERROR, "mnist_server"), pytest.raises(grpc.RpcError) as raised:
        wire.call(name)
    status = status_of(raised.value)
    assert (status.code, reason_of(status)) == (code_pb2.INTERNAL, "INTERNAL")
    assert "secret" not in str(raised.value)
    [record] = [record for record in caplog.records if record.name == "mnist_server.status"]
    assert vars(record)["log_id"] in status.message


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_message_are_the_callers_fault(servicer: Servicer, wire: Wire, name: str) -> None:
    servicer.behaviors[name] = behavior(name, lambda: None)
    with pytest.raises(grpc.RpcError) as raised:
        wire.send(name, b"", b"\xff\xff\xff")
    status = status_of(raised.value)
    request = f"mnist.v1.{name}Request"
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert status.message == f"request: a message of 3 bytes is not valid: expected a {request}"
    wire.send(name, b"", b"")  # and the next call is answered


def test_text_that_is_no_text_is_the_callers_fault(servicer: Servicer, wire: Wire) -> None:
    servicer.behaviors["GetTrainingJob"] = behavior("GetTrainingJob", lambda: None)
    with pytest.raises(grpc.RpcError) as raised:
        wire.send("GetTrainingJob", b"\x0a\x01\xff")  # field 1, a string of one byte that is no UTF-8
    assert status_of(raised.value).code == code_pb2.INVALID_ARGUMENT


@pytest.mark.parametrize("letter", ["a", "%", "é", "😀"])
def test_a_long_text_arrives_cut_and_with_its_details(servicer: Servicer, wire: Wire, letter: str) -> None:
    servicer.behaviors["GetTrainingJob"] = behavior(
        "GetTrainingJob", fail(InvalidValue("job", "1", letter * 100_000))
    )
    for _ in range(20):  # gRPC drops headers beyond its soft limit at random
        with pytest.raises(grpc.RpcError) as raised:
            wire.call("GetTrainingJob")
        assert status_of(raised.value).code == code_pb2.INVALID_ARGUMENT


def held_open(servicer: Servicer) -> threading.Event:
    """Has WatchTraining answer once, then wait until the event is set or the client is gone."""
    release = threading.Event()

    def watch(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        gone = threading.Event()
        if context.add_callback(gone.set):
            yield training_pb2.WatchTrainingResponse()
            while not release.wait(0.01) and not gone.is_set():
                pass

    servicer.behaviors["WatchTraining"] = watch
    return release


def watch(wire: Wire) -> Any:
    """Opens a watch; returns it once it has answered."""
    call: Any = wire.training.WatchTraining(training_pb2.WatchTrainingRequest(), timeout=SECONDS)
    next(call)
    return call


def test_a_stream_too_many_is_refused_at_once_and_calls_of_one_message_are_not(
    servicer: Servicer, wire: Wire
) -> None:
    release = held_open(servicer)
    for name in ("GetTrainingJob", "Evaluate", "Train"):
        servicer.behaviors[name] = behavior(name, lambda: None)
    calls = [watch(wire) for _ in range(STREAM_LIMIT)]
    for name in STREAMS * 20:
        with pytest.raises(grpc.RpcError) as raised:
            wire.call(name)
        status = status_of(raised.value)
        assert status.code == code_pb2.RESOURCE_EXHAUSTED
        assert status.message == f"{STREAM_LIMIT} streams are open: expected fewer than {STREAM_LIMIT}"
        assert reason_of(status) == "LIMIT_REACHED"
        retry = error_details_pb2.RetryInfo()
        assert status.details[1].Unpack(retry)
        assert retry.retry_delay.seconds == 5
        assert wire.call("GetTrainingJob")
    release.set()
    for call in calls:
        assert list(call) == []
    for name in STREAMS:
        assert wire.call(name)


def test_many_streams_too_many_at_once_are_all_refused(servicer: Servicer, wire: Wire) -> None:
    release = held_open(servicer)
    calls = [watch(wire) for _ in range(STREAM_LIMIT)]
    many = [
        wire.training.WatchTraining(training_pb2.WatchTrainingRequest(), timeout=SECONDS) for _ in range(100)
    ]
    assert {call.code() for call in many} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    release.set()
    assert [call.code() for call in calls] == [grpc.StatusCode.OK] * STREAM_LIMIT


def test_a_stream_that_its_client_left_makes_room(servicer: Servicer, wire: Wire) -> None:
    held_open(servicer)
    for _ in range(4):
        calls = [wait_for_room(wire) for _ in range(STREAM_LIMIT)]
        for call in calls:
            call.cancel()


def wait_for_room(wire: Wire) -> Any:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return watch(wire)
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_failed_makes_room(servicer: Servicer, wire: Wire, name: str) -> None:
    servicer.behaviors[name] = behavior(name, fail(InvalidValue("job", "1", "another")))
    for _ in range(3 * STREAM_LIMIT):
        with pytest.raises(grpc.RpcError) as raised:
            wire.call(name)
        assert status_of(raised.value).code == code_pb2.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["Evaluate", "Train"])
def test_a_client_that_is_gone_in_the_middle_is_nobodys_error(
    servicer: Servicer, wire: Wire, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    reading, cleaned = threading.Event(), threading.Event()

    def collecting(requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        try:
            for _ in requests:
                reading.set()
        finally:
            cleaned.set()
        return ANSWERS[name]()

    def streaming(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        yield collecting(requests, context)

    servicer.behaviors[name] = collecting if name == "Evaluate" else streaming
    more = threading.Event()

    def requests() -> Iterator[Any]:
        yield evaluation_pb2.EvaluateRequest() if name == "Evaluate" else training_pb2.TrainRequest()
        more.wait(SECONDS)

    call: Any
    if name == "Evaluate":
        call = wire.evaluation.Evaluate.future(requests(), timeout=SECONDS)
    else:
        call = wire.training.Train(requests(), timeout=SECONDS)
    assert reading.wait(SECONDS)
    call.cancel()
    assert cleaned.wait(SECONDS)
    more.set()
    assert not [record for record in caplog.records if record.name.startswith("mnist_server")]


@pytest.mark.parametrize("name", ["Evaluate", "Train"])
def test_a_message_over_the_limit_in_the_middle_is_never_taken_for_the_end(
    servicer: Servicer, wire: Wire, name: str
) -> None:
    finished: list[str] = []
    cleaned = threading.Semaphore(0)

    def collecting(requests: Iterator[Message], context: grpc.ServicerContext) -> Message:
        try:
            for _ in requests:
                pass
            finished.append(name)
        finally:
            cleaned.release()
        return ANSWERS[name]()

    def streaming(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        yield collecting(requests, context)

    servicer.behaviors[name] = collecting if name == "Evaluate" else streaming

    def send(_: int) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as raised:
            wire.send(name, b"", bytes(4 * 2**20 + 1))  # gRPC's own limit is 4 MiB
        assert cleaned.acquire(timeout=SECONDS)
        error: Any = raised.value
        code: grpc.StatusCode = error.code()
        return code

    with ThreadPoolExecutor(STREAM_LIMIT) as clients:
        assert set(clients.map(send, range(18))) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert not finished


def test_calls_of_one_message_take_turns(servicer: Servicer, wire: Wire) -> None:
    lock = threading.Lock()
    running, most = 0, 0

    def action() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    servicer.behaviors["GetTrainingJob"] = behavior("GetTrainingJob", action)
    with ThreadPoolExecutor(10) as clients:
        answers = list(clients.map(wire.call, ["GetTrainingJob"] * 50))
    assert len(answers) == 50
    assert most == TURNS


def test_a_turn_is_given_back_after_an_error(servicer: Servicer, wire: Wire) -> None:
    for error in (InvalidValue("job", "1", "another"), KeyError("a bug"), grpc.RpcError("gone")):
        servicer.behaviors["GetTrainingJob"] = behavior("GetTrainingJob", fail(error))
        for _ in range(TURNS + 1):
            with pytest.raises(grpc.RpcError):
                wire.call("GetTrainingJob")
    servicer.behaviors["GetTrainingJob"] = behavior("GetTrainingJob", lambda: None)
    assert wire.call("GetTrainingJob")


def test_clients_that_never_send_their_message_keep_nobody_waiting(servicer: Servicer, wire: Wire) -> None:
    servicer.behaviors["GetTrainingJob"] = behavior("GetTrainingJob", lambda: None)
    never = threading.Event()

    def nothing() -> Iterator[bytes]:
        never.wait(SECONDS)
        yield b""

    path = "/mnist.v1.TrainingService/GetTrainingJob"
    silent = [wire.channel.stream_unary(path).future(nothing(), timeout=SECONDS) for _ in range(20)]
    for _ in range(20):
        assert wire.call("GetTrainingJob")
    for call in silent:
        call.cancel()
    never.set()


def test_a_call_whose_caller_has_given_up_waiting_is_not_answered(
    servicer: Servicer,
    wire: Wire,
    calls: Calls,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered: list[str] = []
    check_wanted, asked = rpc_module.check_wanted, threading.Event()

    def once_the_server_has_heard(context: grpc.ServicerContext) -> None:
        while not asked.is_set() and context.is_active():
            time.sleep(0.001)
        asked.set()
        check_wanted(context)

    monkeypatch.setattr(rpc_module, "check_wanted", once_the_server_has_heard)

    def answer(request: training_pb2.GetTrainingJobRequest, context: grpc.ServicerContext) -> Message:
        answered.append(request.job)
        return training_pb2.GetTrainingJobResponse()

    servicer.behaviors["GetTrainingJob"] = answer
    for _ in range(TURNS):
        assert calls.turns.acquire(timeout=SECONDS)
    with pytest.raises(grpc.RpcError) as raised:
        wire.training.GetTrainingJob(training_pb2.GetTrainingJobRequest(job="given up"), timeout=0.2)
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    for _ in range(TURNS):
        calls.turns.release()
    assert asked.wait(SECONDS)
    assert wire.call("GetTrainingJob")
    pool.shutdown()
    assert answered == ["1"]


def test_a_service_is_bound_with_all_its_methods_or_not_at_all(calls: Calls) -> None:
    with pytest.raises(AttributeError, match="Evaluate"):
        bind(evaluation_pb2.DESCRIPTOR.services_by_name["EvaluationService"], object(), calls, Metrics())


class Context:
    """As much of a call as Silence needs."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """Stands for the modules time and threading: time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cancels = True
        self._timers: list[tuple[float, Callable[[], None], Any]] = []

    def monotonic(self) -> float:
        return self.now

    def Timer(self, seconds: float, action: Callable[[], None]) -> Any:
        clock, due = self, self.now + seconds

        class _Timer:
            daemon = False

            def start(self) -> None:
                clock._timers.append((due, action, self))

            def cancel(self) -> None:
                if clock.cancels:
                    clock._timers[:] = [timer for timer in clock._timers if timer[2] is not self]

        return _Timer()

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self._timers if timer[0] <= self.now]
        self._timers[:] = [timer for timer in self._timers if timer[0] > self.now]
        for _, action, _ in due:
            action()

    @property
    def waiting(self) -> int:
        return len(self._timers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rpc_module, "time", clock)
    monkeypatch.setattr(rpc_module, "threading", clock)
    return clock


def test_a_call_whose_client_says_nothing_is_ended(clock: Clock) -> None:
    context: Any = Context()
    with Silence(context, 60.0):
        clock.pass_by(59)
        assert not context.cancelled
        clock.pass_by(1)
        assert context.cancelled


def test_a_call_whose_client_goes_on_is_not_ended(clock: Clock) -> None:
    context: Any = Context()
    with Silence(context, 60.0) as silence:
        for _ in range(20):
            clock.pass_by(45)
            silence.heard()
            clock.pass_by(14)
            assert not context.cancelled
            assert clock.waiting == 1
        clock.pass_by(46)
        assert context.cancelled


def test_a_call_that_is_over_is_not_waited_for(clock: Clock) -> None:
    context: Any = Context()
    with Silence(context, 60.0) as silence:
        clock.pass_by(30)
        silence.heard()
    assert clock.waiting == 0
    clock.pass_by(1000)
    assert not context.cancelled


def test_a_timer_that_went_off_while_its_call_ended_does_nothing(clock: Clock) -> None:
    context: Any = Context()
    clock.cancels = False
    with Silence(context, 60.0):
        pass
    clock.pass_by(60)
    assert not context.cancelled
    assert clock.waiting == 0


def test_silence_ends_a_real_call(servicer: Servicer, wire: Wire) -> None:
    cleaned = threading.Event()

    def train(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        try:
            with Silence(context, 0.05) as silence:
                for _ in requests:
                    silence.heard()
        finally:
            cleaned.set()
        yield training_pb2.TrainResponse()

    servicer.behaviors["Train"] = train
    over = threading.Event()

    def requests() -> Iterator[training_pb2.TrainRequest]:
        yield training_pb2.TrainRequest()
        over.wait(SECONDS)

    call = wire.training.Train(requests(), timeout=SECONDS)
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.code() is grpc.StatusCode.CANCELLED
    assert cleaned.wait(SECONDS)
    over.set()
