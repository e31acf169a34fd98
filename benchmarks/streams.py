"""Five hundred watchers of one training: what each sees and when, what it costs, and what it costs others.

A server in a process of its own trains on MNIST, some second an epoch. Its watchers are in another process,
each a stream of its own over one connection; they note when each message came and do nothing else. One caller
asks for a prediction 100 times a second: with nothing going on, with the job, and with the job and its
watchers. Writes results/streams.json and results/streams.md; ends with 1 if a bar is missed. Linux only.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import grpc
import grpc.aio
import numpy as np
from classic import machine

from mnist_client.datasets import Dataset, load_dataset
from mnist_proto.v1 import images_pb2, prediction_pb2, server_pb2, training_pb2
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.server_pb2_grpc import ServerServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub

WATCHERS = 500
CALLS = 2_000
INTERVAL_SECONDS = 0.01
DEADLINE_SECONDS = 2.0
# Of the job that is watched: about a second an epoch.
HIDDEN = 200
RESULTS = Path(__file__).parent / "results"
WATCH = "/mnist.v1.TrainingService/WatchTraining"
_OPTIONS = [("grpc.enable_http_proxy", 0)]
BARS = {
    "median delay of an epoch's event, ms": 500.0,
    "p99 of Predict meanwhile, ms": 50.0,
    "memory a watcher, kB": 100.0,
}


def main() -> int:
    """Measures, writes the results, and returns the exit status."""
    dataset = load_dataset("mnist")
    load = os.getloadavg()[0]
    phases: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as (address, process),
        grpc.insecure_channel(address, _OPTIONS) as channel,
    ):
        training = TrainingServiceStub(channel)
        info = ServerServiceStub(channel).GetServerInfo(server_pb2.GetServerInfoRequest(), timeout=10).server
        # The model that is asked: one epoch of the classic network.
        list(training.Train(requests(dataset, model="models/mnist", epochs=1), timeout=600))
        phases["idle"] = measure(channel)
        layers = training_pb2.HiddenLayers(sizes=[HIDDEN])
        job = accept(training, requests(dataset, hidden_layers=layers, epochs=100_000))
        phases["training"] = measure(channel)
        worker = worker_of(process)
        before = resident(worker)
        with watching(address, job) as watchers:
            phases["watched"] = measure(channel)
            after = resident(worker)
        seen = watchers()
        training.CancelTraining(training_pb2.CancelTrainingRequest(job=job), timeout=10)
    watched = judge(seen)
    watched["memory_kb_a_watcher"] = round((after - before) / 1000 / WATCHERS, 1)
    figures = {
        "median delay of an epoch's event, ms": watched["delay_ms"]["p50"],
        "p99 of Predict meanwhile, ms": phases["watched"]["p99"],
        "memory a watcher, kB": watched["memory_kb_a_watcher"],
    }
    met = {bar: figures[bar] <= most for bar, most in BARS.items()} | {
        "each watcher saw every epoch once, in order": watched["in_order"]
    }
    results = {
        "command": "make bench-streams",
        "configuration": {
            "watchers": WATCHERS,
            "calls_a_phase": CALLS,
            "calls_a_second": round(1 / INTERVAL_SECONDS),
            "train_images": len(dataset.train.labels),
            "network": f"784-{HIDDEN}-10",
        },
        "predict_milliseconds": phases,
        "watched": watched,
        "bars": {
            bar: {"measured": figures.get(bar), "most": BARS.get(bar), "met": ok} for bar, ok in met.items()
        },
        "machine": machine()
        | {
            "blas_threads": info.environment.blas_threads,
            "grpcio": grpc.__version__,
            "niceness": os.nice(0),
            "load_average": round(load, 1),
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streams.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "streams.md").write_text(report(results))
    click.echo(report(results))
    return 0 if all(met.values()) else 1


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """A server on a port that is free, while it lasts. Yields its address and its process."""
    command = [Path(sys.executable).with_name("mnist-server"), "serve", "--port", "0", "--data-dir", folder]
    command.append("--no-pretrained")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("Serving on ").strip(), server.pid
        finally:
            server.terminate()
            server.wait(timeout=10)


def worker_of(process: int) -> int:
    """Returns the worker of a server's top process (Linux)."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    [worker] = [
        pid for pid in children if b"mnist_server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return int(worker)


