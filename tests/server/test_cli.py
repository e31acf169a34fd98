import json
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mnist_client.datasets import Dataset
from mnist_core import Dataset as CoreDataset
from mnist_core import EpochReport, Split, TrainingConfig, TrainingState, train
from mnist_proto import __version__
from mnist_proto.v1 import model_pb2, server_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.server_pb2_grpc import ServerServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.database import SCHEMA_VERSION

TIMEOUT = 30.0
DEADLINE = 2.0
GRACE = 10.0  # what a container has between SIGTERM and SIGKILL
COMMAND = str(Path(sys.executable).with_name("mnist-server"))
# Long enough to be disturbed: some 70 ms an epoch.
HIDDEN, EPOCHS = 100, 60
Messages = Callable[..., list[pb.TrainRequest]]


class Served:
    """A server in a process of its own, as a shell would start it."""

    def __init__(self, data_dir: Path, log: Path, *options: str, **variables: str) -> None:
        self.data_dir, self.log = data_dir, log
        command = [COMMAND, "serve", "--data-dir", str(data_dir), "--port", "0", *options]
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                start_new_session=True,
                env=os.environ | variables,
            )

    def address(self) -> str:
        """Waits for the line that says where it serves."""
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        assert line.startswith("Serving on "), self.log.read_text()
        return line.removeprefix("Serving on ").rstrip("\n")

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.address(), [("grpc.enable_http_proxy", 0)])

    def logged(self) -> list[dict[str, Any]]:
        """What it has logged so far, whole lines of JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def trainer(self) -> int:
        """The process of the trainer that was started last; waits for the first."""
        deadline = time.monotonic() + TIMEOUT
        while not (pids := [entry["trainer_pid"] for entry in self.logged() if "trainer_pid" in entry]):
            assert time.monotonic() < deadline, "no trainer was started"
            time.sleep(0.02)
        return int(pids[-1])

    def clear(self) -> None:
        """Ends what is left, by its own number."""
        self.process.kill()
        with self.process:
            pass
        for entry in self.logged():
            pid = entry.get("trainer_pid")
            if pid is not None and str(self.data_dir) in command_line(pid):
                os.kill(pid, signal.SIGKILL)


def command_line(pid: int) -> str:
    """What runs under a number, empty if nothing does or it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + TIMEOUT
    while command_line(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """serve(*options, data_dir=..., **environment) -> a server, which is ended with the test."""
    started: list[Served] = []

    def serve(*options: str, data_dir: Path = tmp_path / "data", **variables: str) -> Served:
        started.append(Served(data_dir, tmp_path / f"log-{len(started)}", *options, **variables))
        return started[-1]

    yield serve
    for served in started:
        served.clear()


Serve = Callable[..., Served]


@pytest.fixture
def messages(make_messages: Messages) -> list[pb.TrainRequest]:
    hidden = pb.HiddenLayers(sizes=[HIDDEN])
    return make_messages(train=4000, test=100, hidden_layers=hidden, epochs=EPOCHS, model="models/mnist")


@pytest.fixture(scope="session")
def undisturbed(digits: Dataset) -> list[tuple[int, int | None, str]]:
    """What the job of `messages` comes to, computed here: epoch, correct, hash of the weights."""
    assert digits.test is not None
    test = Split(digits.test.images[:100], digits.test.labels[:100])
    data = CoreDataset(Split(digits.train.images, digits.train.labels), None, test)
    config = TrainingConfig(hidden_sizes=(HIDDEN,), epochs=EPOCHS, seed=0)
    state = TrainingState.begin(config)
    return [
        (report.epoch, report.correct, state.network.weights_hash())
        for report in train(state, data, config)
        if isinstance(report, EpochReport)
    ]


def start(stub: TrainingServiceStub, messages: list[pb.TrainRequest]) -> str:
    """Has a job accepted and leaves its stream. Returns its name."""
    call: Any = stub.Train(iter(messages), timeout=TIMEOUT)
    name = str(next(call).event.job)
    call.cancel()
    return name


def watch(stub: TrainingServiceStub, job: str, after: int = 0) -> Any:
    return stub.WatchTraining(pb.WatchTrainingRequest(job=job, after_sequence=after), timeout=TIMEOUT)


def events(call: Any) -> list[pb.TrainingEvent]:
    return [message.event for message in call if message.HasField("event")]


def until_epoch(call: Any, epoch: int) -> list[pb.TrainingEvent]:
    """Reads a stream's events up to the end of an epoch."""
    found: list[pb.TrainingEvent] = []
    while not (found and found[-1].HasField("epoch_finished") and found[-1].epoch_finished.epoch >= epoch):
        message = next(call)
        if message.HasField("event"):
            found.append(message.event)
    return found


def until_continued(call: Any, times: int) -> None:
    """Reads a stream until the job has gone on so many times."""
    while times:
        times -= next(call).event.HasField("continued")


def epochs(history: list[pb.TrainingEvent]) -> list[tuple[int, int | None, str]]:
    finished = [event.epoch_finished for event in history if event.HasField("epoch_finished")]
    return [(epoch.epoch, epoch.correct, epoch.weights_hash) for epoch in finished]


def everything(channel: grpc.Channel) -> tuple[Any, ...]:
    """All that a server tells of its jobs, their histories and its models."""
    training, models = TrainingServiceStub(channel), ModelServiceStub(channel)
    jobs = training.ListTrainingJobs(pb.ListTrainingJobsRequest(), timeout=DEADLINE).jobs
    ended = [job.name for job in jobs if job.HasField("end_time")]
    listed = models.ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE).models
    return (
        [job for job in jobs if job.name in ended],
        {job: events(watch(training, job)) for job in ended},
        [models.GetModel(model_pb2.GetModelRequest(model=model.name), timeout=DEADLINE) for model in listed],
    )


