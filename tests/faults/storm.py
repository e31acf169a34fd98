"""Requests in a row, and the server or a worker killed among them: what was acknowledged is there."""

import contextlib
import threading
import time
from typing import Any

import numpy as np
from tests.faults.campaign import Campaign
from tests.faults.checks import clean
from tests.faults.kills import strike
from tests.faults.machine import wait

from mnist_client import Client, Dataset, MnistError, Split

WAITING = 6


class Ledger:
    """What was asked for and what was acknowledged, by one client that asks all the time."""

    def __init__(self, client: Client, data: Dataset, random: Any) -> None:
        self.jobs: set[str] = set()
        self.deleted: set[str] = set()
        self.maybe: set[str] = set()  # deletions that nobody answered
        self.alias: int | None = None
        self.asked_alias: set[int | None] = {None}
        self.datasets: set[str] = set()
        self.answers = 0
        self._client, self._data, self._random = client, data, random
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the asking."""
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(MnistError):
                self._random.choice((self._train, self._train, self._delete, self._move, self._upload))()
                self.answers += 1

    def _train(self) -> None:
        if len(list(self._client.jobs(states=["QUEUED", "RUNNING"]))) >= WAITING:
            return  # a queue that only grows would have to be waited for
        job = self._client.train(self._data, epochs=1, seed=1, name="stormy", hidden=5)
        self.jobs.add(job.name)

    def _delete(self) -> None:
        ended = [job for job in self._client.jobs(states="SUCCEEDED") if job.name in self.jobs]
        if len(ended) > 5:
            name = ended[-1].name
            self.maybe.add(name)
            self._client.job(name).delete()
            self.deleted.add(name)

    def _move(self) -> None:
        versions = [version.version for version in self._client.model("stormy").versions]
        wanted = self._random.choice(versions)
        self.asked_alias.add(wanted)
        self._client.set_alias("stormy", "moved", wanted)
        self.alias, self.asked_alias = wanted, {wanted}

    def _upload(self) -> None:
        self._number += 1
        images = np.full((50, 28, 28), self._number % 256, np.uint8)
        labels = (np.arange(50) % 10).astype(np.uint8)
        labels[0] = self._number // 256 % 10
        self.datasets.add(self._client.upload_dataset(Dataset("few", Split(images, labels))).name)


def storm(campaign: Campaign) -> None:
    """Forty kills while requests are made without a pause."""
    few = Dataset("few", Split(campaign.data.train.images[:200], campaign.data.train.labels[:200]))
    with campaign.machine("--workers", "2", "--jobs", "2") as machine, machine.client() as client:
        # An ordinary client, which hears of every failure.
        ledger = Ledger(Client(client.server, timeout=30), few, campaign.random)
        for _ in range(40):
            time.sleep(campaign.random.uniform(0.1, 1.0))
            strike(campaign, machine, campaign.random.choice(("server", "worker", "trainer", "server")))
        ledger.stop()
        assert ledger.answers > 40, ledger.answers
        wait(lambda: not list(client.jobs(states=["QUEUED", "RUNNING"])), "jobs do not end", 300)
        there = {job.name for job in client.jobs()}
        assert ledger.jobs - ledger.maybe <= there, "an accepted job is lost"
        assert not ledger.deleted & there, "a deleted job is there"
        assert ledger.datasets <= {dataset.name for dataset in client.datasets()}, "a data set is lost"
        assert client.model("stormy").aliases.get("moved") in ledger.asked_alias
        ended = [job for job in client.jobs() if job.state == "SUCCEEDED"]
        versions = [job.model_version for job in ended]
        assert len(set(versions)) == len(versions), "two jobs made one version"
        for job in ended[:10]:
            assert client.model(str(job.model_version)).versions[0].job == job.name
        failed = {job.name: job.reason for job in client.jobs(states="FAILED")}
        # Several of these kills may hit one job before it has finished an epoch: it is given up, and rightly.
        assert all(str(reason).startswith("its process died 5 times") for reason in failed.values()), failed
        clean(machine)
