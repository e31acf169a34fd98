"""Training jobs: each one request to train, with a state and a durable history.

A job's state is what its events make of it. Whoever appends an event does it in one transaction with the
state that follows: the server while the job waits or is paused, its trainer, and nobody else, while it runs.
"""

import secrets
import sqlite3
import time
from collections.abc import Collection
from typing import Literal

from google.protobuf.timestamp_pb2 import Timestamp

from mnist_proto.v1 import dataset_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_server import dataset_registry
from mnist_server.database import Database
from mnist_server.errors import AlreadyExists, LimitReached, NotFound, WrongState

ENDED = frozenset({pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED})
# Without vowels, so that no word comes out, and without what is easily mistaken for something else.
_ALPHABET = "23456789bcdfghjkmnpqrstvwxz"


def new_name() -> str:
    """Returns a job's name that was never used: jobs/job-{8 letters and digits}."""
    return "jobs/job-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def now() -> Timestamp:
    """Returns the time of the server's clock. Order is the sequences', never the clock's."""
    seconds, nanos = divmod(time.time_ns(), 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)


def state_name(state: pb.JobState.ValueType) -> str:
    """Returns QUEUED for JOB_STATE_QUEUED, and so on."""
    return pb.JobState.Name(state).removeprefix("JOB_STATE_")


