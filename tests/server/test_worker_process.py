import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_server.data_directory import DataDirectory
from mnist_server.port import Port
from mnist_server.slots import Slots
from mnist_server.worker_process import WorkerProcess

TIMEOUT = 30.0


@pytest.fixture
def slots() -> Slots:
    return Slots(1)


@pytest.fixture
def worker(slots: Slots) -> Iterator[WorkerProcess]:
    worker = WorkerProcess(0, slots)
    yield worker
    worker.kill()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port("127.0.0.1", 0)
    yield port
    port.close()


def hear(worker: WorkerProcess) -> bool:
    """Waits for what it says next."""
    assert select.select([worker], [], [], TIMEOUT)[0], "the worker says nothing"
    return worker.hear()


def serve(worker: WorkerProcess, directory: DataDirectory, port: Port) -> None:
    worker.configure(root=str(directory.root), host="127.0.0.1", port=port.number)
    while not worker.ready:
        assert hear(worker), worker.reason


def test_waits_to_be_told_and_then_says_when_it_answers(
    worker: WorkerProcess, slots: Slots, directory: DataDirectory, port: Port
) -> None:
    assert not select.select([worker], [], [], 0.1)[0]
    assert not (directory.root / "mnist.sqlite3").exists()
    serve(worker, directory, port)
    assert slots.all[0].pid == worker.pid
    assert slots.all[0].counters[:8] == worker.pid.to_bytes(8, "little")


@pytest.mark.parametrize("own", [None, "call_tracer_in_transport"])
def test_the_thread_that_serves_reads_the_sockets_unless_someone_has_said_otherwise(
    monkeypatch: pytest.MonkeyPatch, slots: Slots, own: str | None
) -> None:
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    if own is not None:
        monkeypatch.setenv("GRPC_EXPERIMENTS", own)
    worker = WorkerProcess(0, slots)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not (data := Path(f"/proc/{worker.pid}/environ").read_bytes()):  # it is just being started
            assert time.monotonic() < deadline
        variables = data.split(b"\0")
    finally:
        worker.kill()
    found = [variable for variable in variables if variable.startswith(b"GRPC_EXPERIMENTS=")]
    assert found == [f"GRPC_EXPERIMENTS={own or '-event_engine_listener,fuse_filters'}".encode()]


def test_drains_and_leaves(worker: WorkerProcess, slots: Slots, directory: DataDirectory, port: Port) -> None:
    serve(worker, directory, port)
    worker.drain()
    assert worker.wait(TIMEOUT)
    assert slots.all[0].pid == 0


def test_one_that_does_not_drain_is_killed(
    worker: WorkerProcess, slots: Slots, directory: DataDirectory, port: Port
) -> None:
    serve(worker, directory, port)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.drain()
    assert not worker.wait(0.1)
    assert slots.all[0].pid == 0
    assert not Path(f"/proc/{worker.pid}").exists()


def test_one_that_dies_is_heard_of_with_how_and_its_slot_is_free(
    worker: WorkerProcess, slots: Slots, directory: DataDirectory, port: Port
) -> None:
    serve(worker, directory, port)
    os.kill(worker.pid, signal.SIGKILL)
    assert not hear(worker)
    assert not worker.ready
    assert worker.reason == "signal 9 (Killed)"
    assert slots.all[0].pid == 0


def test_one_that_cannot_serve_says_why(worker: WorkerProcess, directory: DataDirectory, port: Port) -> None:
    (directory.root / "mnist.sqlite3").write_bytes(b"no database" * 1000)
    worker.configure(root=str(directory.root), host="127.0.0.1", port=port.number)
    while hear(worker):
        assert not worker.ready
    assert "cannot be read" in worker.reason


@pytest.mark.parametrize("configured", [False, True])
def test_it_ends_with_the_process_that_started_it(
    worker: WorkerProcess, directory: DataDirectory, port: Port, configured: bool
) -> None:
    if configured:
        serve(worker, directory, port)
    pipe = worker._process.stdin
    assert pipe is not None
    pipe.close()  # as when that process dies
    deadline = time.monotonic() + TIMEOUT
    while worker._process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert worker._process.returncode == 1


def test_telling_one_that_has_died_does_no_harm(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    worker._process.wait()
    worker.configure(root="", host="", port=0)
    assert not hear(worker)
