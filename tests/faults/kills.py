"""Processes that are killed at any moment: trainings come to the bits of an undisturbed run all the same."""

import time
from collections.abc import Callable
from typing import Any

from tests.faults.campaign import LIGHT, SHORT, Campaign, Watcher
from tests.faults.checks import Hashes, clean, history, succeeded, whole
from tests.faults.machine import Machine, wait

from mnist_client import Client

KINDS = ("trainer", "trainer", "server", "trainer and server", "worker", "SIGTERM")
# The server gives a job up that dies five times without an epoch in between, and rightly.
DEATHS = 3


def strike(campaign: Campaign, machine: Machine, kind: str) -> None:
    """Does it, and has the server be there again."""
    match kind:
        case "trainer and server":
            machine.kill("trainer")
            machine.kill("server")
        case "SIGTERM":
            machine.stop()
        case role:
            machine.kill(role)
    campaign.count("SIGTERM, drained and started again" if kind == "SIGTERM" else f"SIGKILL of the {kind}")
    if not machine.running:
        machine.start()


def run(campaign: Campaign, name: str, asked: dict[str, Any], kills: int, *, full: bool = False) -> None:
    """Trains, again and again, until so many kills have been survived."""
    expected, taken = campaign.undisturbed(name, asked, full=full)
    with campaign.machine("--workers", "2") as machine, machine.client() as client:
        while kills > 0:
            job = client.train(campaign.full if full else campaign.data, **asked).name
            watcher = Watcher(client, job)
            # Of a long run less, so that it gets somewhere between two kills.
            longest = taken / 8 if full else min(taken, 12.0)
            kills -= _disturb(campaign, machine, client, job, expected, kills, longest)
            succeeded(client, job, expected)
            watcher.finish(expected)
        clean(machine)


def _disturb(
    campaign: Campaign,
    machine: Machine,
    client: Client,
    job: str,
    expected: Hashes,
    kills: int,
    longest: float,
) -> int:
    """Kills at random until the job has ended, at most so often. Returns how often."""
    deaths, epochs = 0, 0
    for number in range(kills):
        wait(
            lambda: machine.one("trainer") or client.job(job).status().end_time is not None,
            "nobody trains the job",
        )
        time.sleep(campaign.random.uniform(0, longest))
        events = history(client, job)
        whole(events, expected)
        if client.job(job).status().end_time is not None:
            return number
        if len(events) > epochs:
            deaths, epochs = 0, len(events)
        kind = campaign.random.choice(KINDS)
        deaths += kind == "trainer"
        strike(campaign, machine, "server" if deaths > DEATHS else kind)
    return kills


def short(name: str) -> Callable[[Campaign], None]:
    """A recipe, shortened, with ten kills."""
    return lambda campaign: run(campaign, name, SHORT[name], 10)


def classic(campaign: Campaign) -> None:
    """The classic run in full: all images, all epochs."""
    run(campaign, "classic in full", {"seed": 1}, 20, full=True)


def pauses(campaign: Campaign) -> None:
    """Jobs that are paused and resumed while processes are killed; two train at a time."""
    names = campaign.random.choices(LIGHT, k=12)
    with campaign.machine("--jobs", "2") as machine, machine.client() as client:
        for name in names:
            asked = SHORT[name]
            expected, taken = campaign.undisturbed(name, asked)
            jobs = [client.train(campaign.data, **asked).name for _ in range(2)]
            watchers = [Watcher(client, job) for job in jobs]
            for job in jobs:
                _pause(campaign, machine, client, job, expected, taken)
            for job, watcher in zip(jobs, watchers, strict=True):
                succeeded(client, job, expected)
                watcher.finish(expected)
        clean(machine)


def _pause(
    campaign: Campaign, machine: Machine, client: Client, job: str, expected: Hashes, taken: float
) -> None:
    wait(lambda: client.job(job).status().state != "QUEUED", f"{job} does not begin")
    time.sleep(campaign.random.uniform(0, taken / 2))
    if client.job(job).status().state != "RUNNING":
        return
    client.job(job).pause()
    strike(campaign, machine, campaign.random.choice(("trainer", "server")))  # while it is about to
    wait(lambda: client.job(job).status().state not in ("RUNNING", "QUEUED"), f"{job} is not paused")
    if client.job(job).status().state != "PAUSED":  # it had come to its end before it heard of it
        return
    strike(campaign, machine, "server")
    assert client.job(job).status().state == "PAUSED"
    whole(history(client, job), expected)
    client.job(job).resume()
    strike(campaign, machine, campaign.random.choice(("trainer", "server")))
