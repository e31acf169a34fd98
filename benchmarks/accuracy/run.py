"""A run is one recipe with one seed, through a server of its own, watched and then judged."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.training.machine import others_seconds
from benchmarks.training.through_server import server
from numpy.typing import NDArray

from mnist_client import Client, EpochFinished, Succeeded
from mnist_client.datasets import Dataset, Split

JOB_SECONDS = 4 * 3600
# Test-time augmentation: each image where it is, and moved by a pixel in all eight directions.
VIEWS = [(down, right) for down in (0, -1, 1) for right in (0, -1, 1)]


def run(
    recipe: str, seed: int, dataset: Dataset, say: Callable[[str], None], keep: Path | None = None
) -> dict[str, Any]:
    """Trains with a recipe, and returns how good the model is on the test split, which nobody gets before.

    seconds: from the call to the model's being there, sending the images among it. others_cores: what else
    the machine's processors did meanwhile, as a number of cores; None where the system does not tell.
    keep: where the model's file is written to.
    """
    test = dataset.test
    assert test is not None
    before, began = others_seconds(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="mnist-accuracy-") as folder,
        server(Path(folder)) as address,
        Client(address, timeout=60) as client,
    ):
        seconds, epochs = _train(client, recipe, seed, dataset.train, say)
        judged = client.evaluate(test, model=recipe)
        views = correct_by_views(client, recipe, test)
        version = client.model(recipe).versions[0]
        if keep is not None:
            client.export_model(recipe, keep)
    elapsed, after = time.monotonic() - began, others_seconds()
    return {
        "seed": seed,
        "correct": judged.correct,
        "total": judged.total,
        "accuracy": judged.accuracy,
        "correct_with_nine_views": views,
        "ece": judged.ece,
        "recall": [each.recall for each in judged.per_class],
        "parameters": version.parameters,
        "train_images": len(dataset.train.images),
        "epochs": len(epochs),
        "losses": [epoch.loss for epoch in epochs],
        "seconds": round(seconds, 2),
        "seconds_in_epochs": round(sum(epoch.seconds for epoch in epochs), 2),
        "others_cores": None if before is None or after is None else round((after - before) / elapsed, 2),
        "weights_hash": version.weights_hash,
        "code_version": version.config.environment.code_version if version.config else "",
        "cores": os.cpu_count(),
    }


def summary(recipe: str, found: dict[str, Any]) -> str:
    """Returns what `run` found, in a line."""
    return (
        f"{recipe}, seed {found['seed']}: {found['correct']} of {found['total']} right, "
        f"{found['correct_with_nine_views']} with nine views, ECE {found['ece']:.2%}, "
        f"{found['seconds']:.1f} s"
    )


def _train(
    client: Client, recipe: str, seed: int, split: Split, say: Callable[[str], None]
) -> tuple[float, list[EpochFinished]]:
    began = time.monotonic()
    job = client.train(split, recipe=recipe, seed=seed, name=recipe)
    epochs = []
    for event in job.watch():
        if isinstance(event, EpochFinished):
            epochs.append(event)
            say(f"{recipe}, seed {seed}: epoch {event.epoch}, loss {event.loss:.5f}, {event.seconds:.1f} s")
        elif isinstance(event, Succeeded):
            return time.monotonic() - began, epochs
    raise RuntimeError(f"{recipe}, seed {seed}: {job.status().state}: {job.status().reason}")


def correct_by_views(client: Client, model: str, test: Split) -> int:
    """Returns how many images are named rightly by the mean of the probabilities of nine views."""
    total: NDArray[np.float64] | float = 0.0
    for down, right in VIEWS:
        view = np.zeros_like(test.images)
        height, width = view.shape[1:]
        view[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = test.images[
            :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
        ]
        total = total + client.predict(view, model=model).probabilities.astype(np.float64)
    return int(np.count_nonzero(np.argmax(total, axis=1) == test.labels))