class TestServing:
    @pytest.mark.parametrize(("quota", "expected"), [("1000", 1000), ("3k", 3 * 2**10), ("20G", 20 * 2**30)])
    def test_a_quota_of_data_sets_is_published(self, serve: Serve, quota: str, expected: int) -> None:
        with serve("--dataset-quota", quota).channel() as channel:
            info = ServerServiceStub(channel).GetServerInfo(
                server_pb2.GetServerInfoRequest(), timeout=DEADLINE
            )
        assert info.server.limits.max_stored_dataset_bytes == expected

    @pytest.mark.parametrize(
        ("options", "variable", "there"),
        [
            ((), "1", True),
            (("--no-pretrained",), "1", False),
            ((), "0", False),
            (("--pretrained",), "0", True),
        ],
    )
    def test_a_new_one_begins_with_the_pretrained_model_unless_told_otherwise(
        self, serve: Serve, options: tuple[str, ...], variable: str, there: bool
    ) -> None:
        with serve(*options, "--workers", "2", MNIST_PRETRAINED=variable).channel() as channel:
            request = model_pb2.ListModelsRequest()
            models = ModelServiceStub(channel).ListModels(request, timeout=DEADLINE).models
        # Two workers find an empty directory at the same time, and one of them makes the one version.
        assert [(model.name, len(model.versions)) for model in models] == [("models/mnist", 1)] * there

    def test_says_once_where_it_serves_and_logs_json(self, serve: Serve) -> None:
        served = serve()
        with served.channel() as channel:
            info = ServerServiceStub(channel).GetServerInfo(
                server_pb2.GetServerInfoRequest(), timeout=DEADLINE
            )
            assert info.server.version == __version__
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(GRACE) == 0
        assert served.process.stdout is not None
        assert served.process.stdout.read() == ""
        messages = [entry["message"] for entry in served.logged()]
        assert messages == ["serving", "draining", "stopped"]
        assert {tuple(entry)[:4] for entry in served.logged()} == {("time", "level", "logger", "message")}
        assert len(messages) == len(served.log.read_text().splitlines())

    def test_a_signal_that_comes_at_once_is_heard(self, serve: Serve) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            served = serve()
            served.address()
            served.process.send_signal(number)
            assert served.process.wait(GRACE) == 0

    def test_logs_for_people_on_a_terminal(self, tmp_path: Path) -> None:
        terminal, theirs = pty.openpty()
        command = [COMMAND, "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("Serving on 127.0.0.1:")
                process.send_signal(signal.SIGTERM)
                assert process.wait(GRACE) == 0
            finally:
                process.kill()
        text = os.read(terminal, 10_000).decode()
        os.close(terminal)
        os.close(theirs)
        assert [line.split()[1:3] for line in text.splitlines()] == [
            ["info", "serving"],
            ["info", "draining"],
            ["info", "stopped"],
        ]

    def test_whoever_started_it_may_stop_listening(self, serve: Serve) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        served = serve("--port", str(port))
        assert served.process.stdout is not None
        served.process.stdout.close()
        with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
            request = server_pb2.GetServerInfoRequest()
            ServerServiceStub(channel).GetServerInfo(request, timeout=TIMEOUT, wait_for_ready=True)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(GRACE) == 0
        assert [entry["message"] for entry in served.logged()] == ["serving", "draining", "stopped"]

    @pytest.mark.parametrize(("host", "warnings"), [("127.0.0.1", 0), ("localhost", 0), ("0.0.0.0", 1)])
    def test_warns_once_when_others_can_reach_it(self, serve: Serve, host: str, warnings: int) -> None:
        served = serve("--host", host)
        assert served.address().startswith(f"{host}:")
        levels = [entry["level"] for entry in served.logged()]
        assert levels.count("warning") == warnings

    def test_the_environment_is_below_flags_and_above_defaults(self, serve: Serve, tmp_path: Path) -> None:
        served = serve(MNIST_SERVE_HOST="localhost", MNIST_SERVE_PORT="1", MNIST_SERVE_DATA_DIR="/nowhere")
        assert served.address().startswith("localhost:")
        assert (tmp_path / "data" / "mnist.sqlite3").exists()


class TestRefusing:
    def test_a_second_server_on_the_directory_exits_8_and_names_the_first(self, serve: Serve) -> None:
        first = serve()
        address = first.address()
        second = serve()
        assert second.process.wait(TIMEOUT) == 8
        [line] = second.log.read_text().splitlines()
        assert line.startswith("mnist-server: ")
        for word in (str(first.data_dir), str(first.process.pid), address):
            assert word in line
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=DEADLINE)

    def test_a_port_in_use_is_said_and_exits_1(self, serve: Serve, tmp_path: Path) -> None:
        port = serve().address().rpartition(":")[2]
        second = serve("--port", port, data_dir=tmp_path / "other")
        assert second.process.wait(TIMEOUT) == 1
        line = second.log.read_text().splitlines()[-1]
        assert line.startswith(f"mnist-server: 127.0.0.1:{port} cannot be listened on")
        assert "Traceback" not in second.log.read_text()

    @pytest.mark.parametrize("host", ["nosuch.invalid", "unix:/tmp/x", "256.0.0.1"])
    def test_a_host_that_is_none_is_said_and_exits_1(self, serve: Serve, host: str) -> None:
        served = serve("--host", host)
        assert served.process.wait(TIMEOUT) == 1
        line = served.log.read_text().splitlines()[-1]
        assert line.startswith("mnist-server: ")
        assert host in line

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--port", "65536"], ("'--port'", "65536", "0<=x<=65535")),
            (["--port", "x"], ("'--port'", "'x'")),
            (["--data-dir", __file__], ("'--data-dir'", __file__)),
            (["--workers", "0"], ("'--workers'", "0", "1<=x<=256")),
            (["--workers", "many"], ("'--workers'", "'many'")),
            (["--dataset-quota", "5X"], ("--dataset-quota", "'5X'", "K, M, G or T")),
            (["--nonsense"], ("--nonsense",)),
        ],
    )
    def test_bad_usage_exits_2(self, serve: Serve, options: list[str], words: tuple[str, ...]) -> None:
        served = serve(*options)
        assert served.process.wait(TIMEOUT) == 2
        for word in words:
            assert word in served.log.read_text()

    def test_a_directory_that_cannot_be_made_is_said_and_exits_1(self, serve: Serve) -> None:
        served = serve(data_dir=Path(__file__) / "data")
        assert served.process.wait(TIMEOUT) == 1
        [line] = served.log.read_text().splitlines()
        assert line.startswith("mnist-server: ")
        assert __file__ in line

    @pytest.mark.parametrize(
        ("spoil", "code", "words"),
        [
            (lambda path: path.write_bytes(b"no database" * 1000), 1, ("cannot be read",)),
            (lambda path: path.mkdir(), 1, ("database",)),
            (
                lambda path: sqlite3.connect(path).execute("PRAGMA user_version = 99").connection.close(),
                8,
                ("schema 99", f"at most {SCHEMA_VERSION}"),
            ),
        ],
        ids=["garbage", "folder", "newer"],
    )
    def test_a_database_that_is_not_ours_is_said(
        self, serve: Serve, tmp_path: Path, spoil: Callable[[Path], object], code: int, words: tuple[str, ...]
    ) -> None:
        (tmp_path / "data").mkdir()
        spoil(tmp_path / "data" / "mnist.sqlite3")
        served = serve()
        assert served.process.wait(TIMEOUT) == code
        [line] = served.log.read_text().splitlines()
        assert line.startswith("mnist-server: ")
        for word in words:
            assert word in line

    @pytest.mark.parametrize("option", ["--version", "--help"])
    def test_version_and_help_need_nothing(self, option: str) -> None:
        result = subprocess.run(
            [COMMAND, option], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        assert (__version__ if option == "--version" else "serve") in result.stdout

    def test_the_help_of_serve_has_an_example(self) -> None:
        command = [COMMAND, "serve", "--help"]
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        assert "Example:" in result.stdout


def metrics(served: Served) -> str:
    """Waits for the page of metrics, whose port the log tells, and returns it."""
    deadline = time.monotonic() + TIMEOUT
    while not (urls := [entry["url"] for entry in served.logged() if "url" in entry]):
        assert time.monotonic() < deadline, "there is no page"
        time.sleep(0.02)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urls[0], timeout=TIMEOUT) as answer:
        page: str = answer.read().decode()
    return page


