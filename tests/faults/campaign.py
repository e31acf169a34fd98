"""The campaign: what all its parts share, and what it has done to the server so far."""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.checks import Hashes, hashes, succeeded, whole
from tests.faults.machine import Machine

from mnist_client import Client, Dataset, Event, Split
from mnist_core import RECIPES

IMAGES, TESTED = 6_000, 1_000
# Recipes that are added later are among them; then what recipes do not use.
SHORT: dict[str, dict[str, Any]] = {
    **{name: {"recipe": name, "epochs": 3, "seed": 1} for name in RECIPES},
    "momentum": {
        "hidden": 20,
        "momentum": 0.9,
        "learning_rate": 0.5,
        "epochs": 3,
        "dtype": "float64",
        "seed": 1,
    },
    "keep-best": {
        "validation": 500,
        "keep_best": True,
        "patience": 3,
        "learning_rate": 20.0,
        "epochs": 3,
        "seed": 1,
    },
}

LIGHT = ("classic", "quick", "momentum", "keep-best")
"""Those that take a second or two: for faults that do not hang on what is trained."""


class Watcher:
    """Watches a job through everything, as a client's user does: by the SDK alone."""

    def __init__(self, client: Client, job: str) -> None:
        self.events: list[Event] = []
        self._failure: BaseException | None = None
        self._job = client.job(job)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        try:
            for event in self._job.watch():
                self.events.append(event)
        except BaseException as error:
            self._failure = error

    def finish(self, expected: Hashes) -> list[Event]:
        """The history that it saw; fails unless that is whole, and of all the epochs."""
        self._thread.join(300)
        if self._failure is not None:
            raise AssertionError(f"the watch broke off: {self._failure!r}") from self._failure
        assert not self._thread.is_alive(), "the watch has not ended"
        whole(self.events, expected)
        assert len(hashes(self.events)) == len(expected)
        return self.events


class Campaign:
    """One run, which a seed decides but for when exactly things happen."""

    def __init__(self, seed: int, dataset: Dataset) -> None:
        assert dataset.test is not None
        self.random = random.Random(seed)
        self.full = dataset
        self.data = Dataset(
            "few",
            Split(dataset.train.images[:IMAGES], dataset.train.labels[:IMAGES]),
            test=Split(dataset.test.images[:TESTED], dataset.test.labels[:TESTED]),
        )
        self.done: Counter[str] = Counter()
        self._undisturbed: dict[str, tuple[Hashes, float]] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="mnist-faults-")
        self.folder = Path(self._folder.name)
        self.folder.chmod(0o755)
        self._machines = 0

    def count(self, kind: str) -> None:
        """Notes a fault."""
        self.done[kind] += 1

    @contextmanager
    def machine(self, *options: str, started: bool = True) -> Iterator[Machine]:
        """A machine of its own, whose server is stopped at the end; nothing may be left of it."""
        self._machines += 1
        machine = Machine(self.folder / str(self._machines), *options)
        try:
            if started:
                machine.start()
            yield machine
            if machine.running:
                machine.stop()
        except BaseException as error:
            error.add_note(f"the server's log ends with:\n{machine.log.read_text()[-4000:]}")
            raise
        finally:
            if machine.running:
                machine.kill("server")

    def undisturbed(self, name: str, asked: dict[str, Any], *, full: bool = False) -> tuple[Hashes, float]:
        """The hashes of a run that nothing happens to, and how long it takes, in seconds."""
        if name not in self._undisturbed:
            with self.machine() as machine, machine.client() as client:
                began = time.monotonic()
                job = client.train(self.full if full else self.data, **asked)
                found = list(job.watch())
                taken = time.monotonic() - began
                expected = hashes(found)
                succeeded(client, job.name, expected)
            self._undisturbed[name] = expected, taken
        return self._undisturbed[name]
