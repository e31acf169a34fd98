import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mnist_client import Client
from mnist_client.history import EpochFinished, Succeeded
from mnist_proto.v1 import prediction_pb2, server_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.server_pb2_grpc import ServerServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server import supervisor as supervisor_module
from mnist_server.data_directory import DataDirectory
from mnist_server.slots import Slots
from mnist_server.supervisor import Supervisor
from mnist_server.worker_process import WorkerProcess

TIMEOUT = 30.0
DEADLINE = 2.0
GRACE = 10.0
COMMAND = str(Path(sys.executable).with_name("mnist-server"))
IMAGE = np.zeros((28, 28), dtype=np.uint8)
Serve = Callable[..., "Served"]
Messages = Callable[..., list[pb.TrainRequest]]


class Served:
    """`mnist-server serve` in a process of its own, and the processes that it starts."""

    def __init__(self, data_dir: Path, log: Path, *options: str, **variables: str) -> None:
        self.log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [COMMAND, "serve", "--data-dir", str(data_dir), *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | variables,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("Serving on "), log.read_text()
        self.address = line.removeprefix("Serving on ").rstrip("\n")

    def workers(self) -> set[int]:
        """The processes that answer, or are about to."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return {
            int(pid) for pid in task.read_text().split() if "mnist_server.worker" in command_line(int(pid))
        }

    def replaced(self, *old: int) -> set[int]:
        """Waits until others have taken the place of workers that died, and answer."""
        wait(lambda: self.logged("worker replaced") >= len(old) and not self.workers() & set(old))
        return self.workers() - set(old)

    def logged(self, message: str) -> int:
        entries = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [entry["message"] for entry in entries].count(message)

    def channel(self) -> grpc.Channel:
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(self.address, options)


def command_line(pid: int) -> str:
    """What runs under a number, empty if nothing does or it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """serve(*options, **environment) -> a server, which is ended with the test."""
    started: list[Served] = []

    def serve(*options: str, **variables: str) -> Served:
        if "--port" not in options:
            options = ("--port", "0", *options)
        started.append(Served(tmp_path / "data", tmp_path / f"log-{len(started)}", *options, **variables))
        return started[-1]

    yield serve
    for served in started:
        served.process.kill()
        with served.process:
            pass


def info(channel: grpc.Channel) -> server_pb2.ServerInfo:
    return (
        ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=DEADLINE).server
    )


def channels_of_all(served: Served) -> dict[int, grpc.Channel]:
    """A channel to each worker, by when it began: the kernel gives each connection to one of them."""
    count = len(served.workers())
    found: dict[int, grpc.Channel] = {}
    deadline = time.monotonic() + TIMEOUT
    while len(found) < count:
        assert time.monotonic() < deadline, "the kernel gives all connections to one worker"
        channel = served.channel()
        began = info(channel).start_time.ToNanoseconds()
        if found.setdefault(began, channel) is not channel:
            channel.close()
    return found


class TestTopProcess:
    def test_has_neither_grpc_nor_numpy(self, serve: Serve) -> None:
        served = serve("--metrics-port", "0")
        mapped = Path(f"/proc/{served.process.pid}/maps").read_text()
        assert "python" in mapped
        for library in ("cygrpc", "_multiarray_umath", "openblas"):
            assert library not in mapped
        [worker] = served.workers()
        mapped = Path(f"/proc/{worker}/maps").read_text()
        assert "cygrpc" in mapped
        assert "_multiarray_umath" in mapped
        # They make themselves known only to processes that draw pictures or train.
        for library in ("PIL", "scipy"):
            assert f"/{library}/" not in mapped

    @pytest.mark.parametrize("module", ["supervisor", "worker_process", "slots", "port", "scheduler"])
    def test_none_of_its_modules_imports_them(self, module: str) -> None:
        program = f"import sys, mnist_server.{module}; print({{'grpc', 'numpy'}} & set(sys.modules))"
        result = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
        assert result.stdout == "set()\n"

    def test_raises_the_limit_of_files_for_all(self, serve: Serve) -> None:
        served = serve()
        [worker] = served.workers()
        for pid in (served.process.pid, worker):
            [line] = [
                line
                for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
                if line.startswith("Max open files")
            ]
            soft, hard = line.split()[3:5]
            assert int(soft) == min(int(hard), 65_536)


