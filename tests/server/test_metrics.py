import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from mnist_server import metrics as metrics_module
from mnist_server.methods import METHODS, OTHER
from mnist_server.metrics import (
    CODES,
    IMAGE_BOUNDS,
    LATENCY_BOUNDS,
    MODEL_ROWS,
    OTHER_MODEL,
    REQUEST_BOUNDS,
    SLOT_BYTES,
    Counts,
    Metrics,
)

PREDICT = "/mnist.v1.PredictionService/Predict"
CHECK = "/grpc.health.v1.Health/Check"
MODEL = "models/mnist/versions/1"
OK, NOT_FOUND, UNKNOWN = 0, 5, 2
MILLISECOND = 10**6
TIMEOUT = 30.0


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that are started now give way at every step of the counters' code, so that what is not one step
    shows: left to itself CPython may well never switch between two threads there."""

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename != metrics_module.__file__:
            return None
        frame.f_trace_opcodes = True
        time.sleep(0)
        return trace

    threading.settrace(trace)
    yield
    threading.settrace(None)


def numbers(counts: Counts) -> list[int]:
    """Everything that must not fall, in an order of its own."""
    found = [worker.processes for worker in counts.workers]
    for method in counts.methods.values():
        found += [method.started, *method.codes, *method.latency.buckets, method.latency.sum]
    for histogram in (counts.batch_requests, counts.batch_images):
        found += [*histogram.buckets, histogram.sum]
    model = counts.models.get(MODEL)
    return found if model is None else [*found, *vars(model).values()]


def test_a_call_is_counted_by_method_status_and_latency(metrics: Metrics) -> None:
    metrics.started(PREDICT)
    metrics.started(PREDICT)
    metrics.observe(CHECK, NOT_FOUND, 70_000)
    metrics.finished(PREDICT, OK, 3 * MILLISECOND)
    counts = metrics.read()
    predict, check = counts.methods[PREDICT], counts.methods[CHECK]
    assert (predict.started, predict.in_flight, predict.codes[OK], sum(predict.codes)) == (2, 1, 1, 1)
    assert (check.started, check.in_flight, check.codes[NOT_FOUND], sum(check.codes)) == (1, 0, 1, 1)
    assert (predict.latency.sum, check.latency.sum) == (3 * MILLISECOND, 70_000)
    assert predict.latency.buckets[LATENCY_BOUNDS.index(5 * MILLISECOND)] == 1
    assert check.latency.buckets[LATENCY_BOUNDS.index(100_000)] == 1
    assert [name for name, method in counts.methods.items() if method.started] == [PREDICT, CHECK]


@pytest.mark.parametrize(("index", "bound"), list(enumerate(LATENCY_BOUNDS)))
def test_a_bucket_holds_what_is_at_most_its_bound(metrics: Metrics, index: int, bound: int) -> None:
    metrics.observe(PREDICT, OK, bound)
    metrics.observe(PREDICT, OK, bound + 1)
    buckets = metrics.read().methods[PREDICT].latency.buckets
    assert (len(buckets), buckets[index], buckets[index + 1]) == (len(LATENCY_BOUNDS) + 1, 1, 1)


def test_bounds_rise_from_25_microseconds_to_10_seconds() -> None:
    assert (LATENCY_BOUNDS[0], LATENCY_BOUNDS[-1]) == (25_000, 10 * 10**9)
    for bounds in (LATENCY_BOUNDS, REQUEST_BOUNDS, IMAGE_BOUNDS):
        assert list(bounds) == sorted(set(bounds))


@pytest.mark.parametrize("code", [-1, CODES, 99])
def test_a_status_that_gRPC_does_not_have_is_unknown(metrics: Metrics, code: int) -> None:
    metrics.observe(PREDICT, code, 1)
    assert metrics.read().methods[PREDICT].codes[UNKNOWN] == 1


def test_a_method_that_is_not_served_is_another(metrics: Metrics) -> None:
    for method in ("/mnist.v1.PredictionService/Guess", "", "x" * 10_000):
        metrics.started(method)
        metrics.finished(method, OK, 1)
        metrics.observe(method, OK, 1)
    counts = metrics.read()
    assert list(counts.methods) == list(METHODS)
    assert (counts.methods[OTHER].started, counts.methods[OTHER].codes[OK]) == (6, 6)


def test_calls_that_end_together_are_counted_together(metrics: Metrics) -> None:
    metrics.started(PREDICT, 5)
    metrics.finished_all(PREDICT, OK, [25_000, 25_001, 11 * 10**9])
    metrics.finished_all(PREDICT, OK, [])
    predict = metrics.read().methods[PREDICT]
    assert (predict.started, predict.codes[OK], predict.in_flight) == (5, 3, 2)
    assert [index for index, count in enumerate(predict.latency.buckets) if count] == [
        0,
        1,
        len(LATENCY_BOUNDS),
    ]
    assert predict.latency.sum == 50_001 + 11 * 10**9


def test_batches_are_counted_by_requests_and_by_images(metrics: Metrics) -> None:
    metrics.forward(MODEL, 1, 1, 10)
    metrics.forward(MODEL, 64, 100, 5000)
    metrics.forward(MODEL, 1000, 100_000, 70_000)
    counts = metrics.read()
    requests, images = counts.batch_requests, counts.batch_images
    assert (requests.sum, images.sum) == (1065, 100_101)
    assert [index for index, count in enumerate(requests.buckets) if count] == [0, 6, len(REQUEST_BOUNDS)]
    assert [index for index, count in enumerate(images.buckets) if count] == [0, 7, len(IMAGE_BOUNDS)]
    assert (counts.models[MODEL].passes, counts.models[MODEL].pass_time) == (3, 75_010)


def test_a_model_version_has_successes_failures_images_and_times(metrics: Metrics) -> None:
    before = time.time_ns()
    metrics.inference(MODEL, True, 100, 2000)
    metrics.forward(MODEL, 8, 8, 500)
    metrics.inference(MODEL, False, 7, 300)
    metrics.inference("models/other-one/versions/12", False, 1, 10)
    models = metrics.read().models
    assert list(models) == [MODEL, "models/other-one/versions/12"]
    model = models[MODEL]
    assert (model.successes, model.success_time, model.images) == (9, 2000 + 8 * 500, 108)
    assert (model.passes, model.pass_time) == (1, 500)
    assert (model.failures, model.failure_time) == (1, 300)
    assert before <= model.last <= time.time_ns()
    assert models["models/other-one/versions/12"].last == 0


def test_model_versions_beyond_the_rows_are_counted_as_one() -> None:
    slot = bytearray(SLOT_BYTES)
    metrics = Metrics(slot)
    names = [f"models/m/versions/{number}" for number in range(MODEL_ROWS + 10)]
    for name in names * 2:
        metrics.inference(name, True, 1, 1)
    for counts in (metrics.read(), Metrics(slot).read()):
        assert list(counts.models) == [*names[: MODEL_ROWS - 1], OTHER_MODEL]
        assert counts.models[names[0]].successes == 2
        assert counts.models[OTHER_MODEL].successes == 2 * 11


def test_the_longest_name_of_a_version_is_kept_whole_and_a_longer_one_is_another(metrics: Metrics) -> None:
    longest = f"models/{'m' * 63}/versions/{2**63 - 1}"
    metrics.inference(longest, True, 1, 1)
    metrics.inference("models/" + "m" * 200, True, 1, 1)
    metrics.forward(longest, 1, 1, 1)
    assert list(metrics.read().models) == [longest, OTHER_MODEL]


def test_threads_lose_no_count(metrics: Metrics, restless: None) -> None:
    threads, times = 4, 50
    done: list[int] = []

    def count() -> None:
        for _ in range(times):
            metrics.started(PREDICT)
            metrics.forward(MODEL, 2, 4, 3)
            metrics.inference(MODEL, True, 1, 7)
            metrics.finished(PREDICT, OK, 11)
        done.append(1)

    running = [threading.Thread(target=count, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(TIMEOUT)
    assert len(done) == threads
    counts, total = metrics.read(), threads * times
    predict, model = counts.methods[PREDICT], counts.models[MODEL]
    assert (predict.started, predict.codes[OK], predict.in_flight) == (total, total, 0)
    assert (predict.latency.buckets[0], predict.latency.sum) == (total, 11 * total)
    assert (counts.batch_requests.sum, counts.batch_images.sum) == (2 * total, 4 * total)
    assert (model.successes, model.images, model.success_time) == (3 * total, 5 * total, 13 * total)
    assert (model.passes, model.pass_time) == (total, 3 * total)


def test_slots_are_summed_and_each_process_is_told_apart() -> None:
    slots = [bytearray(SLOT_BYTES) for _ in range(3)]
    first, second = (Metrics(slot, slots) for slot in slots[:2])
    first.observe(PREDICT, OK, 10)
    second.observe(PREDICT, OK, 20)
    first.inference("models/a/versions/1", True, 1, 1)
    second.inference("models/b/versions/1", True, 1, 1)
    second.inference("models/a/versions/1", True, 1, 1)
    for counts in (first.read(), second.read(), Counts.of(slots)):
        assert (counts.methods[PREDICT].codes[OK], counts.methods[PREDICT].latency.sum) == (2, 30)
        assert {name: model.successes for name, model in counts.models.items()} == {
            "models/a/versions/1": 2,
            "models/b/versions/1": 1,
        }
        assert [(worker.pid, worker.processes) for worker in counts.workers] == [
            (os.getpid(), 1),
            (os.getpid(), 1),
            (0, 0),
        ]


def test_a_successor_goes_on_in_the_slot_without_the_calls_that_died() -> None:
    slot = bytearray(SLOT_BYTES)
    first = Metrics(slot)
    first.inference(MODEL, True, 1, 1)
    first.started(PREDICT)
    first.started(PREDICT)
    first.finished(PREDICT, OK, 1)
    for processes in (2, 3):  # the calls that died with the first are not forgotten twice
        successor = Metrics(slot)
        counts = successor.read()
        predict = counts.methods[PREDICT]
        assert (predict.started, predict.codes[OK], predict.in_flight) == (processes, processes - 1, 0)
        assert counts.workers[0].processes == processes
        successor.started(PREDICT)
        assert successor.read().methods[PREDICT].in_flight == 1
        successor.finished(PREDICT, OK, 1)
        successor.inference(MODEL, True, 1, 1)
        assert list(successor.read().models) == [MODEL]
    assert successor.read().models[MODEL].successes == 3


# Counts until it is killed, in the memory behind a descriptor that it has inherited.
WORKER = f"""
import mmap, sys
from mnist_server.metrics import Metrics, SLOT_BYTES
assert "grpc" not in sys.modules and "numpy" not in sys.modules
metrics = Metrics(mmap.mmap(int(sys.argv[1]), SLOT_BYTES))
print("counting", flush=True)
while True:
    metrics.started({PREDICT!r})
    metrics.forward({MODEL!r}, 3, 5, 9)
    metrics.inference({MODEL!r}, False, 5, 8)
    metrics.finished({PREDICT!r}, 0, 123_456)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="memory without a name is Linux's")
