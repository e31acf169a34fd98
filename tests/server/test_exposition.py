import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from mnist_proto import __version__
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.database import Database
from mnist_server.exposition import MODELS_SHOWN, RECENT_JOBS, VERSIONS_SHOWN, Exposition
from mnist_server.jobs import Jobs
from mnist_server.methods import METHODS
from mnist_server.metrics import LATENCY_BOUNDS, SLOT_BYTES, Metrics

PREDICT = "/mnist.v1.PredictionService/Predict"
ON_PREDICT = {
    "grpc_type": "unary",
    "grpc_service": "mnist.v1.PredictionService",
    "grpc_method": "Predict",
}
MICROSECOND = 1000
# What the README shows, and what else dashboards are made of: a name that is lost breaks them.
SERIES = {
    "grpc_server_started": "counter",
    "grpc_server_handled": "counter",
    "grpc_server_handling_seconds": "histogram",
    "mnist_requests_in_flight": "gauge",
    "mnist_batch_requests": "histogram",
    "mnist_batch_images": "histogram",
    "mnist_model_requests": "counter",
    "mnist_model_images": "counter",
    "mnist_model_request_seconds": "counter",
    "mnist_model_forward_passes": "counter",
    "mnist_model_last_request_timestamp_seconds": "gauge",
    "mnist_jobs": "gauge",
    "mnist_job_accuracy": "gauge",
    "mnist_job_epochs": "gauge",
    "mnist_model_versions": "gauge",
    "mnist_model_version_created_timestamp_seconds": "gauge",
    "mnist_model_alias_version": "gauge",
    "mnist_database_up": "gauge",
    "process_start_time_seconds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_cpu_seconds": "counter",
    "mnist_worker_starts": "counter",
    "mnist_build_info": "gauge",
}


@pytest.fixture
def slots() -> list[bytearray]:
    return [bytearray(SLOT_BYTES) for _ in range(2)]


@pytest.fixture
def workers(slots: list[bytearray]) -> list[Metrics]:
    return [Metrics(slot, slots) for slot in slots]


@pytest.fixture
def exposition(slots: list[bytearray], workers: list[Metrics], database: Database) -> Exposition:
    return Exposition(slots, database)


def read(exposition: Exposition) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(exposition.render().decode())}


