"""What the server adds to an epoch: jobs on a server of our own, alternating with the same epochs in core."""

import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.contender import Contender

from mnist_client import Client, EpochFinished
from mnist_client.datasets import Split

EPOCHS = 10
START_SECONDS, JOB_SECONDS, STOP_SECONDS = 30, 120, 15


def compare_with_server(configuration: Configuration, data: Path, rounds: int) -> dict[str, Any]:
    """Returns epoch times by EpochFinished.seconds and by the time between events, which misses nothing."""
    split = Split(
        np.load(data / "train_images.npy", mmap_mode="r", allow_pickle=False).reshape(-1, 28, 28),
        np.load(data / "train_labels.npy", allow_pickle=False),
    )
    reported, between, core = [], [], []
    with (
        tempfile.TemporaryDirectory(prefix="mnist-benchmark-") as folder,
        server(Path(folder)) as address,
        Client(address) as client,
        Contender("core", "ours", configuration, data) as ours,
    ):
        ours.start()
        ours.ask("epoch")
        for _ in range(rounds):
            core.append(statistics.median(ours.ask("epoch")["seconds"] for _ in range(EPOCHS)))
            epochs = _train(client, configuration, split)
            reported.append(statistics.median(epoch.seconds for epoch in epochs))
            times = [epoch.time.timestamp() for epoch in epochs]
            between.append(statistics.median(later - earlier for earlier, later in pairwise(times)))
    return {
        "configuration": asdict(configuration),
        "rounds": rounds,
        "epochs_a_round": EPOCHS,
        "core_seconds": core,
        "server_seconds": reported,
        "server_seconds_between_events": between,
        "median_ratio": _median_ratio(reported, core),
        "median_ratio_between_events": _median_ratio(between, core),
    }


def _median_ratio(above: list[float], below: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 4)


def _train(client: Client, configuration: Configuration, split: Split) -> list[EpochFinished]:
    job = client.train(
        split,
        hidden=configuration.sizes[1:-1],
        batch_size=configuration.batch_size,
        learning_rate=configuration.learning_rate,
        initialization=configuration.initialization,
        epochs=EPOCHS,
    )
    job.result(timeout=JOB_SECONDS)
    return [event for event in job.watch() if isinstance(event, EpochFinished)]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server of our own, with everything in `folder`; its address."""
    program = Path(sys.executable).with_name("mnist-server")
    command = [str(program), "serve", "--port", "0", "--data-dir", str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MNIST_")}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
        line = process.stdout.readline().strip() if ready else ""
        if not line.startswith("Serving on "):
            raise RuntimeError(f"mnist-server did not start: {(folder / 'log').read_text()}")
        yield line.removeprefix("Serving on ")
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
