import dataclasses
import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from mnist_client import Client, Dataset, Job, Paused, Started
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode


def run(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["jobs", *words, "--server", server])


@pytest.fixture
def two_jobs(server: str, digits: Dataset) -> Iterator[list[str]]:
    """One that runs until it is cancelled, and one that waits behind it."""
    with Client(server) as client:
        jobs = [client.train(digits, name=f"job-{i}", epochs=100_000, seed=7) for i in range(2)]
        next(event for event in jobs[0].watch() if type(event).__name__ == "EpochFinished")
        yield [job.name for job in jobs]
        for job in reversed(jobs):
            if job.name not in {each.name for each in client.jobs()}:
                continue  # it was deleted
            if job.status().state in ("QUEUED", "RUNNING", "PAUSED"):
                job.cancel()


def test_list_is_newest_first(server: str, two_jobs: list[str]) -> None:
    running, waiting = two_jobs
    header, first, second, *_ = run(server, "list").stdout.splitlines()
    assert header.split() == ["JOB", "STATE", "MODEL", "EPOCHS", "ACCURACY", "ACCEPTED"]
    assert first.split()[:5] == [waiting, "QUEUED", "models/job-1", "0/100000", "-"]
    assert second.split()[:3] == [running, "RUNNING", "models/job-0"]
    records = [json.loads(line) for line in run(server, "list", "-o", "jsonl").stdout.splitlines()]
    assert [record["name"] for record in records[:2]] == [waiting, running]
    assert (
        run(server, "list", "-o", "csv").stdout.splitlines()[1].startswith(f"{waiting},QUEUED,models/job-1,")
    )


def test_list_may_be_of_some_states_or_of_a_model(server: str, two_jobs: list[str]) -> None:
    running, waiting = two_jobs

    def listed(*words: str) -> list[str]:
        return [
            json.loads(line)["name"]
            for line in run(server, "list", *words, "-o", "jsonl").stdout.splitlines()
        ]

    assert listed("--state", "queued") == [waiting]
    assert listed("--state", "RUNNING", "--state", "QUEUED") == [waiting, running]
    assert running in listed("--model", "job-0")
    assert waiting not in listed("--model", "job-0")
    assert listed("--limit", "1") == [waiting]
    assert run(server, "list", "--state", "ENDED").exit_code == ExitCode.USAGE


def test_delete_forgets_what_has_ended(server: str, two_jobs: list[str]) -> None:
    _, waiting = two_jobs
    result = run(server, "delete", waiting)
    assert result.exit_code == ExitCode.CONDITION
    assert "has ended" in result.stderr
    run(server, "cancel", waiting)
    assert json.loads(run(server, "delete", waiting, "-o", "json").stdout) == {
        "name": waiting,
        "deleted": True,
    }
    assert run(server, "delete", waiting).exit_code == ExitCode.NOT_FOUND


def test_csv_has_every_field_of_a_job(trained: str) -> None:
    header, *_ = run(trained, "list", "-o", "csv").stdout.splitlines()
    assert sorted(header.split(",")) == sorted(field.name for field in dataclasses.fields(Job))


def test_show_is_one_job(server: str, two_jobs: list[str]) -> None:
    running, waiting = two_jobs
    text = run(server, "show", running.removeprefix("jobs/")).stdout
    fields = dict(line.split(maxsplit=1) for line in text.splitlines() if line[0] != " ")
    assert fields["Job"] == running
    assert fields["State"] == "RUNNING"
    assert "784-30-10" in fields["Training"]
    assert "Reason" not in fields
    record = json.loads(run(server, "show", waiting, "-o", "json").stdout)
    assert (record["name"], record["state"], record["start_time"]) == (waiting, "QUEUED", None)
    assert record["config"]["hyperparameters"]["seed"] == 7


def test_cancel_ends_waiting_and_running_jobs(server: str, two_jobs: list[str]) -> None:
    running, waiting = two_jobs
    assert run(server, "cancel", waiting).stdout == f"{waiting} is cancelled\n"
    assert run(server, "cancel", waiting).exit_code == ExitCode.DONE  # a second time changes nothing
    record = json.loads(run(server, "cancel", running, "-o", "json").stdout)
    assert record["name"] == running
    watched = run(server, "watch", running, "-o", "jsonl")
    assert watched.exit_code == ExitCode.CONDITION
    assert json.loads(watched.stdout.splitlines()[-1])["event"] == "cancelled"


def test_pause_and_resume(server: str, two_jobs: list[str]) -> None:
    running, waiting = two_jobs
    assert run(server, "pause", waiting).exit_code == ExitCode.CONDITION  # it has not begun
    assert run(server, "resume", running).exit_code == ExitCode.CONDITION
    assert run(server, "pause", running).stdout == f"{running} will pause in a moment\n"
    with Client(server) as client:
        next(event for event in client.job(running).watch() if isinstance(event, Paused))
        next(
            event for event in client.job(waiting).watch() if isinstance(event, Started)
        )  # there is room now
    assert run(server, "pause", running).stdout == f"{running} is paused\n"
    assert json.loads(run(server, "show", running, "-o", "json").stdout)["state"] == "PAUSED"
    assert run(server, "resume", running).stdout == f"{running} is in the queue\n"
    record = json.loads(run(server, "cancel", running, "-o", "json").stdout)
    assert record["state"] == "CANCELLED"


def test_what_has_ended_cannot_be_cancelled(trained: str) -> None:
    records = [json.loads(line) for line in run(trained, "list", "-o", "jsonl").stdout.splitlines()]
    ended = next(record["name"] for record in records if record["state"] == "SUCCEEDED")
    result = run(trained, "cancel", ended)
    assert result.exit_code == ExitCode.CONDITION
    assert ended in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["show", "watch", "cancel", "pause", "resume"])
def test_an_unknown_job_is_not_found(server: str, command: str) -> None:
    result = run(server, command, "job-unknown")
    assert result.exit_code == ExitCode.NOT_FOUND
    (message,) = result.stderr.splitlines()
    assert message.startswith("Error: ")
    assert "jobs/job-unknown" in message
    assert result.stdout == ""


@pytest.mark.parametrize("words", [["show"], ["show", "Job!"], ["watch", "a", "--after", "-1"]])
def test_usage(words: list[str]) -> None:
    assert run("127.0.0.1:1", *words).exit_code == ExitCode.USAGE