def value(page: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample with these labels among its own."""
    [family] = [family for family in page.values() if name.startswith(family.name)]
    [found] = [
        sample.value
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    return found


def test_the_page_has_every_series_even_when_nothing_has_happened(exposition: Exposition) -> None:
    page = read(exposition)
    assert {name: family.type for name, family in page.items()} == SERIES
    assert all(family.documentation for family in page.values())
    assert len(page["grpc_server_started"].samples) == len(METHODS)
    assert page["grpc_server_handling_seconds"].samples == []


def test_the_calls_of_all_workers_are_on_one_page(exposition: Exposition, workers: list[Metrics]) -> None:
    for worker in workers:
        worker.observe(PREDICT, 0, 90 * MICROSECOND)
        worker.observe(PREDICT, 3, 2_000 * MICROSECOND)
        worker.started(PREDICT)
    page = read(exposition)
    assert value(page, "grpc_server_started_total", **ON_PREDICT) == 6
    assert value(page, "grpc_server_handled_total", grpc_code="OK", **ON_PREDICT) == 2
    assert value(page, "grpc_server_handled_total", grpc_code="InvalidArgument", **ON_PREDICT) == 2
    assert value(page, "mnist_requests_in_flight", **ON_PREDICT) == 2
    seconds = "grpc_server_handling_seconds"
    assert value(page, f"{seconds}_count", **ON_PREDICT) == 4
    assert value(page, f"{seconds}_sum", **ON_PREDICT) == 0.00418
    buckets = [
        (sample.labels["le"], sample.value)
        for sample in page[seconds].samples
        if sample.name == f"{seconds}_bucket"
    ]
    assert [float(bound) for bound, _ in buckets] == [
        *(bound / 1e9 for bound in LATENCY_BOUNDS),
        float("inf"),
    ]
    assert dict(buckets)["0.0001"] == 2
    assert dict(buckets)["0.001"] == 2
    assert dict(buckets)["0.0025"] == 4


def test_batches_and_model_versions_are_on_it(exposition: Exposition, workers: list[Metrics]) -> None:
    for worker in workers:
        worker.forward("models/mnist/versions/2", 3, 30, 500_000 * MICROSECOND)
        worker.inference("models/mnist/versions/2", False, 1, 1)
    page = read(exposition)
    on = {"model": "mnist", "version": "2"}
    assert value(page, "mnist_batch_requests_bucket", le="2") == 0
    assert value(page, "mnist_batch_requests_bucket", le="4") == 2
    assert value(page, "mnist_batch_requests_sum") == 6
    assert value(page, "mnist_batch_images_bucket", le="32") == 2
    assert value(page, "mnist_batch_images_sum") == 60
    assert value(page, "mnist_model_requests_total", result="success", **on) == 6
    assert value(page, "mnist_model_requests_total", result="failure", **on) == 2
    assert value(page, "mnist_model_images_total", **on) == 60
    assert value(page, "mnist_model_request_seconds_total", **on) == 3.0
    assert value(page, "mnist_model_forward_passes_total", **on) == 2
    assert value(page, "mnist_model_last_request_timestamp_seconds", **on) > 1.7e9


def test_model_versions_without_a_row_have_no_version(exposition: Exposition, workers: list[Metrics]) -> None:
    workers[0].inference("x" * 200, True, 1, 1)
    page = read(exposition)
    assert value(page, "mnist_model_requests_total", result="success", model="other", version="") == 1


def test_jobs_by_state_and_the_last_accuracy_of_each(
    exposition: Exposition, jobs: Jobs, make_job: Callable[..., str]
) -> None:
    queued, running, judged = make_job(), make_job(), make_job(model="models/digits")
    for job in (running, judged):
        jobs.append(job, pb.TrainingEvent(started=pb.Started()))
    jobs.append(
        running,
        pb.TrainingEvent(epoch_finished=pb.EpochFinished(epoch=4, validation_correct=1, validation_total=4)),
    )
    for epoch, correct in enumerate((10, 90)):
        finished = pb.EpochFinished(epoch=epoch, correct=correct, total=100)
        jobs.append(judged, pb.TrainingEvent(epoch_finished=finished))
    jobs.append(judged, pb.TrainingEvent(failed=pb.Failed(reason="tested")))
    page = read(exposition)
    states = {sample.labels["state"]: sample.value for sample in page["mnist_jobs"].samples}
    assert states == {"queued": 1, "running": 1, "paused": 0, "succeeded": 0, "failed": 1, "cancelled": 0}
    short = {job: job.removeprefix("jobs/") for job in (queued, running, judged)}
    accuracies = {sample.labels["job"]: sample.value for sample in page["mnist_job_accuracy"].samples}
    assert accuracies == {short[running]: 0.25, short[judged]: 0.9}
    epochs = {sample.labels["job"]: sample.value for sample in page["mnist_job_epochs"].samples}
    assert epochs == {short[queued]: 0, short[running]: 5, short[judged]: 2}
    assert value(page, "mnist_job_accuracy", job=short[judged], model="digits") == 0.9


def test_models_their_versions_and_aliases(exposition: Exposition, make_version: Callable[..., str]) -> None:
    for _ in range(3):
        make_version("mnist")
    make_version("digits")
    make_version("mnist", promote=True)
    page = read(exposition)
    assert value(page, "mnist_model_versions", model="mnist") == 4
    assert value(page, "mnist_model_versions", model="digits") == 1
    assert value(page, "mnist_model_alias_version", model="mnist", alias="default") == 4
    assert value(page, "mnist_model_alias_version", model="digits", alias="default") == 1
    assert value(page, "mnist_model_version_created_timestamp_seconds", model="mnist", version="2") > 1.7e9


def test_what_grows_without_end_is_shown_in_part(
    exposition: Exposition, database: Database, make_job: Callable[..., str], make_version: Callable[..., str]
) -> None:
    names = [make_job() for _ in range(RECENT_JOBS + 5)]
    make_version("m")
    with database.write() as connection:
        body, job = connection.execute("SELECT body, file FROM versions").fetchone()
        for version in range(2, VERSIONS_SHOWN + 5):
            connection.execute(
                "INSERT INTO versions VALUES ('m', ?, ?, ?)", (version, f"{job}{version}", body)
            )
        for number in range(MODELS_SHOWN + 5):
            row = (f"n-{number}", f"{job}-{number}", body)
            connection.execute("INSERT INTO versions VALUES (?, 1, ?, ?)", row)
    page = read(exposition)
    shown = [sample.labels["job"] for sample in page["mnist_job_epochs"].samples]
    assert shown == [name.removeprefix("jobs/") for name in names[::-1]][:RECENT_JOBS]
    assert value(page, "mnist_jobs", state="queued") == RECENT_JOBS + 5
    assert len(page["mnist_model_versions"].samples) == MODELS_SHOWN
    created = page["mnist_model_version_created_timestamp_seconds"].samples
    newest = [sample.labels["version"] for sample in created if sample.labels["model"] == "m"]
    assert newest == [str(version) for version in range(VERSIONS_SHOWN + 4, 4, -1)]


def test_a_database_that_cannot_be_read_leaves_the_rest(
    exposition: Exposition, database: Database, workers: list[Metrics]
) -> None:
    workers[0].observe(PREDICT, 0, 1)
    assert value(read(exposition), "mnist_database_up") == 1
    with database.write() as connection:
        connection.execute("ALTER TABLE jobs RENAME TO gone")
    page = read(exposition)
    assert value(page, "mnist_database_up") == 0
    assert value(page, "grpc_server_started_total", **ON_PREDICT) == 1
    assert not [name for name in page if name.startswith("mnist_job")]


def test_reading_keeps_no_connection_in_a_transaction(exposition: Exposition, database: Database) -> None:
    exposition.render()
    with database.read() as connection:
        assert not connection.in_transaction
    with sqlite3.connect(database.path, timeout=0) as other:  # nor in the way of whoever writes
        other.execute("BEGIN EXCLUSIVE")
        other.execute("ROLLBACK")
    other.close()


def test_what_runs(exposition: Exposition) -> None:
    [sample] = read(exposition)["mnist_build_info"].samples
    assert sample.value == 1
    assert sample.labels["version"] == __version__
    assert sample.labels["python"] == sys.version.split()[0]
    assert set(sample.labels) == {"version", "python", "grpcio", "numpy", "protobuf"}


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="read from Linux's /proc")
def test_processes_have_memory_and_processor_time_that_never_falls(
    slots: list[bytearray], exposition: Exposition
) -> None:
    page = read(exposition)
    for process in ("top", "worker0", "worker1"):
        assert value(page, "process_resident_memory_bytes", process=process) > 2**20
        assert value(page, "process_start_time_seconds", process=process) > 1.7e9
    used = value(page, "process_cpu_seconds_total", process="worker0")
    assert used > 0
    assert value(page, "mnist_worker_starts_total", process="worker0") == 1
    # Another process takes the place of this one, which has used more.
    code = "import sys; from mnist_server.metrics import *; s = bytearray(SLOT_BYTES); Metrics(s)"
    write = "; sys.stdout.buffer.write(s); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code + write], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        slots[0][:] = other.stdout.read(SLOT_BYTES)
        page = read(exposition)
        replaced = value(page, "process_cpu_seconds_total", process="worker0")
        assert other.pid != os.getpid()
        assert replaced >= used
        memory = value(page, "process_resident_memory_bytes", process="worker0")
        assert memory < value(page, "process_resident_memory_bytes", process="top")
        other.kill()
    page = read(exposition)  # it is dead, and not yet replaced
    assert value(page, "process_cpu_seconds_total", process="worker0") >= replaced
    assert "worker0" not in [s.labels["process"] for s in page["process_resident_memory_bytes"].samples]


def test_rendering_needs_neither_gRPC_nor_NumPy() -> None:
    code = "import mnist_server.exposition, mnist_server.metrics_page, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert {"grpc", "numpy", "mnist_core"}.isdisjoint(loaded.split())
