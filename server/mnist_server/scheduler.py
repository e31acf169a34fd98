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
import time

from mnist_proto.v1 import training_pb2 as pb
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import NotFound
from mnist_server.jobs import ENDED, Jobs, state_name

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
# Less than half of what a container is given to stop in; a checkpoint takes a tenth of it.
STOP_SECONDS = 4.0
# A job whose trainer dies so often without finishing an epoch in between has failed.
MAX_CRASHES = 5
# The second try waits for nothing, those after it for longer each time: a disk may be full for a moment only.
BACK_OFF_SECONDS = 1.0
# What a trainer exits with when it could not read or write its files: sysexits.h calls it EX_IOERR.
EXIT_FILES = 74
_HINTS = {
    -signal.SIGKILL: "; the kernel does that where memory runs out",
    EXIT_FILES: ": it could not read or write its files, and the server's log says why",
}


class Scheduler:
    """Runs some jobs at a time; the others wait in the database."""

    def __init__(self, directory: DataDirectory, database: Database, at_once: int = 1) -> None:
        self._directory = directory
        self._database = database
        self._jobs = Jobs(database)
        self._at_once = at_once
        self._stopping = threading.Event()
        self._trainers: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}  # when a job that crashed is to be tried again, by monotonic()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)

    def start(self) -> None:
        """Begins. Jobs that ran when a server died go first: they are the oldest in the queue."""
        for job in self._jobs.running():
            self._jobs.interrupted(job, crashed=False)
        self._thread.start()

    def stop(self) -> None:
        """Ends the trainers, which write checkpoints first; their jobs go on when a server starts again."""
        self._stopping.set()
        self._thread.join(timeout=STOP_SECONDS + 2)

    def _run(self) -> None:
        seen = None
        while not self._stopping.wait(POLL_SECONDS):
            try:
                for job, trainer in list(self._trainers.items()):
                    if trainer.poll() is not None:
                        self._ended(job, trainer)
                        del self._trainers[job]
                        seen = None
                for job, due in list(self._due.items()):
                    if due <= time.monotonic():
                        del self._due[job]
                        seen = None
                version = self._database.data_version()
                if version != seen:
                    self._cancel()
                    for job in self._jobs.queued(
                        self._at_once - len(self._trainers), {*self._trainers, *self._due}
                    ):
                        self._begin(job)
                seen = version
            except Exception:
                log.exception("scheduling failed; trying again")
                seen = None
                self._stopping.wait(1.0)
        self._end()

    def _cancel(self) -> None:
        """Ends trainers whose jobs are to be cancelled: nothing is kept, and a busy one takes long."""
        for job, trainer in self._trainers.items():
            if self._jobs.asked(job) == "cancel":
                trainer.kill()

    def _begin(self, job: str) -> None:
        command = [sys.executable, "-P", "-m", "mnist_server.trainer", str(self._directory.root), job]
        # Its standard input is never written to: it closes when this process ends, however it ends.
        # In a process group of its own, so that Ctrl-C in a terminal is the server's alone.
        trainer = self._trainers[job] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, process_group=0
        )
        log.info("trainer started", extra={"job": job, "trainer_pid": trainer.pid})

    def _ended(self, job: str, trainer: subprocess.Popen[bytes]) -> None:
        _close_pipe(trainer)
        state = self._state(job)
        # One that ended in good order has said how; the job may have been resumed since.
        if trainer.returncode != 0 or state == pb.JOB_STATE_RUNNING:
            if state is not None and state not in ENDED:
                self._died(job, trainer.returncode)
            state = self._state(job)
        if state is None or state in ENDED:
            log.info(
                "job ended", extra={"job": job, "state": "deleted" if state is None else state_name(state)}
            )
            shutil.rmtree(self._directory.job(job), ignore_errors=True)
        if state in (pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED):  # it may have died with its model made
            self._directory.model_of(job).unlink(missing_ok=True)

    def _state(self, job: str) -> pb.JobState.ValueType | None:
        try:
            return self._jobs.get(job).state
        except NotFound:  # it was deleted once it had ended
            return None

    def _died(self, job: str, code: int) -> None:
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
        crashes = self._jobs.interrupted(job, crashed=True)
        if not crashes:  # it was to be cancelled or paused, and now it is
            return
        log.warning("trainer died", extra={"job": job, "how": how, "crashes": crashes})
        if crashes >= MAX_CRASHES:
            reason = f"its process died {crashes} times without finishing an epoch, the last time by {how}"
            failed = pb.Failed(reason=reason + _HINTS.get(code, ""))
            self._jobs.append(job, pb.TrainingEvent(failed=failed))
        elif crashes > 1:
            self._due[job] = time.monotonic() + BACK_OFF_SECONDS * 2 ** (crashes - 2)

    def _end(self) -> None:
        for trainer in self._trainers.values():
            trainer.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for job, trainer in self._trainers.items():
            try:
                trainer.wait(timeout=max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                log.warning("trainer did not stop; killing it", extra={"job": job})
                trainer.kill()
                trainer.wait()
            _close_pipe(trainer)
            try:
                self._jobs.interrupted(job, crashed=False)
            except Exception:  # the next start does the same
                log.exception("a job could not be put back into the queue", extra={"job": job})


def _close_pipe(trainer: subprocess.Popen[bytes]) -> None:
    if trainer.stdin is not None:
        trainer.stdin.close()
