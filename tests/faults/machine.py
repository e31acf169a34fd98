"""A machine is a data directory and the server on it, whose processes can be killed and made to fail."""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mnist_client import Client, TrainingJob, Unavailable
from mnist_client.configuration import job_name

COMMAND = [sys.executable, "-c", "from mnist_server.cli import main; main()", "serve", "--no-pretrained"]
INJECTION = Path(__file__).parent / "injection"
SECONDS = 120.0
"""For what takes a second or two where nothing else runs."""
ROLES = ("server", "worker", "trainer")


def wait(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Returns what a condition becomes once it is true. Fails, saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.01)
    return value


@functools.cache
def unprivileged() -> list[str]:
    """What a command begins with so that modes of files hold for it, which they do not for root."""
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return prefix if os.geteuid() == 0 and shutil.which(prefix[0]) else []


class PatientClient(Client):
    """A client whose calls and watches wait for a server that has just been started."""

    def job(self, name: str) -> TrainingJob:
        """A handle of one with whose server it has spoken already."""
        return TrainingJob(self, job_name(name), contact=True)

    def _call(self, method: Any, request: Any) -> Any:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return super()._call(method, request)
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


class Machine:
    """One data directory, and the server on it."""

    def __init__(self, root: Path, *options: str) -> None:
        self.root, self.data, self.log = root, root / "data", root / "log"
        self.options = options
        self.port = 0
        self._run = uuid.uuid4().hex
        self._faults = root / "faults.json"
        self._process: subprocess.Popen[bytes] | None = None
        root.mkdir()
        self.log.touch()

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts a server, without waiting for its answer."""
        command = [
            *unprivileged(),
            *COMMAND,
            "--data-dir",
            str(self.data),
            "--port",
            str(self.port),
            *self.options,
        ]
        variables = {
            "PYTHONPATH": str(INJECTION),
            "MNIST_FAULTS": str(self._faults),
            "MNIST_FAULTS_RUN": self._run,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | variables,
                cwd=self.root,
            )

    def start(self) -> None:
        """Starts the server and waits until it answers, on the port that it had before."""
        process = self._process = self.spawn()
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], SECONDS)
        line = process.stdout.readline() if readable else b""
        assert line.startswith(b"Serving on "), f"{line!r}\n{self.log.read_text()[-3000:]}"
        self.port = int(line.rpartition(b":")[2])

    def client(self) -> "PatientClient":
        """A client that looks for a lost server for some minutes."""
        return PatientClient(f"127.0.0.1:{self.port}", timeout=30, reconnect_timeout=300)

    def pids(self) -> dict[str, list[int]]:
        """The living processes of this machine, by role."""
        found: dict[str, list[int]] = {role: [] for role in ROLES}
        mark = f"MNIST_FAULTS_RUN={self._run}".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    command = (entry / "cmdline").read_bytes()
                    role = next(
                        (role for role in ROLES[1:] if f"mnist_server.{role}".encode() in command), "server"
                    )
                    found[role].append(int(entry.name))
        return found

    def one(self, role: str) -> int | None:
        """The process of a role, the newest of several; None where there is none."""
        return max(self.pids()[role], default=None)

    def kill(self, role: str) -> bool:
        """SIGKILL. Returns whether there was such a process. A server that is killed is waited for."""
        if role == "server":
            assert self._process is not None
            self._process.kill()
            self.gone()
            return True
        pid = self.one(role)
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return True

    def gone(self) -> None:
        """Waits for the end of the server, and of every process of its."""
        assert self._process is not None
        self._process.wait(SECONDS)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        wait(lambda: not any(self.pids().values()), "an orphan process stays behind", 10.0)

    def stop(self) -> None:
        """SIGTERM; fails unless it exits with 0, and with all its processes."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(SECONDS)
        self.gone()
        assert code == 0, f"exit {code}\n{self.log.read_text()[-3000:]}"

    @property
    def running(self) -> bool:
        """Whether there is a server."""
        return self._process is not None

    def faults(self, **faults: Any) -> None:
        """Has these go wrong from now on, and nothing else."""
        aside = self._faults.with_suffix(".aside")
        aside.write_text(json.dumps(faults))
        aside.chmod(0o644)
        aside.replace(self._faults)

    @contextlib.contextmanager
    def unwritable(self, *folders: Path) -> Iterator[None]:
        """Nothing can be made or removed in these folders while the context lasts."""
        for folder in folders:
            folder.chmod(0o555)
        try:
            yield
        finally:
            for folder in folders:
                folder.chmod(0o755)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says."""
        connection = sqlite3.connect(self.data / "mnist.sqlite3", timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())
