"""The data directory: everything durable, where each thing lies in it, and the lock that says whose it is."""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mnist_server.database import Database
from mnist_server.errors import WrongState

# What arrives for `datasets` is spooled in folders of this prefix beside them.
INCOMING = ".incoming-"


class DataDirectory:
    """The folders of one server.

    mnist.sqlite3         jobs, events, models, aliases
    lock, workers.lock    say who the server is, and that some worker lives
    accepting.lock        is held while a data set gets a row that names it, or loses it
    datasets/{sha256}/    images and labels, a file a split
    jobs/{j}/             the lock, checkpoints and progress of a job that has begun and not ended
    models/{j}.safetensors   the parameters of the version that job made
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.datasets = root / "datasets"
        self.jobs = root / "jobs"
        self.models = root / "models"
        self.lock = root / "lock"
        self.workers_lock = root / "workers.lock"

    def create(self) -> None:
        """Makes the folders. Raises OSError where it may not."""
        for folder in (self.root, self.datasets, self.jobs, self.models):
            folder.mkdir(parents=True, exist_ok=True)

    def database(self) -> Database:
        """Opens the database."""
        return Database(self.root / "mnist.sqlite3")

    def dataset(self, name: str) -> Path:
        """Returns the folder of a data set, from its name `datasets/{sha256}`."""
        return self.datasets / name.removeprefix("datasets/")

    def job(self, name: str) -> Path:
        """Returns the folder of a job, from its name `jobs/{j}`."""
        return self.jobs / name.removeprefix("jobs/")

    def model_of(self, job: str) -> Path:
        """Returns the file of the version that a job makes, from the job's name `jobs/{j}`."""
        return self.models / f"{job.removeprefix('jobs/')}.safetensors"

    @contextmanager
    def accepting(self) -> Iterator[None]:
        """One at a time, of all threads of all workers: nobody may find a data set that is about to be
        removed."""
        with (self.root / "accepting.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def remove_strays(self, database: Database) -> None:
        """Removes what a process left behind when it died: files and folders that no row names."""
        live = "SELECT name FROM jobs WHERE state IN (1, 2, 6)"  # QUEUED, RUNNING, PAUSED
        with database.read() as connection:
            known = {
                self.datasets: {row[0] for row in connection.execute("SELECT hash FROM stored_datasets")},
                self.jobs: {row[0].removeprefix("jobs/") for row in connection.execute(live)},
                self.models: {row[0] for row in connection.execute("SELECT file FROM versions")},
            }
        for folder, names in known.items():
            for entry in folder.iterdir():
                if entry.name in names:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


class Lock:
    """A file that one process holds for life, or several of one kind; the kernel lets go of it when a process
    dies, however it does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, holder: dict[str, object], *, wait_seconds: float = 0.0, shared: bool = False) -> None:
        """Takes the lock and writes who holds it. Raises WrongState, naming the holder, if another does;
        `shared` ones are not in each other's way."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Not inherited by child processes: Python opens files close-on-exec (PEP 446).
        file = self.path.open("a+", encoding="utf-8")
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    found = file.read(1000).strip() or "an unknown process"
                    file.close()
                    raise WrongState(f"{self.path.parent} is in use by {found}") from None
                time.sleep(0.05)
        self._file = file
        self.describe(holder)

    def describe(self, holder: dict[str, object]) -> None:
        """Writes who holds the lock, for whoever finds it taken."""
        assert self._file is not None, "describe() comes after acquire()"
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), **holder}))
        self._file.flush()

    def release(self) -> None:
        """Lets go of the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None