class TestWorkers:
    def test_each_answers_on_the_one_port(self, serve: Serve) -> None:
        served = serve("--workers", "2")
        channels = channels_of_all(served)
        assert len(channels) == 2
        for channel in channels.values():
            assert info(channel).workers == 2
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            channel.close()

    def test_auto_takes_the_cores(self, serve: Serve) -> None:
        served = serve(MNIST_SERVE_WORKERS="auto")
        assert len(served.workers()) == len(os.sched_getaffinity(0))

    def test_any_of_them_takes_watches_and_cancels_a_job(self, serve: Serve, make_messages: Messages) -> None:
        served = serve("--workers", "2")
        one, other = map(TrainingServiceStub, channels_of_all(served).values())
        call: Any = one.Train(iter(make_messages(epochs=100_000)), timeout=TIMEOUT)
        job = next(call).event.job
        watch = other.WatchTraining(pb.WatchTrainingRequest(job=job), timeout=TIMEOUT)
        first = [next(watch).event for _ in range(2)]
        assert [event.WhichOneof("event") for event in first] == ["accepted", "started"]
        other.CancelTraining(pb.CancelTrainingRequest(job=job), timeout=DEADLINE)
        events = [message.event for message in call if message.HasField("event")]
        assert events[-1].HasField("cancelled")
        assert one.GetTrainingJob(pb.GetTrainingJobRequest(job=job), timeout=DEADLINE).job.HasField(
            "end_time"
        )

    def test_so_many_jobs_train_at_a_time_as_each_of_them_says(
        self, serve: Serve, make_messages: Messages
    ) -> None:
        served = serve("--workers", "2", "--jobs", "2")
        channels = channels_of_all(served)
        assert [info(channel).limits.max_running_jobs for channel in channels.values()] == [2, 2]
        stub = TrainingServiceStub(next(iter(channels.values())))
        jobs = []
        for _ in range(3):
            call: Any = stub.Train(iter(make_messages(epochs=100_000)), timeout=TIMEOUT)
            jobs.append(next(call).event.job)
            call.cancel()

        def states() -> list[int]:
            requests = [pb.GetTrainingJobRequest(job=job) for job in jobs]
            return [stub.GetTrainingJob(request, timeout=DEADLINE).job.state for request in requests]

        wait(lambda: states() == [pb.JOB_STATE_RUNNING, pb.JOB_STATE_RUNNING, pb.JOB_STATE_QUEUED])

    def test_an_alias_has_moved_in_all_of_them_once_that_is_said(
        self, serve: Serve, make_version: Callable[..., str]
    ) -> None:
        versions = [make_version(seed=seed) for seed in (1, 2)]
        served = serve("--workers", "2")
        request = prediction_pb2.PredictRequest(pixels=IMAGE.tobytes(), height=28, width=28)
        channels = channels_of_all(served).values()
        with Client(served.address) as client:
            for turn in range(20):
                client.set_alias("mnist", "default", 2 - turn % 2)
                for channel in channels:
                    answer = PredictionServiceStub(channel).Predict(request, timeout=DEADLINE)
                    assert answer.model == versions[1 - turn % 2]

    def test_says_serving_once_it_has_the_models(
        self, serve: Serve, make_version: Callable[..., str]
    ) -> None:
        version, other = make_version(), make_version("other")
        served = serve("--workers", "2")
        for channel in channels_of_all(served).values():
            assert sorted(info(channel).models_loaded) == [version, other]

    def test_a_model_that_is_damaged_keeps_none_from_serving(
        self, serve: Serve, make_version: Callable[..., str], tmp_path: Path
    ) -> None:
        make_version("damaged")
        [file] = (tmp_path / "data" / "models").iterdir()
        file.write_bytes(b"damaged")
        version = make_version()
        served = serve()
        [channel] = channels_of_all(served).values()
        assert list(info(channel).models_loaded) == [version]
        assert served.logged("a model cannot be loaded") == 1


