import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mnist_proto.v1 import evaluation_pb2, images_pb2, prediction_pb2, training_pb2
from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server import serving
from mnist_server.data_directory import DataDirectory
from mnist_server.errors import WrongState
from mnist_server.limits import Limits
from mnist_server.serving import Server

DEADLINE = 2.0
TIMEOUT = 30.0
Refused = Callable[..., Any]
Messages = Callable[..., list[training_pb2.TrainRequest]]

SERVICES = [
    "grpc.health.v1.Health",
    "inference.GRPCInferenceService",
    "mnist.v1.DatasetService",
    "mnist.v1.EvaluationService",
    "mnist.v1.ModelService",
    "mnist.v1.PredictionService",
    "mnist.v1.ServerService",
    "mnist.v1.TrainingService",
]
WATCHERS = 100
PREDICT = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
LONG: dict[str, Any] = {
    "train": 4000,
    "hidden_layers": training_pb2.HiddenLayers(sizes=[300]),
    "epochs": 100_000,
}


@pytest.fixture(params=[True, False], ids=["fast", "public"])
def fast_path(request: pytest.FixtureRequest) -> bool:
    """Every test here is run on both paths."""
    return bool(request.param)


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """The server's limits; a test gives its own through indirect parametrization."""
    return getattr(request, "param", Limits())


