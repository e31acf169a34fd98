"""The supervisor: the top process of a server, which answers nothing and owns everything.

It has the lock on the data directory, the port, the workers, the trainers and the memory they share. It
imports neither gRPC nor NumPy: it is small, and little can go wrong in it. When it dies, however it dies, the
others end at once.
"""

import logging
import selectors
import time
from collections.abc import Callable, Sequence

from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.port import Port
from mnist_server.scheduler import Scheduler
from mnist_server.slots import Slots
from mnist_server.worker_process import WorkerProcess

log = logging.getLogger(__name__)

# A worker ends by itself within some six seconds; a container is given ten.
STOP_SECONDS = 7.0
# Workers of a server that was killed notice at once. A directory on a slow disk may hold one up.
_LEFT_SECONDS = 5.0
# One that lived shorter than this has died at once: the next waits, twice as long each time.
_SHORT_SECONDS = 5.0
_BACK_OFF_SECONDS = 0.1
_MAX_BACK_OFF_SECONDS = 5.0
# So many deaths one after the other, with no other worker alive, are the end of the server.
_MAX_DEATHS = 5
# A worker that was not heard in so many looks hangs. Looks are counted, not seconds: when the machine has
# slept, or this process was stopped, one look is late. A busy worker is heard: its threads take turns.
_LOOK_SECONDS = 1.0
_MAX_SILENT_LOOKS = 20


class WorkersFailed(Exception):
    """No worker can be started; the text says why. Nobody's request: it ends the server."""


class Supervisor:
    """The top process of one server."""

    def __init__(self, processes: Sequence[WorkerProcess], slots: Slots) -> None:
        """Takes over workers that were started and wait for their configuration."""
        self._slots = slots
        self._workers: list[WorkerProcess | None] = list(processes)
        self._deaths = [0] * len(processes)
        self._due = [0.0] * len(processes)
        self._beats = [0] * len(processes)
        self._silent = [0] * len(processes)
        self._next_look = 0.0
        self._begun = False
        self._selector = selectors.DefaultSelector()
        for process in processes:
            self._selector.register(process, selectors.EVENT_READ)

    def open(
        self,
        directory: DataDirectory,
        host: str,
        port: int,
        *,
        jobs: int,
        dataset_quota: int,
        fast_path: bool,
        pretrained: bool,
    ) -> None:
        """Takes the directory and the port, and tells the workers, also how many bytes data sets may take,
        whether to take the fast path, and whether to begin with the pretrained model. `jobs` train at a time.

        Raises WrongState if another server has the directory or a newer one has written it, Corrupt if its
        database is none, OSError if the directory cannot be written to or the port is taken.
        """
        if ":" in host:  # IPv6
            host = f"[{host.strip('[]')}]"
        directory.create()
        self._lock = Lock(directory.lock)
        self._lock.acquire({"address": f"{host}:{port}"})
        # A worker of a killed server may be in the middle of a call.
        left = Lock(directory.workers_lock)
        left.acquire({}, wait_seconds=_LEFT_SECONDS)
        left.release()
        database = directory.database()
        directory.remove_strays(database)
        self._port = Port(host, port)
        self.address = f"{host}:{self._port.number}"
        self._lock.describe({"address": self.address})
        self._scheduler = Scheduler(directory, database, jobs)
        self._configuration = {
            "root": str(directory.root),
            "host": host,
            "port": self._port.number,
            "max_stored_dataset_bytes": dataset_quota,
            "fast_path": fast_path,
            "pretrained": pretrained,
            "max_running_jobs": jobs,
        }
        for process in self._workers:
            if process is not None:
                process.configure(**self._configuration)

    def run(self, asked: int, serving: Callable[[], None]) -> None:
        """Keeps the workers alive until something can be read from the file descriptor `asked`. Calls
        `serving` once, when all of them answer.

        Raises WorkersFailed if one does not come to answer at first, or later none does any more.
        """
        self._selector.register(asked, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._until_due()):
                if not isinstance(key.fileobj, WorkerProcess):
                    return
                if not self._hear(key.fileobj):
                    self._died(key.fileobj)
            self._replace()
            self._look()
            if not self._begun and all(worker is not None and worker.ready for worker in self._workers):
                self._begun = True
                self._scheduler.start()
                log.info("serving", extra={"address": self.address})
                serving()

    def stop(self) -> None:
        """Drains: workers finish their calls and end, meanwhile trainers write their checkpoints."""
        began = time.monotonic()
        log.info("draining")
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.drain()
        if self._begun:
            self._scheduler.stop()
        for worker in workers:
            if not worker.wait(began + STOP_SECONDS - time.monotonic()):
                log.warning("worker did not stop; killed it", extra={"worker_pid": worker.pid})
        self._port.close()
        self._lock.release()
        log.info("stopped", extra={"seconds": round(time.monotonic() - began, 3)})

    def kill(self) -> None:
        """Ends the workers at once."""
        for worker in self._workers:
            if worker is not None:
                worker.kill()

    def _until_due(self) -> float:
        due = [due for worker, due in zip(self._workers, self._due, strict=True) if worker is None]
        return max(0.0, min([self._next_look, *due]) - time.monotonic())

    def _look(self) -> None:
        """Ends workers that live, but do nothing any more."""
        if self._next_look > time.monotonic():
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        for index, worker in enumerate(self._workers):
            beats = self._slots.all[index].beats
            heard = beats != self._beats[index] or worker is None or not worker.ready
            self._beats[index] = beats
            self._silent[index] = 0 if heard else self._silent[index] + 1
            if worker is not None and self._silent[index] == _MAX_SILENT_LOOKS:
                log.error("worker hangs; killed it", extra={"worker_pid": worker.pid})
                worker.strike()

    def _hear(self, worker: WorkerProcess) -> bool:
        descriptor = worker.fileno()  # closed by hear() when there is nothing more to come
        if worker.hear():
            return True
        self._selector.unregister(descriptor)
        return False

    def _died(self, worker: WorkerProcess) -> None:
        if not self._begun:
            raise WorkersFailed(worker.reason)
        self._workers[worker.index] = None
        lived = time.monotonic() - worker.began
        extra = {"worker_pid": worker.pid, "how": worker.reason, "lived_seconds": round(lived, 3)}
        log.error("worker died", extra=extra)
        self._plan(worker.index, worker.reason, at_once=lived < _SHORT_SECONDS)

    def _plan(self, index: int, reason: str, *, at_once: bool) -> None:
        deaths = self._deaths[index] = self._deaths[index] + 1 if at_once else 0
        if deaths >= _MAX_DEATHS and not any(worker is not None and worker.ready for worker in self._workers):
            raise WorkersFailed(f"workers die as soon as they are started, the last of: {reason}")
        wait = min(_BACK_OFF_SECONDS * 2 ** (deaths - 1), _MAX_BACK_OFF_SECONDS) if deaths else 0.0
        self._due[index] = time.monotonic() + wait

    def _replace(self) -> None:
        for index, worker in enumerate(self._workers):
            if worker is not None or self._due[index] > time.monotonic():
                continue
            try:
                worker = WorkerProcess(index, self._slots)
            except OSError as error:  # too many processes, no memory
                log.error("no worker can be started", extra={"error": str(error)})
                self._plan(index, str(error), at_once=True)
                continue
            self._workers[index] = worker
            worker.configure(**self._configuration)
            self._selector.register(worker, selectors.EVENT_READ)
            log.info("worker replaced", extra={"worker_pid": worker.pid})
