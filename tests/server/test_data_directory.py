import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnist_proto.v1 import training_pb2 as pb
from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.database import Database
from mnist_server.errors import WrongState
from mnist_server.jobs import Jobs


def test_create_makes_the_folders_and_leaves_what_is_there(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "new" / "data")
    directory.create()
    (directory.models / "mine").write_bytes(b"1")
    directory.create()
    assert {entry.name for entry in directory.root.iterdir()} == {"datasets", "jobs", "models"}
    assert (directory.models / "mine").read_bytes() == b"1"


def test_create_raises_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"")
    with pytest.raises(OSError, match="data"):
        DataDirectory(tmp_path / "data").create()


def test_a_jobs_folder_lies_among_the_jobs(directory: DataDirectory) -> None:
    assert directory.job("jobs/job-1") == directory.jobs / "job-1"


def test_strays_are_removed_and_what_a_row_names_stays(
    directory: DataDirectory,
    database: Database,
    jobs: Jobs,
    make_job: Callable[..., str],
    make_version: Callable[..., str],
    tmp_path: Path,
) -> None:
    queued, running, paused, ended = (make_job() for _ in range(4))
    for name in (running, paused):
        jobs.append(name, pb.TrainingEvent(started=pb.Started()))
    jobs.append(paused, pb.TrainingEvent(paused=pb.Paused()))
    jobs.append(ended, pb.TrainingEvent(failed=pb.Failed(reason="of it")))
    make_version()
    [weights] = directory.models.iterdir()
    for name in (queued, running, paused, ended, "jobs/job-never"):
        directory.job(name).mkdir()
        (directory.job(name) / "checkpoint").write_bytes(b"1")
    known = directory.datasets / ("ab" * 32)
    for folder in (known, directory.datasets / ".incoming-1", directory.datasets / ("cd" * 32)):
        folder.mkdir()
        (folder / "train-images").write_bytes(b"1")
    (directory.models / ".writing-1").write_bytes(b"1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"1")
    (directory.models / "link").symlink_to(elsewhere)

    directory.remove_strays(database)

    assert set(directory.jobs.iterdir()) == {directory.job(name) for name in (queued, running, paused)}
    assert (directory.job(running) / "checkpoint").exists()
    assert list(directory.datasets.iterdir()) == [known]
    assert list(known.iterdir()) == [known / "train-images"]
    assert list(directory.models.iterdir()) == [weights]
    assert (elsewhere / "precious").exists()


# Holds the lock until its standard input closes, as a server holds it for life.
_HOLDER = """
import sys
from pathlib import Path
from mnist_server.data_directory import Lock
lock = Lock(Path(sys.argv[1]))
lock.acquire({"address": "127.0.0.1:1"})
lock.describe({"address": "127.0.0.1:50051"})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(directory: DataDirectory) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the directory's lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(directory.root / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_lock_that_another_process_holds_is_refused_and_its_holder_named(
    directory: DataDirectory, holder: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(WrongState) as raised:
        Lock(directory.root / "lock").acquire({})
    assert str(raised.value).startswith(f"{directory.root} is in use by ")
    assert f'"pid": {holder.pid}' in str(raised.value)
    assert '"address": "127.0.0.1:50051"' in str(raised.value)
    assert "127.0.0.1:1" not in str(raised.value).replace("127.0.0.1:50051", "")


def test_a_lock_goes_with_its_process_however_that_dies(
    directory: DataDirectory, holder: "subprocess.Popen[str]"
) -> None:
    holder.kill()
    holder.wait(timeout=10)
    lock = Lock(directory.root / "lock")
    lock.acquire({"address": "mine"})
    assert (directory.root / "lock").read_text() == f'{{"pid": {os.getpid()}, "address": "mine"}}'
    lock.release()


def test_a_lock_is_waited_for_when_asked_to(directory: DataDirectory) -> None:
    first, second = Lock(directory.root / "lock"), Lock(directory.root / "lock")
    first.acquire({})
    with pytest.raises(WrongState):
        second.acquire({}, wait_seconds=0.1)
    threading.Timer(0.2, first.release).start()
    second.acquire({}, wait_seconds=30)
    with pytest.raises(WrongState):
        first.acquire({})
    second.release()


def test_a_lock_may_be_released_twice_and_taken_again(directory: DataDirectory) -> None:
    lock = Lock(directory.root / "lock")
    lock.acquire({})
    lock.release()
    lock.release()
    lock.acquire({})
    lock.release()


def test_a_lock_is_not_inherited_by_the_processes_that_its_holder_starts(directory: DataDirectory) -> None:
    lock, other = Lock(directory.root / "lock"), Lock(directory.root / "lock")
    lock.acquire({})
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        lock.release()
        try:
            other.acquire({})
        finally:
            child.kill()
    other.release()


def test_a_holder_that_has_not_said_who_it_is_is_unknown(directory: DataDirectory) -> None:
    lock = Lock(directory.root / "lock")
    lock.acquire({})
    os.truncate(directory.root / "lock", 0)
    with pytest.raises(WrongState, match="is in use by an unknown process"):
        Lock(directory.root / "lock").acquire({})
    lock.release()
