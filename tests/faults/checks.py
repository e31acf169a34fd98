"""What must be true after every fault: of histories, weights, files and processes."""

from collections.abc import Sequence

from tests.faults.machine import Machine, wait

from mnist_client import Client, EpochFinished, Event
from mnist_client.history import Accepted, Cancelled, Failed, Paused, Started, Succeeded

Hashes = list[str]


def hashes(events: Sequence[Event]) -> Hashes:
    """The weights' hash after each epoch; fails if an epoch is missing, twice, or out of its turn."""
    epochs = [event for event in events if isinstance(event, EpochFinished)]
    assert [epoch.epoch for epoch in epochs] == list(range(len(epochs))), [epoch.epoch for epoch in epochs]
    return [epoch.weights_hash for epoch in epochs]


def whole(events: Sequence[Event], expected: Hashes) -> None:
    """Fails unless a history has no gap and no repetition, begins and ends as it should, and its weights are,
    as far as they go, those of an undisturbed run."""
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], Accepted)
    assert sum(isinstance(event, Started) for event in events) <= 1
    ends = [event for event in events if isinstance(event, Succeeded | Failed | Cancelled)]
    assert len(ends) <= 1
    assert not ends or ends[0] is events[-1]
    found = hashes(events)
    assert found == expected[: len(found)], "weights differ from those of an undisturbed run"


def history(client: Client, job: str) -> list[Event]:
    """A job's events as far as they have come: the watch is left at the last that there is now."""
    status = client.job(job).status()
    events: list[Event] = []
    for event in client.job(job).watch():
        events.append(event)
        if event.sequence >= status.last_sequence:
            break
    return events


def succeeded(client: Client, job: str, expected: Hashes) -> list[Event]:
    """Waits for a job's end; fails unless it succeeded and made what an undisturbed run makes."""
    events = list(client.job(job).watch())
    whole(events, expected)
    end = events[-1]
    assert isinstance(end, Succeeded), end
    assert len(hashes(events)) == len(expected)
    [version] = client.model(end.model_version).versions
    assert version.weights_hash == expected[end.epoch]
    return events


def paused(client: Client, job: str) -> None:
    """Waits until a job is paused."""
    wait(lambda: client.job(job).status().state != "RUNNING", f"{job} is not paused")
    assert client.job(job).status().state == "PAUSED"


def clean(machine: Machine) -> None:
    """Fails if the directory holds what nobody needs, or lacks what a row names. No job may be running."""
    live = {name for (name,) in machine.rows("SELECT name FROM jobs WHERE state IN (1, 2, 6)")}
    files = {name for (name,) in machine.rows("SELECT file FROM versions")}

    def strays() -> list[str]:
        jobs = {f"jobs/{path.name}" for path in (machine.data / "jobs").iterdir()}
        models = {path.name for path in (machine.data / "models").iterdir()}
        left = [path.name for path in machine.data.rglob(".*")]
        return [*(jobs - live), *(models ^ files), *left]

    try:
        wait(lambda: not strays(), "strays", 10.0)
    except AssertionError:
        raise AssertionError(f"files that nobody needs, or that are missing: {strays()}") from None


def last(events: Sequence[Event]) -> Event | None:
    """The last event that says whether a job goes on: an end, a pause, or none of them."""
    ends = [event for event in events if isinstance(event, Succeeded | Failed | Cancelled | Paused)]
    return ends[-1] if ends else None
