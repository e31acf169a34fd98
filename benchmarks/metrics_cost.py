"""What does counting cost? Processor time of a server for Predict of one image, with its metrics and without.

Two servers, one that counts and one whose counters do nothing, each in a process of its own on the first
core, answer bursts of requests in turns, 100,000 requests each; the client has the other cores. A burst's
processor time is the whole server process's, by its own clock. Neighbouring bursts make a pair, so that what
else the machine does falls on both; the cost is the median of the pairs' differences. Beside it, since that
difference is small against the noise: what a call of nothing takes more when it is counted, measured alone.
Writes results/metrics_cost.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import grpc
from classic import machine
from streams import requests

from mnist_client.datasets import load_dataset
from mnist_proto.v1 import prediction_pb2
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.worker_process import ENVIRONMENT

REQUESTS = 100_000
BURST = 200
IN_FLIGHT = 16
METHOD = "/mnist.v1.PredictionService/Predict"
LIMIT_MICROSECONDS = 2.0
RESULTS = Path(__file__).parent / "results" / "metrics_cost.json"
_OPTIONS = [("grpc.enable_http_proxy", 0)]


def main(requests_each: int = REQUESTS) -> None:
    """Measures, says what came out, and writes it if it was measured in full."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:] or cores)
    with tempfile.TemporaryDirectory() as folder:
        with_metrics, without = Path(folder, "with"), Path(folder, "without")
        for place in (with_metrics, without):
            with serving(place, "with", cores[0]) as (_, channel):
                train(channel)
        with (
            serving(with_metrics, "with", cores[0]) as counting,
            serving(without, "without", cores[0]) as plain,
        ):
            pairs = measure(counting, plain, requests_each // BURST)
    differences = [one - other for one, other in pairs]
    low, cost, high = statistics.quantiles(differences, n=4)
    results = {
        "command": "make bench-metrics",
        "configuration": {
            "requests_each": requests_each,
            "requests_a_burst": BURST,
            "in_flight": IN_FLIGHT,
            "method": METHOD,
            "network": "784-100-10",
        },
        "cpu_microseconds_a_request": {
            "with_metrics": round(statistics.median(one for one, _ in pairs), 2),
            "without": round(statistics.median(other for _, other in pairs), 2),
            "cost": round(cost, 2),
            "cost_quartiles": [round(low, 2), round(high, 2)],
            # How well it is known: the interval that holds the median of all pairs 95 times in 100.
            "cost_95": [round(bound, 2) for bound in median_interval(differences)],
            "counting_alone": round(alone(), 2),
            "limit": LIMIT_MICROSECONDS,
        },
        "machine": machine() | {"grpcio": grpc.__version__},
    }
    click.echo(json.dumps(results, indent=2))
    if requests_each == REQUESTS:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


class Context:
    """A call that goes well, as grpcio would have it."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def code(self) -> None:
        """Nothing was said."""

    def is_active(self) -> bool:
        """It still is, looked up under a lock."""
        with self._condition:
            return True


def alone() -> float:
    """Returns the microseconds that counting a prediction and its forward pass adds to a call."""
    from mnist_server.accounting import counted
    from mnist_server.metrics import Metrics

    def nothing(data: bytes, context: object) -> bytes:
        return data

    metrics = Metrics()

    def answer(data: bytes, context: object) -> bytes:
        metrics.forward("models/mnist/versions/1", 1, 1, 100_000)
        return data

    def took(handler: Any) -> float:
        context = Context()
        before = time.process_time()
        for _ in range(REQUESTS // 10):
            handler(b"", context)
        return time.process_time() - before

    handler = counted(metrics, METHOD, answer)
    rounds = [took(handler) - took(nothing) for _ in range(10)]
    return 1e6 * statistics.median(rounds) / (REQUESTS // 10)


def median_interval(values: list[float]) -> tuple[float, float]:
    """Returns the 95 % interval of a median, by order statistics."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    middle = len(values) / 2
    return ordered[max(0, int(middle - half))], ordered[min(len(values) - 1, int(middle + half))]


@contextmanager
def serving(folder: Path, how: str, core: int) -> Iterator[tuple[int, grpc.Channel]]:
    """A server on one core, while it lasts. Yields its process and a channel to it."""
    command = [sys.executable, __file__, "serve", str(folder), how, str(core)]
    variables = os.environ | ENVIRONMENT  # as `mnist-server serve` has it
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as server:
        try:
            assert server.stdout is not None
            with grpc.insecure_channel(server.stdout.readline().strip(), _OPTIONS) as channel:
                yield server.pid, channel
        finally:
            server.communicate(timeout=30)


def serve(folder: str, how: str, core: str) -> None:
    """Is that server, until its standard input closes."""
    os.sched_setaffinity(0, {int(core)})
    from mnist_server import rpc
    from mnist_server.data_directory import DataDirectory
    from mnist_server.metrics import Metrics
    from mnist_server.serving import Server

    class Nothing(Metrics):
        """Counters that do nothing."""

        def started(self, *_: Any) -> None: ...
        def finished(self, *_: Any) -> None: ...
        def finished_all(self, *_: Any) -> None: ...
        def observe(self, *_: Any) -> None: ...
        def inference(self, *_: Any, **__: Any) -> None: ...
        def forward(self, *_: Any) -> None: ...

    changed: Any = rpc
    if how == "without":
        changed.counted = changed.counted_stream = lambda metrics, method, behavior: behavior
    metrics = Metrics() if how == "with" else Nothing()
    server = Server(DataDirectory(Path(folder)), "127.0.0.1", 0, metrics=metrics)
    server.start()
    click.echo(server.address)
    sys.stdin.read()
    if how == "with" and (predict := metrics.read().methods[METHOD]).started:
        click.echo(f"counted: {predict.started} of Predict, {predict.in_flight} in flight", err=True)
    server.stop()
    os._exit(0)


def train(channel: grpc.Channel) -> None:
    """Has a network made: 784-100-10, one epoch of mnist-5k."""
    from mnist_proto.v1 import training_pb2

    hidden = training_pb2.HiddenLayers(sizes=[100])
    messages = requests(load_dataset("mnist-5k"), model="models/mnist", epochs=1, hidden_layers=hidden)
    list(TrainingServiceStub(channel).Train(messages, timeout=600))


def measure(
    counting: tuple[int, grpc.Channel], plain: tuple[int, grpc.Channel], bursts: int
) -> list[tuple[float, float]]:
    """Returns, of each pair, microseconds of processor time a request: with metrics, then without."""
    payload = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28).SerializeToString()
    burst(counting, payload)
    burst(plain, payload)
    pairs = []
    for index in range(bursts):
        if index % 2:
            other = burst(plain, payload)
            pairs.append((burst(counting, payload), other))
        else:
            one = burst(counting, payload)
            pairs.append((one, burst(plain, payload)))
    return pairs


def burst(server: tuple[int, Any], payload: bytes) -> float:
    """Asks BURST times, IN_FLIGHT at once. Returns the server's microseconds of processor time a request."""
    pid, channel = server
    predict = channel.unary_unary(METHOD)
    free = threading.Semaphore(IN_FLIGHT)
    failed: list[object] = []

    def ended(call: Any) -> None:
        if call.code() is not grpc.StatusCode.OK:
            failed.append(call.details())
        free.release()

    before = cpu_seconds(pid)
    for _ in range(BURST):
        free.acquire()
        predict.future(payload, timeout=30).add_done_callback(ended)
    for _ in range(IN_FLIGHT):
        free.acquire()
    took = cpu_seconds(pid) - before
    if failed:
        raise RuntimeError(f"{len(failed)} of {BURST} requests failed: {failed[0]}")
    return 1e6 * took / BURST


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of all threads of a process, by clock_getcpuclockid(3) of Linux."""
    return time.clock_gettime((~pid << 3) | 2)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        if sys.argv[1:2] == ["serve"]:
            serve(*sys.argv[2:])
        else:
            main(*map(int, sys.argv[1:]))
