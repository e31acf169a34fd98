"""A learner is one contender in a process of its own, which runs an epoch when told to.

It reads a command a line from standard input and answers each with a line of JSON, until the input ends.
This module stands on NumPy alone, since it runs in both environments.
"""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from benchmarks.training.configuration import Configuration
from numpy.typing import NDArray

# Images that are predicted one by one, and images a call of those that go together.
ALONE, TOGETHER = 1000, 250


class Data:
    """MNIST as uint8 arrays: images (N, 784) and labels (N,), training and test."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder = folder
        self.images = _cut(self._load("train_images"), images)
        self.labels = _cut(self._load("train_labels"), images)
        self.test_images = self._load("test_images")
        self.test_labels = self._load("test_labels")

    def _load(self, name: str) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = np.load(self.folder / f"{name}.npy", allow_pickle=False)
        return array


def _cut(array: NDArray[np.uint8], length: int) -> NDArray[np.uint8]:
    if length == len(array):
        return array
    return np.resize(array, (length, *array.shape[1:]))  # repeats it, or cuts it off


class Learner(Protocol):
    """What a contender's module calls `Learner`.

    versions: of the libraries that compute. share: what part of the work of one epoch `epoch` does.
    """

    versions: dict[str, str]
    share: float

    def __init__(self, configuration: Configuration, data: Data) -> None: ...

    def epoch(self) -> None:
        """Learns from every image once, in a new order. Returns when it is done."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        """Returns scores (B, C) of images (B, 784), the largest being the answer. Limits have no answers."""


def initial_layers(configuration: Configuration) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Returns each layer's weights (I, O) and biases (O,), for contenders that do not draw their own."""
    rng = np.random.default_rng(0)
    layers = []
    for inputs, outputs in zip(configuration.sizes[:-1], configuration.sizes[1:], strict=True):
        scale = inputs**-0.5 if configuration.initialization == "scaled" else 1.0
        weights = rng.standard_normal((inputs, outputs)) * scale
        layers.append((weights.astype(np.float32), rng.standard_normal(outputs).astype(np.float32)))
    return layers


def _answer(command: str, learner: Learner, data: Data) -> dict[str, float]:
    match command:
        case "epoch":
            return _epoch(learner)
        case "accuracy":
            return _accuracy(learner, data)
        case "memory":
            return _memory()
        case "predict":
            return _predict(learner, data)
    raise ValueError(f"{command!r}: expected epoch, accuracy, memory or predict")


def _epoch(learner: Learner) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    learner.epoch()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall / learner.share, "cores": cpu / wall}


def _accuracy(learner: Learner, data: Data) -> dict[str, float]:
    digits = learner.predict(data.test_images).argmax(axis=1)
    return {"accuracy": float((digits == data.test_labels).mean())}


def _predict(learner: Learner, data: Data) -> dict[str, float]:
    images = data.test_images
    learner.predict(images)
    wall = time.perf_counter()
    for index in range(ALONE):
        learner.predict(images[index : index + 1])
    alone = (time.perf_counter() - wall) / ALONE
    wall = time.perf_counter()
    for start in range(0, len(images), TOGETHER):
        learner.predict(images[start : start + TOGETHER])
    together = (time.perf_counter() - wall) / len(images)
    return {"alone_ms": alone * 1000, "together_ms": together * 1000}


def _memory() -> dict[str, float]:
    # Linux starts a new program's ru_maxrss at that of the process it was forked from; VmHWM starts anew.
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return {"peak_rss_mib": int(peak.split()[1]) / 1024}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}


def _hold_to(cores: int) -> None:
    # Some libraries start more threads than they are told to. (macOS knows no affinity.)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])


def main(module: str, configuration: str, folder: str, cores: str) -> None:
    """Answers commands with the learner of `module`, on so many cores."""
    _hold_to(int(cores))
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # whatever a library prints is not an answer
        chosen = Configuration.from_json(configuration)
        data = Data(Path(folder), chosen.images)
        kind = importlib.import_module(f"benchmarks.training.learners.{module}").Learner
        learner: Learner = kind(chosen, data)
        answers.write(json.dumps({"versions": learner.versions}) + "\n")
        for line in sys.stdin:
            answers.write(json.dumps(_answer(line.strip(), learner, data)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
