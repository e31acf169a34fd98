"""A job's handle, against real servers."""

import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mnist_client import (
    Client,
    ConditionNotMet,
    Dataset,
    EpochFinished,
    JobCancelled,
    NotFound,
    Paused,
    Succeeded,
)

if TYPE_CHECKING:
    from tests.client.conftest import ServerProcess

    StartServer = Callable[..., ServerProcess]


def test_a_job_can_be_cancelled_once_it_runs_and_not_after(client: Client, digits: Dataset) -> None:
    job = client.train(digits, epochs=100_000)
    for event in job.watch():
        if isinstance(event, EpochFinished):
            break
    assert job.cancel().name == job.name
    with pytest.raises(JobCancelled, match=job.name):
        job.result(timeout=30)
    assert job.status().state == "CANCELLED"
    assert job.cancel().state == "CANCELLED"


def test_a_job_can_be_paused_while_it_runs_and_resumed_to_the_same_bits(
    client: Client, digits: Dataset
) -> None:
    asked: dict[str, Any] = {"hidden": 100, "epochs": 6, "seed": 1}
    undisturbed = client.train(digits, **asked).watch()
    expected = [event.weights_hash for event in undisturbed if isinstance(event, EpochFinished)]
    job = client.train(digits, **asked)
    with pytest.raises(ConditionNotMet, match="expected a paused job"):
        job.resume()
    seen = []
    for event in job.watch():
        if isinstance(event, EpochFinished):
            seen.append(event.weights_hash)
            if event.epoch == 1:
                assert job.pause().state in ("RUNNING", "PAUSED")
        if isinstance(event, Paused):
            assert event.reason is None
            assert job.pause().state == job.status().state == "PAUSED"
            assert job.resume().state == "QUEUED"
    assert seen == expected
    kinds = [type(event).__name__ for event in job.watch() if not isinstance(event, EpochFinished)]
    assert kinds == ["Accepted", "Started", "Paused", "Resumed", "Continued", "Succeeded"]
    for change in (job.pause, job.resume):
        with pytest.raises(ConditionNotMet, match="SUCCEEDED"):
            change()


def test_a_job_that_waits_cannot_be_paused(client: Client, digits: Dataset) -> None:
    running, waiting = (client.train(digits, epochs=100_000) for _ in range(2))
    with pytest.raises(ConditionNotMet, match="QUEUED: expected a running job"):
        waiting.pause()
    waiting.cancel()
    running.cancel()


def test_a_job_ends_when_its_time_is_used_up_or_its_target_reached(client: Client, digits: Dataset) -> None:
    job = client.train(digits, epochs=100_000, time_budget=1e-6)
    ended = job.result(timeout=60)
    assert (ended.stop_reason, ended.epoch) == ("time_budget", 0)
    job = client.train(digits, epochs=100_000, validation=500, until_accuracy=0.5, keep_best=True)
    ended = job.result(timeout=60)
    last = job.status().last_epoch
    assert last is not None
    assert (ended.stop_reason, ended.epoch) == ("target_accuracy", last.epoch)
    assert client.model(ended.model_version).versions[0].weights_hash == last.weights_hash


def test_a_job_that_has_ended_can_be_deleted_and_others_listed(client: Client, few: Dataset) -> None:
    job, other = (client.train(few, epochs=1, name="listed") for _ in range(2))
    for each in (job, other):
        each.result(timeout=60)
    listed = [each.name for each in client.jobs(model="listed", states=["SUCCEEDED"])]
    assert listed == [other.name, job.name]
    assert list(client.jobs(model="listed", states=["QUEUED", "FAILED"])) == []
    job.delete()
    with pytest.raises(NotFound):
        job.status()
    assert [each.name for each in client.jobs(model="listed")] == [other.name]
    waiting = client.train(few, epochs=100_000)
    with pytest.raises(ConditionNotMet, match="expected a job that has ended"):
        waiting.delete()
    waiting.cancel()


def test_a_job_that_has_ended_cannot_be_cancelled(client: Client, few: Dataset) -> None:
    job = client.train(few, epochs=1)
    job.result(timeout=60)
    with pytest.raises(ConditionNotMet, match="SUCCEEDED"):
        job.cancel()


def test_waiting_for_a_result_may_end_before_the_job(client: Client, digits: Dataset) -> None:
    job = client.train(digits, epochs=100_000)
    with pytest.raises(TimeoutError, match=rf"^{job.name} has not ended within 0\.1 s$"):
        job.result(timeout=0.1)
    assert job.status().state in ("QUEUED", "RUNNING")
    job.cancel()


def test_a_job_goes_on_without_its_client(server: str, few: Dataset) -> None:
    with Client(server) as client:
        name = client.train(few, epochs=20).name
    with Client(server) as client:
        assert client.job(name).result(timeout=60).stop_reason == "epochs"


def test_a_job_that_is_not_there_is_not_found(client: Client) -> None:
    job = client.job("job-nobody")
    for call in (job.status, job.cancel, job.result, lambda: list(job.watch())):
        with pytest.raises(NotFound, match="job-nobody"):
            call()


def test_ctrl_c_leaves_a_watch_at_once_and_the_job_running(client: Client, digits: Dataset) -> None:
    job = client.train(digits, epochs=100_000)
    heard = threading.Event()

    def interrupt() -> None:
        heard.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()

    def watch() -> None:
        for event in job.watch():
            if isinstance(event, EpochFinished):
                heard.set()

    with pytest.raises(KeyboardInterrupt):
        watch()
    thread.join(30)
    assert job.status().state == "RUNNING"
    job.cancel()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_watch_follows_a_job_over_a_restart_of_its_server(
    start_server: "StartServer", digits: Dataset, how: str
) -> None:
    process = start_server()
    epochs = 80
    with Client(process.address) as client:
        job = client.train(digits, epochs=epochs, seed=3)
        events = []
        for event in job.watch():
            events.append(event)
            if isinstance(event, EpochFinished) and event.epoch == 2:
                getattr(process, how)()
                process = start_server(process.port)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert isinstance(events[-1], Succeeded)
        done = [event.epoch for event in events if isinstance(event, EpochFinished)]
        assert done == list(range(epochs))
        assert list(client.job(job.name).watch()) == events


# Faults while training begins
