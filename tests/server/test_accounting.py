import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mnist_proto.v1 import evaluation_pb2, evaluation_pb2_grpc, prediction_pb2, prediction_pb2_grpc
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.accounting import counted, counted_stream
from mnist_server.data_directory import DataDirectory
from mnist_server.limits import Limits
from mnist_server.methods import METHODS, OTHER
from mnist_server.metrics import MethodCounts, Metrics
from mnist_server.serving import Server

TIMEOUT = 30.0
OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 2, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED = 8, 12
TRAINING = "/mnist.v1.TrainingService/"
PREDICT = "/mnist.v1.PredictionService/Predict"
PREDICT_STREAM = "/mnist.v1.PredictionService/PredictStream"
EVALUATE = "/mnist.v1.EvaluationService/Evaluate"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def limits() -> Limits:
    return Limits(max_streams=2)


@pytest.fixture
def server(directory: DataDirectory, limits: Limits, metrics: Metrics) -> Iterator[Server]:
    server = Server(directory, "127.0.0.1", 0, limits, metrics)
    server.start()
    yield server
    server.stop()


def health(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)  # of no type


def wait_for(look: Callable[[], object], wanted: object) -> None:
    deadline = time.monotonic() + TIMEOUT
    while (found := look()) != wanted:
        assert time.monotonic() < deadline, f"{found}: expected {wanted}"
        time.sleep(0.005)


def codes(method: MethodCounts) -> dict[int, int]:
    return {code: count for code, count in enumerate(method.codes) if count}


@pytest.fixture
def ended(metrics: Metrics) -> Callable[..., None]:
    """ended(method, code): exactly one call was made, of this method, and it ended so."""

    def check(name: str, code: int) -> None:
        wait_for(lambda: codes(metrics.read().methods[name]), {code: 1})
        counts = metrics.read().methods
        method = counts[name]
        assert (method.started, method.in_flight, sum(method.latency.buckets)) == (1, 0, 1)
        assert [other for other in METHODS if counts[other].started] == [name]

    return check


Ended = Callable[..., None]


def test_an_answer_is_ok(channel: grpc.Channel, ended: Ended) -> None:
    TrainingServiceStub(channel).ListTrainingJobs(pb.ListTrainingJobsRequest(), timeout=TIMEOUT)
    ended(TRAINING + "ListTrainingJobs", OK)


def test_a_prediction_is_ok(channel: grpc.Channel, ended: Ended, make_version: Callable[..., str]) -> None:
    make_version()
    stub = prediction_pb2_grpc.PredictionServiceStub(channel)
    stub.Predict(prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28), timeout=TIMEOUT)
    ended(PREDICT, OK)


def test_refusals_have_their_status(channel: grpc.Channel, ended: Ended, refused: Callable[..., Any]) -> None:
    stub = prediction_pb2_grpc.PredictionServiceStub(channel)
    request = prediction_pb2.PredictRequest(model="models/none", pixels=bytes(784), height=28, width=28)
    refused(lambda: stub.Predict(request, timeout=TIMEOUT), grpc.StatusCode.NOT_FOUND)
    ended(PREDICT, NOT_FOUND)


def test_a_message_that_does_not_parse_has_its_status(channel: Any, ended: Ended) -> None:
    with pytest.raises(grpc.RpcError):
        channel.unary_unary(TRAINING + "GetTrainingJob")(b"\xff", timeout=TIMEOUT)
    ended(TRAINING + "GetTrainingJob", INVALID_ARGUMENT)


def test_a_refused_upload_has_its_status(channel: grpc.Channel, ended: Ended) -> None:
    stub = evaluation_pb2_grpc.EvaluationServiceStub(channel)
    with pytest.raises(grpc.RpcError):
        stub.Evaluate(
            iter(
                [evaluation_pb2.EvaluateRequest(config=evaluation_pb2.EvaluationConfig(model="models/none"))]
            ),
            timeout=TIMEOUT,
        )
    ended(EVALUATE, NOT_FOUND)