class TestMetrics:
    def test_calls_are_on_the_page(self, serve: Serve) -> None:
        served = serve("--metrics-port", "0")
        with served.channel() as channel:
            for _ in range(3):
                ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=TIMEOUT)
        labels = 'grpc_method="GetServerInfo",grpc_service="mnist.v1.ServerService",grpc_type="unary"'
        page = metrics(served)
        assert f'grpc_server_handled_total{{grpc_code="OK",{labels}}} 3.0\n' in page
        assert "mnist_database_up 1.0\n" in page
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(GRACE) == 0

    def test_there_is_none_unless_it_is_asked_for(self, serve: Serve) -> None:
        served = serve()
        served.address()
        assert not [entry for entry in served.logged() if "url" in entry]

    def test_a_port_that_is_in_use_is_named(self, serve: Serve) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            served = serve("--metrics-port", str(port))
            assert served.process.wait(TIMEOUT) == 1
        assert f"metrics: 127.0.0.1:{port} cannot be listened on" in served.log.read_text()


class TestDraining:
    @pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
    def test_watchers_are_told_and_the_job_goes_on_at_the_next_start(
        self,
        serve: Serve,
        messages: list[pb.TrainRequest],
        undisturbed: list[tuple[int, int | None, str]],
        how: str,
    ) -> None:
        served = serve()
        with served.channel() as channel:
            stub = TrainingServiceStub(channel)
            name = start(stub, messages)
            calls = [watch(stub, name) for _ in range(10)]
            seen = [until_epoch(call, 2) for call in calls]
            if how == "SIGTERM":
                served.process.send_signal(signal.SIGTERM)
            else:  # a terminal sends it to all processes of the group
                os.killpg(served.process.pid, signal.SIGINT)
            for call, history in zip(calls, seen, strict=True):
                last = None
                for last in call:
                    if last.HasField("event"):
                        history.append(last.event)
                assert last is not None
                assert last.notice.HasField("draining")
                assert (last.notice.job, last.notice.sequence) == (name, history[-1].sequence)
                assert call.code() is grpc.StatusCode.OK
        assert served.process.wait(GRACE) == 0
        assert not command_line(served.trainer())

        history = max(seen, key=len)
        with serve().channel() as channel:
            after = events(watch(TrainingServiceStub(channel), name, after=history[-1].sequence))
            whole = events(watch(TrainingServiceStub(channel), name))
        assert whole == history + after
        [continued] = [event.continued for event in after if event.HasField("continued")]
        assert continued.epoch >= 3  # from the checkpoint that draining wrote
        assert epochs(whole) == undisturbed
        assert whole[-1].succeeded.model_version == "models/mnist/versions/1"

    def test_a_second_signal_stops_at_once(self, serve: Serve, messages: list[pb.TrainRequest]) -> None:
        served = serve()
        with served.channel() as channel:
            name = start(TrainingServiceStub(channel), messages)
            until_epoch(watch(TrainingServiceStub(channel), name), 0)
            trainer = served.trainer()
            # Draining will wait for it: it handles SIGTERM by now, which overtakes a SIGSTOP sent before.
            os.kill(trainer, signal.SIGSTOP)
            served.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + TIMEOUT
            while "draining" not in served.log.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(GRACE) == 128 + signal.SIGTERM
        wait_for_end(trainer)
        assert "stopped" not in [entry["message"] for entry in served.logged()]

    def test_a_trainer_and_clients_that_hang_do_not_hold_it_up(
        self, serve: Serve, messages: list[pb.TrainRequest]
    ) -> None:
        served = serve()
        done = threading.Event()

        def silent() -> Iterator[pb.TrainRequest]:
            yield messages[0]
            done.wait(TIMEOUT)

        with served.channel() as channel:
            stub = TrainingServiceStub(channel)
            name = start(stub, messages)
            unread = [watch(stub, name) for _ in range(10)]
            uploads: list[Any] = [stub.Train(silent(), timeout=TIMEOUT) for _ in range(10)]
            until_epoch(watch(stub, name), 0)
            os.kill(served.trainer(), signal.SIGSTOP)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(GRACE) == 0
            done.set()
            for call in [*unread, *uploads]:
                call.cancel()
        wait_for_end(served.trainer())