class TestDying:
    def test_the_sdks_callers_notice_nothing_and_another_takes_the_place(
        self, serve: Serve, make_version: Callable[..., str]
    ) -> None:
        version = make_version()
        served = serve("--workers", "2")
        done = threading.Event()
        answered = [0] * 8
        failures: list[Exception] = []

        def call(index: int) -> None:
            try:
                with Client(served.address) as client:
                    while not done.is_set():
                        assert client.predict(IMAGE).model == version
                        answered[index] += 1
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=call, args=(index,)) for index in range(len(answered))]
        for thread in threads:
            thread.start()
        try:
            for round in range(1, 4):
                wait(lambda: min(answered) >= 20 * round or failures)  # noqa: B023
                victim = min(served.workers())
                os.kill(victim, signal.SIGKILL)
                wait(lambda: served.logged("worker replaced") == round)  # noqa: B023
                assert victim not in served.workers()
                for channel in channels_of_all(served).values():  # the next answers before another dies
                    channel.close()
            after = list(answered)
            wait(lambda: all(now > then for now, then in zip(answered, after, strict=True)) or failures)
        finally:
            done.set()
            for thread in threads:
                thread.join(TIMEOUT)
        assert failures == []
        assert served.logged("worker died") == 3
        channels = channels_of_all(served)
        assert len(channels) == 2

    def test_one_that_hangs_is_replaced_and_one_that_is_idle_is_not(
        self, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(supervisor_module, "_LOOK_SECONDS", 0.1)
        monkeypatch.setattr(supervisor_module, "_MAX_SILENT_LOOKS", 60)
        slots = Slots(2)
        processes = [WorkerProcess(index, slots) for index in range(2)]
        supervisor = Supervisor(processes, slots)
        supervisor.open(
            directory, "127.0.0.1", 0, jobs=1, dataset_quota=2**30, fast_path=True, pretrained=False
        )
        asked, ask = os.pipe()
        serving = threading.Event()
        running = threading.Thread(target=supervisor.run, args=(asked, serving.set), daemon=True)
        running.start()
        try:
            assert serving.wait(TIMEOUT)
            hung, idle = (slot.pid for slot in slots.all)
            os.kill(hung, signal.SIGSTOP)
            wait(lambda: slots.all[0].pid not in (0, hung))
            assert not command_line(hung)
            assert slots.all[1].pid == idle
            [record] = [record for record in caplog.records if "hangs" in record.message]
            assert record.__dict__["worker_pid"] == hung
        finally:
            os.write(ask, b"!")
            running.join(TIMEOUT)
            supervisor.stop()
            os.close(asked)
            os.close(ask)

    def test_a_watch_goes_on_with_another_and_the_job_is_undisturbed(self, serve: Serve) -> None:
        served = serve("--workers", "2")
        images = np.random.default_rng(0).integers(0, 256, (4000, 28, 28), dtype=np.uint8)
        labels = np.arange(4000, dtype=np.uint8) % 10
        with Client(served.address) as client:
            job = client.train((images, labels), epochs=10, hidden=[100])
            epochs = []
            last = None
            for last in job.watch():
                if isinstance(last, EpochFinished):
                    epochs.append(last.epoch)
                    if last.epoch in (2, 5):  # all of them: one has the watch
                        old = served.workers()
                        for worker in old:
                            os.kill(worker, signal.SIGKILL)
            assert epochs == list(range(10))
            assert isinstance(last, Succeeded)
            assert served.logged("trainer died") == 0
            assert served.logged("trainer started") == 1

    def test_counters_go_on_where_the_dead_ones_were(self, serve: Serve) -> None:
        """The page is one, and no number on it gets smaller."""
        from urllib.request import ProxyHandler, build_opener

        served = serve("--metrics-port", "0")
        [url] = [
            json.loads(line)["url"] for line in served.log.read_text().splitlines() if '"metrics"' in line
        ]

        def calls() -> float:
            page = build_opener(ProxyHandler({})).open(url, timeout=DEADLINE).read().decode()
            name = 'grpc_server_started_total{grpc_method="GetServerInfo"'
            return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))

        for round in range(1, 4):
            with served.channel() as channel:
                request = server_pb2.GetServerInfoRequest()
                ServerServiceStub(channel).GetServerInfo(request, timeout=TIMEOUT, wait_for_ready=True)
            assert calls() == round
            [worker] = served.workers()
            os.kill(worker, signal.SIGKILL)
            served.replaced(worker)
            assert calls() == round

    def test_workers_that_cannot_start_again_are_the_end(self, serve: Serve, tmp_path: Path) -> None:
        served = serve("--workers", "2")
        (tmp_path / "data" / "mnist.sqlite3").rename(tmp_path / "aside")
        (tmp_path / "data" / "mnist.sqlite3").mkdir()
        for worker in served.workers():
            os.kill(worker, signal.SIGKILL)
        assert served.process.wait(TIMEOUT) == 1
        last = served.log.read_text().splitlines()[-1]
        assert last.startswith("mnist-server: workers die as soon as they are started")
        assert "mnist.sqlite3" in last
        assert served.logged("worker died") >= 5