@pytest.fixture
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are accepted wait."""
    monkeypatch.setattr("mnist_server.scheduler.Scheduler._begin", lambda self, job: None)


@pytest.fixture
def waiting(no_trainer: None, server: Server, make_job: Callable[..., str]) -> str:
    """A job that waits for ever."""
    return make_job()


def health(channel: grpc.Channel) -> Any:  # the types of both are incomplete
    return health_pb2_grpc.HealthStub(channel)


def reflection(channel: grpc.Channel) -> Any:
    return reflection_pb2_grpc.ServerReflectionStub(channel)


def watch(channel: grpc.Channel, job: str) -> Any:
    request = training_pb2.WatchTrainingRequest(job=job)
    return TrainingServiceStub(channel).WatchTraining(request, timeout=TIMEOUT)


def start(channel: grpc.Channel, messages: list[training_pb2.TrainRequest]) -> str:
    """Has a job accepted and leaves its stream. Returns its name."""
    call: Any = TrainingServiceStub(channel).Train(iter(messages), timeout=TIMEOUT)
    name = str(next(call).event.job)
    call.cancel()
    return name


def predict(channel: grpc.Channel) -> str:
    return PredictionServiceStub(channel).Predict(PREDICT, timeout=DEADLINE).model


class TestStarvation:
    def test_a_hundred_watchers_keep_no_prediction_waiting(
        self, channel: grpc.Channel, make_version: Callable[..., str], make_messages: Messages
    ) -> None:
        make_version()
        job = start(channel, make_messages(train=4000, test=1000, epochs=100_000))
        calls = [watch(channel, job) for _ in range(WATCHERS)]
        seen = [0] * WATCHERS

        def read(index: int) -> None:
            try:
                for message in calls[index]:
                    seen[index] = message.event.sequence or message.notice.sequence
            except grpc.RpcError as error:
                call: Any = error
                assert call.code() is grpc.StatusCode.CANCELLED

        readers = [threading.Thread(target=read, args=(index,)) for index in range(WATCHERS)]
        for reader in readers:
            reader.start()
        try:
            rounds, deadline = 0, time.monotonic() + 2 * TIMEOUT
            while rounds < 100 or min(seen) < 10:  # until each has seen epochs go by
                assert time.monotonic() < deadline
                assert predict(channel)
                health(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
                rounds += 1
        finally:
            for call in calls:
                call.cancel()
            for reader in readers:
                reader.join(TIMEOUT)
        assert not any(reader.is_alive() for reader in readers)

    @pytest.mark.parametrize("limits", [Limits(max_streams=40)], indirect=True)
    def test_streams_that_say_nothing_keep_no_prediction_waiting(
        self, channel: grpc.Channel, make_version: Callable[..., str], waiting: str
    ) -> None:
        make_version()
        done = threading.Event()

        def silent() -> Iterator[Any]:
            done.wait(TIMEOUT)
            yield from ()

        calls: list[Any] = []
        try:
            for _ in range(10):
                calls.append(reflection(channel).ServerReflectionInfo(silent(), timeout=TIMEOUT))
                calls.append(PredictionServiceStub(channel).PredictStream(silent(), timeout=TIMEOUT))
                calls.append(TrainingServiceStub(channel).Train(silent(), timeout=TIMEOUT))
                calls.append(EvaluationServiceStub(channel).Evaluate.future(silent(), timeout=TIMEOUT))
                calls.append(health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT))
            for _ in range(20):
                assert predict(channel)
        finally:
            for call in calls:
                call.cancel()
            done.set()


class TestStreamLimit:
    @pytest.mark.parametrize("limits", [Limits(max_streams=3)], indirect=True)
    def test_a_stream_too_many_is_refused_at_once(
        self, channel: grpc.Channel, make_version: Callable[..., str], waiting: str, refused: Refused
    ) -> None:
        make_version()
        calls = [watch(channel, waiting) for _ in range(3)]
        for call in calls:
            assert next(call).event.sequence == 1
        exhausted, words = grpc.StatusCode.RESOURCE_EXHAUSTED, ("3 streams are open", "fewer than 3")
        refused(lambda: list(watch(channel, waiting)), exhausted, *words)
        evaluate = EvaluationServiceStub(channel).Evaluate
        refused(lambda: evaluate(iter(()), timeout=DEADLINE), exhausted, *words)
        assert predict(channel)
        well = health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert next(well).status == health_pb2.HealthCheckResponse.SERVING
        calls[0].cancel()
        calls[0] = self.when_there_is_room(channel, waiting)
        for call in [*calls, well]:
            call.cancel()

    @pytest.mark.parametrize("limits", [Limits(max_streams=8)], indirect=True)
    def test_streams_that_are_cancelled_at_once_leave_their_room_to_others(
        self, channel: grpc.Channel, waiting: str
    ) -> None:
        for _ in range(50):
            for call in (
                watch(channel, waiting),
                TrainingServiceStub(channel).Train(iter([training_pb2.TrainRequest()]), timeout=TIMEOUT),
                PredictionServiceStub(channel).PredictStream(iter(()), timeout=TIMEOUT),
                health(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT),
                reflection(channel).ServerReflectionInfo(iter(()), timeout=TIMEOUT),
                EvaluationServiceStub(channel).Evaluate.future(
                    iter([evaluation_pb2.EvaluateRequest()]), timeout=TIMEOUT
                ),
            ):
                cancellable: Any = call
                cancellable.cancel()
        calls = [self.when_there_is_room(channel, waiting) for _ in range(8)]
        for call in calls:
            call.cancel()

    @staticmethod
    def when_there_is_room(channel: grpc.Channel, job: str) -> Any:
        """Returns a watch that was let in; a stream's room is free a moment after the stream ended."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            call = watch(channel, job)
            try:
                assert next(call).event.sequence == 1
            except grpc.RpcError:
                assert time.monotonic() < deadline, "the stream's room was never given back"
                time.sleep(0.02)
            else:
                return call