def test_a_stream_is_in_flight_until_it_ends(channel: grpc.Channel, metrics: Metrics, ended: Ended) -> None:
    done = threading.Event()

    def requests() -> Iterator[prediction_pb2.PredictStreamRequest]:
        yield prediction_pb2.PredictStreamRequest(id=1)
        done.wait(TIMEOUT)

    answers = prediction_pb2_grpc.PredictionServiceStub(channel).PredictStream(requests(), timeout=TIMEOUT)
    next(answers)
    counts = metrics.read().methods[PREDICT_STREAM]
    assert (counts.started, counts.in_flight, codes(counts)) == (1, 1, {})
    done.set()
    assert list(answers) == []
    ended(PREDICT_STREAM, OK)


def test_a_cancelled_stream_is_cancelled(channel: grpc.Channel, metrics: Metrics, ended: Ended) -> None:
    watch = health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    next(watch)
    assert metrics.read().methods[WATCH].in_flight == 1
    watch.cancel()
    ended(WATCH, CANCELLED)


def test_a_stream_past_its_deadline_says_so(channel: grpc.Channel, ended: Ended) -> None:
    watch = health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=0.3)
    with pytest.raises(grpc.RpcError):
        list(watch)
    ended(WATCH, DEADLINE_EXCEEDED)


def test_one_stream_too_many_is_counted(channel: grpc.Channel, limits: Limits, metrics: Metrics) -> None:
    stub = prediction_pb2_grpc.PredictionServiceStub(channel)
    done = threading.Event()

    def requests() -> Iterator[prediction_pb2.PredictStreamRequest]:
        yield prediction_pb2.PredictStreamRequest(id=1)
        done.wait(TIMEOUT)

    streams = [stub.PredictStream(requests(), timeout=TIMEOUT) for _ in range(limits.max_streams)]
    for stream in streams:
        next(stream)
    with pytest.raises(grpc.RpcError):
        next(stub.PredictStream(requests(), timeout=TIMEOUT))
    wait_for(lambda: codes(metrics.read().methods[PREDICT_STREAM]), {RESOURCE_EXHAUSTED: 1})
    assert metrics.read().methods[PREDICT_STREAM].in_flight == limits.max_streams
    done.set()
    for stream in streams:
        list(stream)
    wait_for(
        lambda: codes(metrics.read().methods[PREDICT_STREAM]),
        {OK: limits.max_streams, RESOURCE_EXHAUSTED: 1},
    )


def test_health_is_counted(channel: grpc.Channel, ended: Ended) -> None:
    health(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    ended(CHECK, OK)


def test_reflection_is_counted(channel: grpc.Channel, ended: Ended) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    assert len(list(stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT))) == 1
    ended(REFLECT, OK)


@pytest.mark.parametrize("path", ["/mnist.v1.PredictionService/Guess", "/who.Knows/What"])
def test_a_method_that_is_not_served_is_counted_as_another(channel: Any, ended: Ended, path: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(path)(b"", timeout=TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    ended(OTHER, UNIMPLEMENTED)


class Context:
    """A call that nothing has happened to."""

    def code(self) -> None:
        return None

    def is_active(self) -> bool:
        return True


def test_an_exception_that_nobody_caught_is_unknown_and_goes_on(metrics: Metrics) -> None:
    context: Any = Context()

    def fail(data: object, context: grpc.ServicerContext) -> None:
        raise ZeroDivisionError

    def fail_later(data: object, context: grpc.ServicerContext) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        counted(metrics, PREDICT, fail)(b"", context)
    with pytest.raises(ZeroDivisionError):
        list(counted_stream(metrics, PREDICT_STREAM, fail_later)(b"", context))
    assert codes(metrics.read().methods[PREDICT]) == {UNKNOWN: 1}
    assert codes(metrics.read().methods[PREDICT_STREAM]) == {UNKNOWN: 1}