class TestKilling:
    def test_a_killed_server_leaves_no_orphan_and_loses_nothing(
        self, serve: Serve, messages: list[pb.TrainRequest], undisturbed: list[tuple[int, int | None, str]]
    ) -> None:
        served = serve()
        with served.channel() as channel:
            stub = TrainingServiceStub(channel)
            events(watch(stub, start(stub, messages)))
            before = everything(channel)
            name = start(stub, messages)
            seen = until_epoch(watch(stub, name), 3)
            trainer = served.trainer()
            assert command_line(trainer)
            served.process.kill()
            served.process.wait()
        wait_for_end(trainer)

        with serve().channel() as channel:
            stub = TrainingServiceStub(channel)
            assert everything(channel) == before
            history = events(watch(stub, name))
            assert history[: len(seen)] == seen
            assert [event.sequence for event in history] == list(range(1, len(history) + 1))
            assert epochs(history) == undisturbed
            assert [event.continued.epoch for event in history if event.HasField("continued")] == [0]
            assert history[-1].succeeded.model_version == "models/mnist/versions/2"
            # Both were made in the same way, so they are the same.
            model = ModelServiceStub(channel).GetModel(
                model_pb2.GetModelRequest(model="models/mnist"), timeout=DEADLINE
            )
            assert len({version.weights_hash for version in model.model.versions}) == 1

    def test_killed_again_and_again_it_comes_to_the_same(
        self, serve: Serve, messages: list[pb.TrainRequest], undisturbed: list[tuple[int, int | None, str]]
    ) -> None:
        """First drained, so that there is a checkpoint; then server and trainer in turn, in the middle."""
        served = serve()
        name = ""
        for life, number in enumerate((signal.SIGTERM, signal.SIGKILL, signal.SIGKILL)):
            with served.channel() as channel:
                stub = TrainingServiceStub(channel)
                name = name or start(stub, messages)
                until_continued(watch(stub, name), life) if life else until_epoch(watch(stub, name), 1)
                served.process.send_signal(number)
                served.process.wait(GRACE)
            served = serve()
        with served.channel() as channel:
            stub = TrainingServiceStub(channel)
            until_continued(watch(stub, name), 3)
            os.kill(served.trainer(), signal.SIGKILL)
            history = events(watch(stub, name))
        assert [event.sequence for event in history] == list(range(1, len(history) + 1))
        assert epochs(history) == undisturbed
        continued = [event.continued.epoch for event in history if event.HasField("continued")]
        assert len(continued) == 4
        assert min(continued) >= 2
        assert history[-1].HasField("succeeded")

    def test_an_upload_that_a_kill_broke_off_leaves_nothing(
        self, serve: Serve, messages: list[pb.TrainRequest]
    ) -> None:
        served = serve()
        done = threading.Event()

        def unfinished() -> Iterator[pb.TrainRequest]:
            yield from messages
            done.wait(TIMEOUT)

        with served.channel() as channel:
            call: Any = TrainingServiceStub(channel).Train(unfinished(), timeout=TIMEOUT)
            deadline = time.monotonic() + TIMEOUT
            while not list((served.data_dir / "datasets").iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            served.process.kill()
            served.process.wait()
            assert call.code() is grpc.StatusCode.UNAVAILABLE
            done.set()
        assert list((served.data_dir / "datasets").iterdir())
        with serve().channel() as channel:
            assert everything(channel) == ([], {}, [])
        assert list((served.data_dir / "datasets").iterdir()) == []

    def test_a_restart_shows_everything_as_it_was(self, serve: Serve, make_messages: Messages) -> None:
        served = serve()
        with served.channel() as channel:
            stub = TrainingServiceStub(channel)
            for model in ("models/a", "models/a", "models/b"):
                list(stub.Train(iter(make_messages(epochs=2, model=model)), timeout=TIMEOUT))
            before = everything(channel)
            served.process.send_signal(signal.SIGTERM)
            assert served.process.wait(GRACE) == 0
        assert [len(part) for part in before] == [3, 3, 2]
        with serve().channel() as channel:
            assert everything(channel) == before