def test_no_number_falls_when_workers_are_killed_and_replaced() -> None:
    descriptor = os.memfd_create("metrics")
    os.ftruncate(descriptor, SLOT_BYTES)
    slot = mmap.mmap(descriptor, SLOT_BYTES)
    command = [sys.executable, "-c", WORKER, str(descriptor)]
    seen = numbers(Counts.of([slot]))
    started = 0
    deadline = time.monotonic() + TIMEOUT

    def look() -> Counts:
        nonlocal seen
        counts = Counts.of([slot])
        now = numbers(counts)
        assert all(after >= before for before, after in zip(seen, now, strict=False))
        assert len(now) >= len(seen)
        assert 0 <= counts.methods[PREDICT].in_flight <= 1
        seen = now
        return counts

    for generation in (1, 2, 3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[descriptor]) as worker:
            try:
                assert worker.stdout is not None
                assert worker.stdout.readline() == b"counting\n"
                while (now := look().methods[PREDICT].started) < started + 2000:
                    assert time.monotonic() < deadline, f"only {now - started} calls were counted"
            finally:
                worker.kill()
        counts = look()
        assert counts.workers[0].processes == generation
        started = counts.methods[PREDICT].started
    # Killed at any point of a count, which may be lacking in some of its numbers.
    handled = counts.methods[PREDICT].codes[OK]
    assert 0 <= started - handled <= generation
    assert 0 <= handled - sum(counts.methods[PREDICT].latency.buckets) <= generation
    slot.close()
    os.close(descriptor)