def resident(process: int) -> int:
    """Returns the resident memory of a process, in bytes (Linux)."""
    [line] = [
        line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmRSS")
    ]
    return int(line.split()[1]) * 1024


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
def watching(address: str, job: str) -> Iterator[Any]:
    """A process that watches a job with WATCHERS streams, all of them up to date when this begins.

    Yields what returns, after the end, what they saw.
    """
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "seen.npz"
        command = [sys.executable, __file__, "watch", address, job, str(seen)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the watchers did not begin")
            loaded: list[Any] = []
            yield lambda: loaded[0]
            process.stdin.close()
            process.wait(60)
        with np.load(seen, allow_pickle=False) as arrays:
            loaded.append(arrays["seen"])


async def watch(address: str, job: str, path: str) -> None:
    """Is that process: says `ready` once each stream has brought a message, and ends with its input.

    Writes rows of (watcher, epoch, seconds from its writing by the trainer to its arrival here).
    """
    arrived: list[list[tuple[float, bytes]]] = [[] for _ in range(WATCHERS)]
    async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
        asked = training_pb2.GetTrainingJobRequest(job=job)
        training: Any = TrainingServiceStub(channel)
        last = (await training.GetTrainingJob(asked, timeout=10)).job.last_sequence
        request = training_pb2.WatchTrainingRequest(job=job, after_sequence=last).SerializeToString()
        method = channel.unary_stream(WATCH)

        async def read(messages: list[tuple[float, bytes]]) -> None:
            async for message in method(request):
                messages.append((time.time(), message))

        tasks = [asyncio.create_task(read(messages)) for messages in arrived]
        while not all(arrived):
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()
        click.echo("ready")
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
    rows = []
    for watcher, messages in enumerate(arrived):
        for when, data in messages:
            event = training_pb2.WatchTrainingResponse.FromString(data).event
            if event.HasField("epoch_finished"):
                written = event.time.ToNanoseconds() / 1e9
                rows.append((watcher, event.epoch_finished.epoch, when - written))
    np.savez(path, seen=np.array(rows))


def judge(seen: Any) -> dict[str, Any]:
    """Returns what the watchers' rows say: whether each saw every epoch once and in order, and how late."""
    sequences = [seen[seen[:, 0] == watcher, 1].astype(int).tolist() for watcher in range(WATCHERS)]
    # The last epoch is left out: it may have been on its way to some when the watchers were ended.
    last = min(sequence[-1] for sequence in sequences) if all(sequences) else -1
    first = max(sequence[0] for sequence in sequences) if all(sequences) else 0
    in_order = last >= first and all(
        [epoch for epoch in sequence if first <= epoch <= last] == list(range(first, last + 1))
        and sequence == sorted(set(sequence))
        for sequence in sequences
    )
    delays = seen[:, 2] * 1000
    p50, p90, p99 = np.percentile(delays, [50, 90, 99])
    rounded = {name: round(float(value), 1) for name, value in (("p50", p50), ("p90", p90), ("p99", p99))}
    return {
        "epochs_seen_by_all": last - first + 1,
        "in_order": bool(in_order),
        "events_received": len(seen),
        "delay_ms": rounded | {"max": round(float(delays.max()), 1)},
    }


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
    click.echo(f"{rounded}, {late} of {CALLS} beyond their deadline", err=True)
    return rounded | {"beyond_deadline": late}


def report(results: dict[str, Any]) -> str:
    """Returns the results as people read them, in Markdown."""
    configuration, watched = results["configuration"], results["watched"]
    machine_ = results["machine"]
    lines = [
        "# Watchers of a training",
        "",
        f"`{results['command']}` on {machine_['cpu']}, {machine_['cores']} cores, "
        f"Python {machine_['python']}, grpcio {machine_['grpcio']}; "
        f"load average before it {machine_['load_average']}, niceness {machine_['niceness']}.",
        "",
        f"{configuration['watchers']} watchers of one job ({configuration['network']} on "
        f"{configuration['train_images']:,} images), {configuration['calls_a_second']} predictions a second.",
        "",
        "| bar | at most | measured | |",
        "|---|---|---|---|",
    ]
    for bar, said in results["bars"].items():
        most, found = ("-" if said[key] is None else f"{said[key]:g}" for key in ("most", "measured"))
        lines.append(f"| {bar} | {most} | {found} | {'met' if said['met'] else '**missed**'} |")
    delay = watched["delay_ms"]
    lines += [
        "",
        f"{watched['epochs_seen_by_all']} epochs were seen by all, {watched['events_received']:,} events in "
        f"all; they came {delay['p50']:g} ms (median), {delay['p90']:g} (p90), {delay['p99']:g} (p99) and at "
        f"most {delay['max']:g} ms after the trainer had written them.",
        "",
        "| Predict, ms | p50 | p90 | p99 | max |",
        "|---|---|---|---|---|",
    ]
    names = {"idle": "nothing goes on", "training": "a job trains", "watched": "and is watched"}
    for phase, name in names.items():
        found = results["predict_milliseconds"][phase]
        lines.append(
            f"| {name} | {found['p50']:g} | {found['p90']:g} | {found['p99']:g} | {found['max']:g} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["watch"]:
        asyncio.run(watch(*sys.argv[2:]))
    else:
        sys.exit(main())