class Jobs:
    """The jobs of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        config: pb.ResolvedConfig,
        *,
        request_id: str,
        request_hash: str,
        dataset: dataset_pb2.Dataset,
        max_queued: int,
    ) -> str:
        """Takes a job on, with its first event and its data set's row, durably. Returns its name.

        With a request id that was used for the same request (`request_hash`), that is the older job's name.
        Raises AlreadyExists if it was used for another, LimitReached if too many jobs wait.
        """
        with self._database.write() as connection:
            if known := self._known(connection, request_id, request_hash):
                return known
            (queued,) = connection.execute(
                "SELECT count(*) FROM jobs WHERE state = ?", (pb.JOB_STATE_QUEUED,)
            ).fetchone()
            if queued >= max_queued:
                raise LimitReached(f"{queued} jobs are waiting: expected fewer than {max_queued}", 30.0)
            dataset_registry.add(connection, dataset)
            job = pb.TrainingJob(name=name, model=config.config.model, config=config)
            connection.execute(
                "INSERT INTO jobs (name, state, dataset, request_id, request_hash, body) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    name,
                    job.state,
                    config.dataset.removeprefix("datasets/"),
                    request_id or None,
                    request_hash,
                    job.SerializeToString(),
                ),
            )
            append(connection, name, pb.TrainingEvent(accepted=pb.Accepted(config=config)))
            return name

    def find_request(self, request_id: str, request_hash: str) -> str | None:
        """Returns the job of a request id, if it was used. Raises AlreadyExists if for another request."""
        with self._database.read() as connection:
            return self._known(connection, request_id, request_hash)

    @staticmethod
    def _known(connection: sqlite3.Connection, request_id: str, request_hash: str) -> str | None:
        row = (
            request_id
            and connection.execute(
                "SELECT name, request_hash FROM jobs WHERE request_id = ?", (request_id,)
            ).fetchone()
        )
        if not row:
            return None
        if row[1] != request_hash:
            raise AlreadyExists(
                f"config.request_id: {request_id!r} was used by {row[0]} for another configuration or other "
                "images: expected an id that was not used, or the same request"
            )
        return str(row[0])

    def get(self, name: str) -> pb.TrainingJob:
        """Returns a job. Raises NotFound."""
        with self._database.read() as connection:
            return _job(connection, name)

    def page(
        self,
        size: int,
        before: int | None,
        *,
        states: Collection[pb.JobState.ValueType] = (),
        model: str = "",
    ) -> tuple[list[pb.TrainingJob], int | None]:
        """Returns at most `size` jobs, newest first, and where the next page begins, if there is one.

        states, model: only jobs in one of these states, and of this model; empty for any.
        """
        wanted = states or pb.JobState.values()
        rows: list[tuple[int, pb.TrainingJob]] = []
        with self._database.read() as connection:
            found = connection.execute(
                "SELECT number, body FROM jobs WHERE number < ? "
                f"AND state IN ({', '.join('?' * len(wanted))}) ORDER BY number DESC",
                (2**62 if before is None else before, *wanted),
            )
            for number, body in found:
                job = pb.TrainingJob.FromString(body)
                if job.model == (model or job.model):
                    rows.append((number, job))
                if len(rows) > size:
                    break
            found.close()
        return [job for _, job in rows[:size]], rows[size - 1][0] if len(rows) > size else None

    def events(self, name: str, after: int, limit: int) -> list[pb.TrainingEvent]:
        """Returns at most `limit` of a job's events with sequences above `after`, in order."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT body FROM events WHERE job = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                (name, after, limit),
            ).fetchall()
        return [pb.TrainingEvent.FromString(body) for (body,) in rows]

    def append(self, name: str, event: pb.TrainingEvent, *, durable: bool = True) -> pb.TrainingJob:
        """Appends an event to a job's history, in a transaction of its own. Returns the job after it."""
        with self._database.write(durable=durable) as connection:
            return append(connection, name, event)

    def cancel(self, name: str) -> pb.TrainingJob:
        """Cancels a queued or paused job, or asks a running one's trainer to.

        Raises NotFound, or WrongState if it has ended in another way.
        """
        with self._database.write() as connection:
            job = _job(connection, name)
            if job.state == pb.JOB_STATE_CANCELLED:
                return job
            if job.state in ENDED:
                raise WrongState(f"{name} has {state_name(job.state)}: expected a job that has not ended")
            if job.state != pb.JOB_STATE_RUNNING:
                return append(connection, name, pb.TrainingEvent(cancelled=pb.Cancelled()))
            connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE name = ?", (name,))
            return job

    def pause(self, name: str) -> pb.TrainingJob:
        """Asks a running job's trainer to put it aside. Raises NotFound, or WrongState if it does not run."""
        with self._database.write() as connection:
            job = _job(connection, name)
            if job.state == pb.JOB_STATE_PAUSED:
                return job
            if job.state != pb.JOB_STATE_RUNNING:
                raise WrongState(f"{name} is {state_name(job.state)}: expected a running job")
            connection.execute("UPDATE jobs SET pause_requested = 1 WHERE name = ?", (name,))
            return job

    def resume(self, name: str, differences: list[str], *, allow_inexact: bool) -> pb.TrainingJob:
        """Puts a paused job back into the queue. `differences` are those of this environment from the job's.

        Raises NotFound, or WrongState if it is not paused, or if there are differences that are not allowed.
        """
        with self._database.write() as connection:
            job = _job(connection, name)
            if job.state != pb.JOB_STATE_PAUSED:
                raise WrongState(f"{name} is {state_name(job.state)}: expected a paused job")
            if differences and not allow_inexact:
                raise WrongState(
                    f"{name} cannot come to the same bits here: {'; '.join(differences)}: expected the "
                    "environment that it was accepted in, or allow_inexact"
                )
            if differences:  # and so it stays: its history is no longer one that can be computed again
                connection.execute("UPDATE jobs SET allow_inexact = 1 WHERE name = ?", (name,))
            return append(connection, name, pb.TrainingEvent(resumed=pb.Resumed(differences=differences)))

    def delete(self, name: str) -> None:
        """Forgets a job that has ended, and its history. Raises NotFound, or WrongState if it has not."""
        with self._database.write() as connection:
            job = _job(connection, name)
            if job.state not in ENDED:
                raise WrongState(
                    f"{name} is {state_name(job.state)}: expected a job that has ended; cancel it"
                )
            connection.execute("DELETE FROM events WHERE job = ?", (name,))
            connection.execute("DELETE FROM jobs WHERE name = ?", (name,))

    def asked(self, name: str) -> Literal["cancel", "pause"] | None:
        """Returns what a running job's trainer is asked to do, if anything, and if there is such a job."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT cancel_requested, pause_requested FROM jobs WHERE name = ?", (name,)
            ).fetchone()
        cancel, pause = row or (0, 0)
        return "cancel" if cancel else "pause" if pause else None

    def allows_inexact(self, name: str) -> bool:
        """Says whether a job may go on, or has gone on, where its bits differ."""
        with self._database.read() as connection:
            (allowed,) = connection.execute(
                "SELECT allow_inexact FROM jobs WHERE name = ?", (name,)
            ).fetchone()
        return bool(allowed)

    def queued(self, count: int, excluding: Collection[str] = ()) -> list[str]:
        """Returns the jobs that have waited longest, at most `count`, in the order of their acceptance."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM jobs WHERE state = ? ORDER BY number LIMIT ?",
                (pb.JOB_STATE_QUEUED, count + len(excluding)),
            ).fetchall()
        return [name for (name,) in rows if name not in excluding][:count]

    def interrupted(self, name: str, *, crashed: bool) -> int:
        """Puts a running job whose trainer is gone back into the queue, or ends or pauses it if it was to be.

        Returns how often it has crashed since an epoch was last finished, 0 unless it is in the queue.
        """
        with self._database.write() as connection:
            job = _job(connection, name)
            connection.execute("UPDATE jobs SET crashes = crashes + ? WHERE name = ?", (crashed, name))
            crashes, cancel_requested, pause_requested = connection.execute(
                "SELECT crashes, cancel_requested, pause_requested FROM jobs WHERE name = ?", (name,)
            ).fetchone()
            if job.state == pb.JOB_STATE_RUNNING:
                if cancel_requested:
                    append(connection, name, pb.TrainingEvent(cancelled=pb.Cancelled()))
                    return 0
                if pause_requested:
                    append(connection, name, pb.TrainingEvent(paused=pb.Paused()))
                    return 0
                job.state = pb.JOB_STATE_QUEUED
                _store(connection, job)
            return int(crashes)

    def running(self) -> list[str]:
        """Returns the jobs that run, or did when a process died."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT name FROM jobs WHERE state = ?", (pb.JOB_STATE_RUNNING,)
            ).fetchall()
        return [str(name) for (name,) in rows]


def append(connection: sqlite3.Connection, name: str, event: pb.TrainingEvent) -> pb.TrainingJob:
    """Appends an event to a job's history within a transaction. Returns the job after it.

    A job that is to be cancelled is not paused, but cancelled. Raises NotFound, and WrongState if the job has
    ended, since nothing happens to it any more, or if it is paused and the event neither resumes nor cancels
    it.
    """
    job = _job(connection, name)
    if job.state in ENDED:
        raise WrongState(f"{name} has {state_name(job.state)}: expected a job that has not ended")
    if job.state == pb.JOB_STATE_PAUSED and event.WhichOneof("event") not in ("resumed", "cancelled"):
        raise WrongState(f"{name} is PAUSED: expected a job that is not")
    if event.HasField("paused"):
        (cancel_requested,) = connection.execute(
            "SELECT cancel_requested FROM jobs WHERE name = ?", (name,)
        ).fetchone()
        if cancel_requested:  # after its trainer had looked: nobody else would ask again
            event = pb.TrainingEvent(cancelled=pb.Cancelled())
    event.job = name
    event.sequence = job.last_sequence + 1
    event.time.CopyFrom(now())
    _apply(job, event)
    connection.execute("INSERT INTO events VALUES (?,?,?)", (name, event.sequence, event.SerializeToString()))
    _store(connection, job)
    if event.HasField("epoch_finished"):
        connection.execute("UPDATE jobs SET crashes = 0 WHERE name = ? AND crashes > 0", (name,))
    if event.HasField("paused"):
        connection.execute("UPDATE jobs SET pause_requested = 0, crashes = 0 WHERE name = ?", (name,))
    return job


def _apply(job: pb.TrainingJob, event: pb.TrainingEvent) -> None:
    job.last_sequence = event.sequence
    match event.WhichOneof("event"):
        case "accepted":
            job.state = pb.JOB_STATE_QUEUED
            job.create_time.CopyFrom(event.time)
        case "started":
            job.state = pb.JOB_STATE_RUNNING
            job.start_time.CopyFrom(event.time)
        case "continued":
            job.state = pb.JOB_STATE_RUNNING
        case "paused":
            job.state = pb.JOB_STATE_PAUSED
            job.reason = event.paused.reason
        case "resumed":
            job.state = pb.JOB_STATE_QUEUED
            job.reason = ""
        case "epoch_finished":
            job.last_epoch.CopyFrom(event.epoch_finished)
        case "succeeded":
            job.state = pb.JOB_STATE_SUCCEEDED
            job.model_version = event.succeeded.model_version
        case "failed":
            job.state = pb.JOB_STATE_FAILED
            job.reason = event.failed.reason
        case "cancelled":
            job.state = pb.JOB_STATE_CANCELLED
    if job.state in ENDED:
        job.end_time.CopyFrom(event.time)


def _job(connection: sqlite3.Connection, name: str) -> pb.TrainingJob:
    row = connection.execute("SELECT body FROM jobs WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise NotFound("job", name, "the name of a job, jobs/{j}, as ListTrainingJobs shows")
    return pb.TrainingJob.FromString(row[0])


def _store(connection: sqlite3.Connection, job: pb.TrainingJob) -> None:
    connection.execute(
        "UPDATE jobs SET state = ?, body = ? WHERE name = ?", (job.state, job.SerializeToString(), job.name)
    )
