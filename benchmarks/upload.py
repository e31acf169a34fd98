"""How long it takes to have a server keep MNIST: 60,000 images over loopback, until they are durable.

A server in a process of its own; each round has the SDK hash the images, ask for them and send them, then ask
again, when nothing is sent, and then deletes them. Writes results/upload.json; ends with 1 if it takes longer
than its bar.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
from classic import machine
from streams import serving

from mnist_client import Client, Dataset, dataset_name, load_dataset

ROUNDS = 10
BAR_SECONDS = 1.5
RESULTS = Path(__file__).parent / "results" / "upload.json"


def main() -> int:
    """Measures, writes the results, and returns the exit status."""
    dataset = Dataset("mnist", load_dataset("mnist").train)
    load = os.getloadavg()[0]
    sent: list[float] = []
    known: list[float] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as (address, _),
        Client(address) as client,
    ):
        for _ in range(ROUNDS):
            sent.append(seconds(lambda: client.upload_dataset(dataset)))
            known.append(seconds(lambda: client.upload_dataset(dataset)))
            client.delete_dataset(dataset_name(dataset))
    results = {
        "command": "make bench-data",
        "images": len(dataset.train.labels),
        "bytes": dataset.train.images.nbytes + dataset.train.labels.nbytes,
        "bar_seconds": BAR_SECONDS,
        "met": max(sent) <= BAR_SECONDS,
        "upload_seconds": figures(sent),
        "already_there_seconds": figures(known),
        "machine": machine() | {"niceness": os.nice(0), "load_average": round(load, 1)},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    click.echo(json.dumps(results, indent=2))
    return 0 if results["met"] else 1


def seconds(call: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def figures(found: list[float]) -> dict[str, object]:
    """Returns the median and the extremes, and each figure."""
    return {
        "median": round(statistics.median(found), 3),
        "min": round(min(found), 3),
        "max": round(max(found), 3),
        "each": [round(each, 3) for each in found],
    }


if __name__ == "__main__":
    sys.exit(main())
