"""Exposition: what the counters and the database say, in the text format that Prometheus reads.

The names are those that others use where there are such (`grpc_server_...` of the gRPC interceptors for
Prometheus, `process_...`), so that dashboards and alerts made for them fit; the others begin with `mnist_`.
"""

import logging
import os
import platform
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mnist_proto import __version__
from mnist_proto.v1 import model_pb2, training_pb2
from mnist_server.database import Database
from mnist_server.jobs import state_name
from mnist_server.methods import METHODS
from mnist_server.metrics import Buffer, Counts, Histogram, Worker

log = logging.getLogger(__name__)

# What grows without end in the database is shown in part: the page stays some hundred kilobytes at most.
RECENT_JOBS = 20
MODELS_SHOWN = 100
VERSIONS_SHOWN = 10  # of a model, the newest
_NANO = 10**9
# As Go writes them, whose interceptors the names of the series are from.
_CODES = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *(
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
    ),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_LABELS = ("grpc_type", "grpc_service", "grpc_method")
_BUILT_ON = ("grpcio", "numpy", "protobuf")


class Exposition(Collector):
    """The page of one server. Several threads may ask for it."""

    def __init__(self, slots: Sequence[Buffer], database: Database) -> None:
        """`slots` are the counters of all workers (metrics.py)."""
        self._slots = slots
        self._database = database
        self._processes = _Processes()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._lock = threading.Lock()

    def render(self) -> bytes:
        """Returns the page as it is now, in the text format 0.0.4."""
        with self._lock:
            return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing, so that registering does not read the database."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yields everything there is to say."""
        counts = Counts.of(self._slots)
        yield from _calls(counts)
        yield from _predictions(counts)
        yield from self._stored()
        yield from self._processes.collect(counts.workers)
        versions = {name: metadata.version(name) for name in _BUILT_ON}
        build = GaugeMetricFamily(
            "mnist_build_info", "What runs: always 1.", labels=["version", "python", *versions]
        )
        build.add_metric([__version__, platform.python_version(), *versions.values()], 1)
        yield build

    def _stored(self) -> Iterator[Metric]:
        """Jobs and models. Where the database cannot be read the page goes without, and says so."""
        stored: list[Metric] = []
        try:
            with self._database.read() as connection:
                stored += _jobs(connection)
                stored += _models(connection)
        except sqlite3.Error as error:
            log.warning("the database could not be read for the metrics", extra={"error": str(error)})
            stored.clear()
        yield from stored
        up = GaugeMetricFamily("mnist_database_up", "Whether the database could be read for this page.")
        up.add_metric([], bool(stored))
        yield up


def _calls(counts: Counts) -> Iterator[Metric]:
    started = CounterMetricFamily("grpc_server_started", "Calls that began.", labels=_LABELS)
    handled = CounterMetricFamily(
        "grpc_server_handled", "Calls that ended, by status.", labels=[*_LABELS, "grpc_code"]
    )
    seconds = HistogramMetricFamily(
        "grpc_server_handling_seconds", "How long calls took, streams to their end.", labels=_LABELS
    )
    flight = GaugeMetricFamily("mnist_requests_in_flight", "Calls that have not ended.", labels=_LABELS)
    for name, method in counts.methods.items():
        labels = [METHODS[name], *name[1:].split("/")]
        started.add_metric(labels, method.started)
        flight.add_metric(labels, method.in_flight)
        for code, count in enumerate(method.codes):
            if count or code == 0:
                handled.add_metric([*labels, _CODES[code]], count)
        if method.started:
            _add(seconds, labels, method.latency, unit=_NANO)
    yield from (started, handled, seconds, flight)


def _predictions(counts: Counts) -> Iterator[Metric]:
    requests = HistogramMetricFamily(
        "mnist_batch_requests", "Requests that one forward pass answered together."
    )
    _add(requests, [], counts.batch_requests)
    images = HistogramMetricFamily("mnist_batch_images", "Images in one forward pass.")
    _add(images, [], counts.batch_images)
    yield from (requests, images)
    labels = ["model", "version"]
    answered = CounterMetricFamily(
        "mnist_model_requests", "Requests that a version answered, or failed to.", labels=[*labels, "result"]
    )
    predicted = CounterMetricFamily("mnist_model_images", "Images that a version named.", labels=labels)
    seconds = CounterMetricFamily(
        "mnist_model_request_seconds", "Time that a version's answers took, together.", labels=labels
    )
    passes = CounterMetricFamily("mnist_model_forward_passes", "Forward passes of a version.", labels=labels)
    last = GaugeMetricFamily(
        "mnist_model_last_request_timestamp_seconds", "When a version last answered.", labels=labels
    )
    for name, model in counts.models.items():
        which = list(_version(name))
        answered.add_metric([*which, "success"], model.successes)
        answered.add_metric([*which, "failure"], model.failures)
        predicted.add_metric(which, model.images)
        seconds.add_metric(which, model.success_time / _NANO)
        passes.add_metric(which, model.passes)
        if model.last:
            last.add_metric(which, model.last / _NANO)
    yield from (answered, predicted, seconds, passes, last)


def _version(name: str) -> tuple[str, str]:
    """models/{m}/versions/{n} -> m, n. What is counted as one, `other`, has no version."""
    model, _, version = name.removeprefix("models/").partition("/versions/")
    return model, version