class TestHealth:
    def test_every_service_is_serving(self, channel: grpc.Channel) -> None:
        stub = health(channel)
        for service in ["", *SERVICES]:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING

    @pytest.mark.skipif(
        not hasattr(health_pb2, "HealthListRequest"), reason="grpcio-health-checking before 1.76 has no List"
    )
    def test_all_are_listed(self, channel: grpc.Channel) -> None:
        generated: Any = health_pb2
        statuses = health(channel).List(generated.HealthListRequest(), timeout=DEADLINE).statuses
        assert sorted(statuses) == ["", *SERVICES]

    def test_an_unknown_service_is_not_found(self, channel: grpc.Channel, refused: Refused) -> None:
        request = health_pb2.HealthCheckRequest(service="mnist.v1.Unknown")
        words = ("'mnist.v1.Unknown'", "'mnist.v1.PredictionService'")
        refused(lambda: health(channel).Check(request, timeout=DEADLINE), grpc.StatusCode.NOT_FOUND, *words)
        watch = health(channel).Watch(request, timeout=TIMEOUT)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()

    def test_a_watch_hears_of_the_end(self, server: Server, channel: grpc.Channel) -> None:
        stub = health(channel)
        request = health_pb2.HealthCheckRequest(service="mnist.v1.PredictionService")
        call: Any = stub.Watch(request, timeout=TIMEOUT)
        assert next(call).status == health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(call).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(call) == []
        stopping.join(TIMEOUT)


class TestReflection:
    def ask(self, channel: grpc.Channel, **fields: Any) -> Any:
        request = reflection_pb2.ServerReflectionRequest(**fields)
        [answer] = reflection(channel).ServerReflectionInfo(iter([request]), timeout=DEADLINE)
        return answer

    def test_lists_all_services(self, channel: grpc.Channel) -> None:
        services = self.ask(channel, list_services="").list_services_response.service
        names = sorted(service.name for service in services)
        assert names == sorted([*SERVICES, "grpc.reflection.v1alpha.ServerReflection"])

    @pytest.mark.parametrize("service", SERVICES)
    def test_describes_each(self, channel: grpc.Channel, service: str) -> None:
        answer = self.ask(channel, file_containing_symbol=service)
        assert any(
            service.rpartition(".")[2].encode() in file
            for file in answer.file_descriptor_response.file_descriptor_proto
        )

    def test_knows_no_other(self, channel: grpc.Channel) -> None:
        answer = self.ask(channel, file_containing_symbol="mnist.v1.Unknown")
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


class TestStopping:
    def test_every_watcher_is_told_where_to_go_on_and_ends_cleanly(
        self, server: Server, channel: grpc.Channel, make_messages: Messages
    ) -> None:
        job = start(channel, make_messages(**LONG))
        calls = [watch(channel, job) for _ in range(20)]
        for call in calls:
            while next(call).event.sequence < 3:
                pass
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        for call in calls:
            sequence = 0
            for message in call:
                sequence = message.event.sequence or sequence
            assert message.notice.HasField("draining")
            assert (message.notice.job, message.notice.sequence) == (job, max(sequence, 3))
            assert call.code() is grpc.StatusCode.OK
        stopping.join(TIMEOUT)
        assert not stopping.is_alive()

    def test_open_calls_are_ended_and_new_ones_sent_away(
        self, server: Server, channel: grpc.Channel, directory: DataDirectory
    ) -> None:
        """An upload that goes on for ever is given its grace, and leaves nothing."""
        done = threading.Event()
        batch = images_pb2.LabeledImages(pixels=bytes(784), height=28, width=28, labels=b"\0")
        batch.split = images_pb2.SPLIT_TRAIN

        def endless() -> Iterator[training_pb2.TrainRequest]:
            yield training_pb2.TrainRequest(config=training_pb2.TrainingConfig())
            while not done.wait(0.05):
                yield training_pb2.TrainRequest(batch=batch)

        upload: Any = TrainingServiceStub(channel).Train(endless(), timeout=TIMEOUT)
        while not list(directory.datasets.iterdir()):
            time.sleep(0.01)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        deadline = time.monotonic() + TIMEOUT
        code = None
        while code is not grpc.StatusCode.UNAVAILABLE:
            assert time.monotonic() < deadline
            try:
                predict(channel)
            except grpc.RpcError as error:
                call: Any = error
                code = call.code()
        assert upload.code() is not grpc.StatusCode.OK
        stopping.join(TIMEOUT)
        done.set()
        assert not stopping.is_alive()
        assert list(directory.datasets.iterdir()) == []

    def test_a_job_accepted_while_the_server_stops_is_said_to_be(
        self,
        server: Server,
        channel: grpc.Channel,
        directory: DataDirectory,
        make_messages: Messages,
        no_trainer: None,
    ) -> None:
        """Its stream ends at once, and begins as every other does."""
        stopping = threading.Thread(target=server.stop)

        def messages() -> Iterator[training_pb2.TrainRequest]:
            *most, last = make_messages(epochs=1)
            yield from most
            while not list(directory.datasets.iterdir()):
                time.sleep(0.01)
            stopping.start()
            while not server._feed._draining:
                time.sleep(0.01)
            yield last

        accepted, notice = TrainingServiceStub(channel).Train(messages(), timeout=TIMEOUT)
        assert accepted.event.HasField("accepted")
        assert notice.notice.HasField("draining")
        assert (notice.notice.job, notice.notice.sequence) == (accepted.event.job, 1)
        stopping.join(TIMEOUT)