class TestEnding:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_drains_all_and_leaves_nobody(self, serve: Serve, number: signal.Signals) -> None:
        served = serve("--workers", "3")
        workers = served.workers()
        watches = []
        for channel in channels_of_all(served).values():
            stub: Any = health_pb2_grpc.HealthStub(channel)
            watches.append(stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT))
            assert next(watches[-1]).status == health_pb2.HealthCheckResponse.SERVING
        served.process.send_signal(number)
        for watch in watches:
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert list(watch) == []
        assert served.process.wait(GRACE) == 0
        assert not any(map(command_line, workers))

    def test_one_that_hangs_does_not_hold_it_up(self, serve: Serve) -> None:
        served = serve("--workers", "2")
        workers = served.workers()
        os.kill(min(workers), signal.SIGSTOP)
        served.process.terminate()
        assert served.process.wait(GRACE) == 0
        assert not any(map(command_line, workers))
        assert served.logged("worker did not stop; killed it") == 1

    def test_a_second_signal_ends_all_at_once(self, serve: Serve) -> None:
        served = serve("--workers", "2")
        workers = served.workers()
        os.kill(min(workers), signal.SIGSTOP)
        served.process.terminate()
        wait(lambda: served.logged("draining"))
        served.process.terminate()
        assert served.process.wait(GRACE) == 128 + signal.SIGTERM
        wait(lambda: not any(map(command_line, workers)))

    def test_killed_it_takes_all_along_and_can_be_started_again_at_once(
        self, serve: Serve, make_messages: Messages
    ) -> None:
        served = serve("--workers", "2")
        workers = served.workers()
        channel = served.channel()
        call: Any = TrainingServiceStub(channel).Train(
            iter(make_messages(train=4000, epochs=100_000)), timeout=TIMEOUT
        )
        while not next(call).event.HasField("epoch_finished"):
            pass
        served.process.kill()
        again = serve("--workers", "2", "--port", served.address.rpartition(":")[2])
        assert again.address == served.address
        assert not any(map(command_line, workers))
        assert not workers & again.workers()
        for other in channels_of_all(again).values():
            other.close()
