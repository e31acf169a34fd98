"""The scheduler: takes waiting jobs in their order and runs each in a trainer process of its own.

A trainer is a new program, never a fork of the server: gRPC does not survive a fork. It is told everything
through the database and ends by itself when the pipe to the server closes.
"""

import logging
import shutil
import signal
import subprocess
import sys
import threading

from mnist_proto.v1 import training_pb2 as pb
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.jobs import ENDED, Jobs, state_name

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# Less than half of what a container is given to stop in; a checkpoint takes a tenth of it.
STOP_SECONDS = 4.0
# A job whose trainer dies so often without finishing an epoch in between has failed.
MAX_CRASHES = 3


class Scheduler:
    """Runs one job at a time; the others wait in the database."""

    def __init__(self, directory: DataDirectory, database: Database) -> None:
        self._directory = directory
        self._database = database
        self._jobs = Jobs(database)
        self._stopping = threading.Event()
        self._trainer: subprocess.Popen[bytes] | None = None
        self._job = ""
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begins. Jobs that ran when a server died go first: they are the oldest in the queue."""
        for job in self._jobs.running():
            self._jobs.interrupted(job, crashed=False)
        self._thread.start()

    def stop(self) -> None:
        """Ends the trainer, which writes a checkpoint first; its job goes on when a server starts again."""
        self._stopping.set()
        self._thread.join(timeout=STOP_SECONDS + 2)

    def _run(self) -> None:
        seen = None
        while not self._stopping.wait(POLL_SECONDS):
            try:
                if self._trainer is not None:
                    if self._trainer.poll() is None:
                        continue
                    self._ended(self._trainer)
                    self._trainer = None
                    seen = None
                version = self._database.data_version()
                if version != seen and (job := self._jobs.next_queued()):
                    self._begin(job)
                seen = version
            except Exception:
                log.exception("scheduling failed; trying again")
                self._stopping.wait(1.0)
        self._end()

    def _begin(self, job: str) -> None:
        command = [sys.executable, "-P", "-m", "mnist_server.trainer", str(self._directory.root), job]
        # Its standard input is never written to: it closes when this process ends, however it ends.
        # In a process group of its own, so that Ctrl-C in a terminal is the server's alone.
        self._trainer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
        )
        self._job = job
        log.info("trainer started", extra={"job": job, "trainer_pid": self._trainer.pid})

    def _ended(self, trainer: subprocess.Popen[bytes]) -> None:
        job, code = self._job, trainer.returncode
        _close_pipe(trainer)
        if self._jobs.get(job).state not in ENDED:
            self._died(job, code)
        state = self._jobs.get(job).state
        if state in ENDED:
            log.info("job ended", extra={"job": job, "state": state_name(state)})
            shutil.rmtree(self._directory.job(job), ignore_errors=True)

    def _died(self, job: str, code: int) -> None:
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
        crashes = self._jobs.interrupted(job, crashed=True)
        log.warning("trainer died", extra={"job": job, "how": how, "crashes": crashes})
        if crashes >= MAX_CRASHES:
            reason = f"its process died {crashes} times without finishing an epoch, the last time by {how}"
            self._jobs.append(job, pb.TrainingEvent(failed=pb.Failed(reason=reason)))

    def _end(self) -> None:
        trainer = self._trainer
        if trainer is None:
            return
        trainer.terminate()
        try:
            trainer.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            log.warning("trainer did not stop; killing it", extra={"job": self._job})
            trainer.kill()
            trainer.wait()
        _close_pipe(trainer)
        self._jobs.interrupted(self._job, crashed=False)


def _close_pipe(trainer: subprocess.Popen[bytes]) -> None:
    if trainer.stdin is not None:
        trainer.stdin.close()