class TestStarting:
    def test_port_0_is_one_that_is_free(self, server: Server) -> None:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"

    def test_a_second_server_on_the_directory_is_refused_naming_the_first(
        self, server: Server, directory: DataDirectory
    ) -> None:
        with pytest.raises(WrongState) as caught:
            Server(directory, "127.0.0.1", 0)
        assert str(directory.root) in str(caught.value)
        assert server.address in str(caught.value)

    def test_a_port_in_use_is_refused_and_the_directory_left_to_others(
        self, directory: DataDirectory
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            for _ in range(2):
                with pytest.raises(OSError, match=f"127.0.0.1:{port} cannot be listened on"):
                    Server(directory, "127.0.0.1", port)

    @pytest.mark.parametrize("host", ["::1", "[::1]"])
    def test_listens_on_ipv6(self, directory: DataDirectory, host: str) -> None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")
        server = Server(directory, host, 0)
        server.start()
        try:
            assert server.address == f"[::1]:{server.port}"
            with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
                assert health(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE).status
        finally:
            server.stop()

    def test_methods_that_are_not_there_are_unimplemented(self, channel: grpc.Channel) -> None:
        raw: Any = channel
        with pytest.raises(grpc.RpcError) as caught:
            raw.unary_unary("/mnist.v1.TrainingService/StopTraining")(b"", timeout=DEADLINE)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED

    def test_more_calls_than_there_may_be_are_refused_and_not_queued(
        self, monkeypatch: pytest.MonkeyPatch, directory: DataDirectory
    ) -> None:
        monkeypatch.setattr(serving, "_MAX_CALLS", 4)
        server = Server(directory, "127.0.0.1", 0)
        server.start()
        done = threading.Event()

        def silent() -> Iterator[bytes]:
            done.wait(TIMEOUT)
            yield from ()

        try:
            with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
                raw: Any = channel

                def begin() -> Any:
                    return raw.stream_unary("/mnist.v1.ModelService/ListModels").future(silent())

                calls = [begin() for _ in range(4)]
                deadline = time.monotonic() + TIMEOUT
                code = None
                while code is not grpc.StatusCode.RESOURCE_EXHAUSTED:  # until the four have arrived
                    assert time.monotonic() < deadline
                    try:
                        raw.unary_unary("/mnist.v1.ModelService/ListModels")(b"", timeout=DEADLINE)
                    except grpc.RpcError as error:
                        call: Any = error
                        code = call.code()
                    # The call above may have been there before the last of the four, which then was refused.
                    calls = [begin() if call.done() else call for call in calls]
                for call in calls:
                    call.cancel()
                while code is not None:  # until the four are gone
                    assert time.monotonic() < deadline
                    try:
                        raw.unary_unary("/mnist.v1.ModelService/ListModels")(b"", timeout=DEADLINE)
                        code = None
                    except grpc.RpcError:
                        time.sleep(0.02)
        finally:
            done.set()
            server.stop()