def _add(family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram, unit: int = 1) -> None:
    total, buckets = 0, []
    for bound, count in zip((*histogram.bounds, None), histogram.buckets, strict=True):
        total += count
        buckets.append(("+Inf" if bound is None else f"{bound / unit:.12g}", total))
    family.add_metric(labels, buckets, histogram.sum / unit)


def _jobs(connection: sqlite3.Connection) -> list[Metric]:
    jobs = GaugeMetricFamily("mnist_jobs", "Training jobs, by state.", labels=["state"])
    count = dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    for state in training_pb2.JobState.values():
        if state != training_pb2.JOB_STATE_UNSPECIFIED:
            jobs.add_metric([state_name(state).lower()], count.get(state, 0))
    labels = ["job", "model"]
    accuracy = GaugeMetricFamily(
        "mnist_job_accuracy",
        "Right among the images of the test split, or else of the validation split, after the last epoch of "
        f"each of the newest {RECENT_JOBS} jobs.",
        labels=labels,
    )
    epochs = GaugeMetricFamily(
        "mnist_job_epochs", f"Epochs finished of the newest {RECENT_JOBS} jobs.", labels=labels
    )
    rows = connection.execute("SELECT body FROM jobs ORDER BY number DESC LIMIT ?", (RECENT_JOBS,))
    for (body,) in rows.fetchall():
        job = training_pb2.TrainingJob.FromString(body)
        which = [job.name.removeprefix("jobs/"), job.model.removeprefix("models/")]
        last = job.last_epoch
        epochs.add_metric(which, last.epoch + 1 if job.HasField("last_epoch") else 0)
        if last.total:
            accuracy.add_metric(which, last.correct / last.total)
        elif last.validation_total:
            accuracy.add_metric(which, last.validation_correct / last.validation_total)
    return [jobs, accuracy, epochs]


def _models(connection: sqlite3.Connection) -> list[Metric]:
    versions = GaugeMetricFamily("mnist_model_versions", "Versions of a model.", labels=["model"])
    rows = connection.execute(
        "SELECT model, count(*) FROM versions GROUP BY model ORDER BY model LIMIT ?", (MODELS_SHOWN,)
    )
    created = GaugeMetricFamily(
        "mnist_model_version_created_timestamp_seconds",
        f"When a version was made, of the newest {VERSIONS_SHOWN} of a model.",
        labels=["model", "version"],
    )
    for model, count in rows.fetchall():
        versions.add_metric([model], count)
        newest = connection.execute(
            "SELECT version, body FROM versions WHERE model = ? ORDER BY version DESC LIMIT ?",
            (model, VERSIONS_SHOWN),
        )
        for version, body in newest.fetchall():
            made = model_pb2.ModelVersion.FromString(body).create_time
            created.add_metric([model, str(version)], made.seconds + made.nanos / _NANO)
    aliases = GaugeMetricFamily(
        "mnist_model_alias_version", "The version that an alias stands for.", labels=["model", "alias"]
    )
    rows = connection.execute(
        "SELECT model, alias, version FROM aliases ORDER BY model, alias LIMIT ?", (MODELS_SHOWN,)
    )
    for model, alias, version in rows.fetchall():
        aliases.add_metric([model, alias], version)
    return [versions, created, aliases]


class _Processes:
    """What the kernel knows of the processes (Linux; elsewhere only when they began)."""

    def __init__(self) -> None:
        self._own = Worker(os.getpid(), time.time_ns(), 1)
        # Of each process: who it is, what was last read of it, and what its predecessors had come to.
        self._used: dict[str, tuple[int, float, float]] = {}

    def collect(self, workers: list[Worker]) -> Iterator[Metric]:
        """Yields memory, processor time and start of this process and of the workers."""
        label = ["process"]
        began = GaugeMetricFamily("process_start_time_seconds", "When a process began.", labels=label)
        memory = GaugeMetricFamily("process_resident_memory_bytes", "Memory in use.", labels=label)
        used = CounterMetricFamily(
            "process_cpu_seconds",
            "Processor time, that of a worker's dead predecessors included.",
            labels=label,
        )
        begun = CounterMetricFamily(
            "mnist_worker_starts",
            "Processes that have been this worker: 1, and 1 for each that died.",
            labels=label,
        )
        names = [("top", self._own), *((f"worker{number}", worker) for number, worker in enumerate(workers))]
        for name, process in names:
            if process is not self._own:
                begun.add_metric([name], process.processes)
            if not process.pid:
                continue
            began.add_metric([name], process.began / _NANO)
            with suppress(OSError):  # it has died, and nobody has taken its place yet
                memory.add_metric([name], _resident_bytes(process.pid))
            with suppress(OSError):
                self._see(name, process.pid, _cpu_seconds(process.pid))
            if name in self._used:
                _, seconds, before = self._used[name]
                used.add_metric([name], before + seconds)
        yield from (began, memory, used, begun)

    def _see(self, name: str, pid: int, seconds: float) -> None:
        known, last, before = self._used.get(name, (pid, 0.0, 0.0))
        self._used[name] = (pid, seconds, before if known == pid else before + last)


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(pid: int) -> float:
    # After the program's name, in brackets and with whatever in it: the 14th and 15th field of proc(5).
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
