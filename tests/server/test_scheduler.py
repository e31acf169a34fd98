import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mnist_client.datasets import Dataset
from mnist_proto.v1 import training_pb2 as pb
from mnist_server import scheduler as scheduler_module
from mnist_server.configuration import resolve
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.dataset_files import Upload
from mnist_server.jobs import Jobs, new_name
from mnist_server.limits import Limits
from mnist_server.scheduler import Scheduler

TIMEOUT = 30.0
# A job that is still running when a test has seen enough of it: some 200 ms an epoch.
LONG: dict[str, Any] = {"images": 4000, "hidden_layers": pb.HiddenLayers(sizes=[300]), "epochs": 100_000}
Submit = Callable[..., str]


@pytest.fixture
def scheduler(directory: DataDirectory, database: Database) -> Iterator[Scheduler]:
    scheduler = Scheduler(directory, database)
    yield scheduler
    scheduler.stop()


@pytest.fixture
def submit(directory: DataDirectory, jobs: Jobs, digits: Dataset) -> Submit:
    """submit(images=20, **fields of TrainingConfig) -> the name of a job on real digits that can be run."""

    def make(images: int = 20, **fields: object) -> str:
        name = new_name()
        upload = Upload(directory.datasets, Limits())
        upload.add("train", digits.train.images[:images], digits.train.labels[:images])
        fields = {"seed": 0, "epochs": 1} | fields
        config = pb.TrainingConfig(**fields)  # type: ignore[arg-type]  # each test gives fields that there are
        dataset = upload.describe()
        resolved = resolve(
            config,
            name,
            dataset_hash=dataset.name.removeprefix("datasets/"),
            counts=upload.counts,
            height=28,
            width=28,
            limits=Limits(),
        )
        upload.finish()
        return jobs.create(name, resolved, request_id="", request_hash="", dataset=dataset, max_queued=100)

    return make


def wait(condition: Callable[[], Any]) -> Any:
    """Returns what a condition becomes once it is true."""
    deadline = time.monotonic() + TIMEOUT
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return value


def ended(jobs: Jobs, name: str) -> pb.TrainingJob:
    def look() -> pb.TrainingJob | None:
        job = jobs.get(name)
        return job if job.HasField("end_time") else None

    found: pb.TrainingJob = wait(look)
    return found


def kinds(jobs: Jobs, name: str) -> list[str | None]:
    return [event.WhichOneof("event") for event in jobs.events(name, 0, 1000)]


def trainer_pid(scheduler: Scheduler) -> int:
    """The process of the trainer that runs now."""
    trainer = wait(lambda: next(iter(scheduler._trainers.values()), None))
    return int(trainer.pid)


def alive(pid: int) -> bool:
    """Whether a process is there and not just its entry, which its parent has not yet read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_jobs_run_one_at_a_time_in_the_order_of_their_acceptance(
    scheduler: Scheduler, jobs: Jobs, submit: Submit
) -> None:
    names = [submit(epochs=2) for _ in range(3)]
    scheduler.start()
    names.append(submit(epochs=2))  # accepted while others run
    histories = []
    for name in names:
        assert ended(jobs, name).state == pb.JOB_STATE_SUCCEEDED
        histories.append(jobs.events(name, 0, 100))
    for before, after in pairwise(histories):
        assert before[-1].time.ToNanoseconds() <= after[1].time.ToNanoseconds()
        assert kinds(jobs, after[0].job) == ["accepted", "started", *2 * ["epoch_finished"], "succeeded"]


def test_what_a_job_leaves_is_its_model_alone(
    scheduler: Scheduler, jobs: Jobs, submit: Submit, directory: DataDirectory
) -> None:
    name = submit()
    scheduler.start()
    ended(jobs, name)
    wait(lambda: not directory.job(name).exists())
    assert [file.name for file in directory.models.iterdir()] == [f"{name[5:]}.safetensors"]


def test_a_trainer_that_is_killed_is_followed_by_another(
    scheduler: Scheduler, jobs: Jobs, submit: Submit
) -> None:
    fields: dict[str, Any] = {"images": 4000, "hidden_layers": pb.HiddenLayers(sizes=[100]), "epochs": 10}
    undisturbed, name = submit(**fields), submit(**fields)
    scheduler.start()
    assert ended(jobs, undisturbed).state == pb.JOB_STATE_SUCCEEDED
    wait(lambda: jobs.get(name).last_epoch.epoch >= 2)
    os.kill(trainer_pid(scheduler), signal.SIGKILL)
    assert ended(jobs, name).state == pb.JOB_STATE_SUCCEEDED
    history = kinds(jobs, name)
    history.remove("continued")
    assert history == ["accepted", "started", *10 * ["epoch_finished"], "succeeded"]

    def epochs(job: str) -> list[tuple[int, str]]:
        return [
            (event.epoch_finished.epoch, event.epoch_finished.weights_hash)
            for event in jobs.events(job, 0, 100)
            if event.HasField("epoch_finished")
        ]

    assert epochs(name) == epochs(undisturbed)
    assert [epoch for epoch, _ in epochs(name)] == list(range(10))


def test_a_job_whose_trainer_always_dies_fails_and_the_next_one_begins(
    scheduler: Scheduler,
    jobs: Jobs,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
    directory: DataDirectory,
) -> None:
    monkeypatch.setattr(scheduler_module, "BACK_OFF_SECONDS", 0.1)
    name, following = submit(), submit()
    begun = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        begun.append(command[-1])
        if command[-1] == name:
            command = [*command[:1], "-c", "import os; os.kill(os.getpid(), 9)"]
        return popen(command, **options)

    monkeypatch.setattr("mnist_server.scheduler.subprocess.Popen", start)
    scheduler.start()
    job = ended(jobs, name)
    assert job.state == pb.JOB_STATE_FAILED
    assert job.reason == (
        "its process died 5 times without finishing an epoch, the last time by signal 9 (Killed); "
        "the kernel does that where memory runs out"
    )
    assert kinds(jobs, name) == ["accepted", "failed"]
    assert ended(jobs, following).state == pb.JOB_STATE_SUCCEEDED
    assert sorted(begun) == sorted([*[name] * 5, following])
    assert begun[:2] == [name] * 2  # the second try does not wait; during the others the next job has a turn
    assert not directory.job(name).exists()


def test_a_trainer_that_cannot_be_started_is_tried_again(
    scheduler: Scheduler,
    jobs: Jobs,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = submit()
    popen = subprocess.Popen
    tries = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        tries.append(arguments)
        if len(tries) == 1:
            raise OSError(11, "Resource temporarily unavailable")
        return popen(*arguments, **options)

    monkeypatch.setattr("mnist_server.scheduler.subprocess.Popen", start)
    scheduler.start()
    assert ended(jobs, name).state == pb.JOB_STATE_SUCCEEDED
    assert len(tries) == 2
    assert "trying again" in caplog.text


def test_a_database_that_fails_when_a_trainer_has_ended_is_asked_again(
    scheduler: Scheduler,
    jobs: Jobs,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the job would count as running for ever, without a trainer."""
    name = submit(**LONG)
    scheduler.start()
    wait(lambda: jobs.get(name).state == pb.JOB_STATE_RUNNING)
    interrupted = Jobs.interrupted
    failures = [OSError(5, "Input/output error")]

    def fail_once(self: Jobs, name: str, *, crashed: bool) -> int:
        if failures:
            raise failures.pop()
        return interrupted(self, name, crashed=crashed)

    monkeypatch.setattr(Jobs, "interrupted", fail_once)
    os.kill(trainer_pid(scheduler), signal.SIGKILL)
    wait(lambda: "continued" in kinds(jobs, name))
    assert not failures


def test_a_job_is_cancelled_even_if_its_trainer_hears_nothing(
    scheduler: Scheduler, jobs: Jobs, submit: Submit, directory: DataDirectory
) -> None:
    name = submit(**LONG)
    scheduler.start()
    wait(lambda: jobs.get(name).state == pb.JOB_STATE_RUNNING)
    directory.model_of(name).write_bytes(b"made, and not yet a version")
    pid = trainer_pid(scheduler)
    os.kill(pid, signal.SIGSTOP)
    jobs.cancel(name)
    assert ended(jobs, name).state == pb.JOB_STATE_CANCELLED
    assert kinds(jobs, name)[-1] == "cancelled"
    wait(lambda: not directory.job(name).exists())
    wait(lambda: not directory.model_of(name).exists())
    assert not alive(pid)


def test_stopping_ends_the_trainer_with_a_checkpoint_and_the_next_start_goes_on(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit
) -> None:
    name, following = submit(**LONG), submit()
    first = Scheduler(directory, database)
    first.start()
    wait(lambda: jobs.get(name).last_epoch.epoch >= 1)
    pid = trainer_pid(first)
    first.stop()
    assert not alive(pid)
    job = jobs.get(name)
    assert job.state == pb.JOB_STATE_QUEUED
    epoch = job.last_epoch.epoch
    assert (directory.job(name) / f"checkpoint-{epoch + 1:06}.safetensors").exists()
    assert kinds(jobs, following) == ["accepted"]

    second = Scheduler(directory, database)
    second.start()
    wait(lambda: jobs.get(name).last_epoch.epoch > epoch)
    continued = jobs.events(name, job.last_sequence, 1)[0]
    assert continued.continued.epoch == epoch + 1
    assert kinds(jobs, following) == ["accepted"]  # it is the other's turn still
    jobs.cancel(name)
    assert ended(jobs, following).state == pb.JOB_STATE_SUCCEEDED
    second.stop()


def test_a_trainer_that_does_not_stop_is_killed(
    directory: DataDirectory,
    database: Database,
    jobs: Jobs,
    submit: Submit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler_module, "STOP_SECONDS", 0.2)
    name = submit(**LONG)
    scheduler = Scheduler(directory, database)
    scheduler.start()
    wait(lambda: jobs.get(name).state == pb.JOB_STATE_RUNNING)
    pid = trainer_pid(scheduler)
    os.kill(pid, signal.SIGSTOP)
    scheduler.stop()
    assert not alive(pid)
    assert jobs.get(name).state == pb.JOB_STATE_QUEUED


def test_so_many_run_at_a_time_and_the_others_wait(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit
) -> None:
    names = [submit(**LONG) for _ in range(3)]
    scheduler = Scheduler(directory, database, 2)
    scheduler.start()

    def states() -> list[str]:
        return [pb.JobState.Name(jobs.get(name).state).removeprefix("JOB_STATE_") for name in names]

    wait(lambda: states() == ["RUNNING", "RUNNING", "QUEUED"])
    pids = {job: trainer.pid for job, trainer in scheduler._trainers.items()}
    assert sorted(pids) == sorted(names[:2])
    os.kill(
        pids[names[1]], signal.SIGKILL
    )  # one that dies is followed by another, and nobody else is touched
    wait(lambda: "continued" in kinds(jobs, names[1]))
    assert states() == ["RUNNING", "RUNNING", "QUEUED"]
    assert kinds(jobs, names[0]).count("continued") == 0
    jobs.cancel(names[0])
    wait(lambda: states() == ["CANCELLED", "RUNNING", "RUNNING"])
    left = [trainer.pid for trainer in scheduler._trainers.values()]
    scheduler.stop()
    assert states() == ["CANCELLED", "QUEUED", "QUEUED"]
    assert not any(alive(pid) for pid in left)


def test_a_paused_job_makes_room_and_goes_on_to_the_same_bits(
    scheduler: Scheduler, jobs: Jobs, submit: Submit, directory: DataDirectory
) -> None:
    fields: dict[str, Any] = {"images": 4000, "hidden_layers": pb.HiddenLayers(sizes=[100]), "epochs": 8}
    undisturbed, name, following = submit(**fields), submit(**fields), submit()
    scheduler.start()
    ended(jobs, undisturbed)
    wait(lambda: jobs.get(name).last_epoch.epoch >= 2)
    jobs.pause(name)
    assert ended(jobs, following).state == pb.JOB_STATE_SUCCEEDED
    paused = jobs.get(name)
    assert paused.state == pb.JOB_STATE_PAUSED
    # On a machine that is busy with other things there is an earlier one, too.
    newest = max(path.name for path in directory.job(name).iterdir() if path.name != "lock")
    assert newest == f"checkpoint-{paused.last_epoch.epoch + 1:06}.safetensors"
    jobs.resume(name, [], allow_inexact=False)
    assert ended(jobs, name).state == pb.JOB_STATE_SUCCEEDED
    history = jobs.events(name, 0, 100)
    hashes = [
        [event.epoch_finished.weights_hash for event in events if event.HasField("epoch_finished")]
        for events in (history, jobs.events(undisturbed, 0, 100))
    ]
    assert len(hashes[0]) == 8
    assert hashes[0] == hashes[1]
    [continued] = [event.continued for event in history if event.HasField("continued")]
    assert continued.epoch == paused.last_epoch.epoch + 1  # nothing is computed again


def test_a_trainer_that_pauses_is_not_one_that_crashed(
    scheduler: Scheduler, jobs: Jobs, submit: Submit, database: Database
) -> None:
    name = submit(**LONG)
    scheduler.start()
    for _ in range(3):
        wait(lambda: jobs.get(name).state == pb.JOB_STATE_RUNNING)
        jobs.pause(name)
        wait(lambda: jobs.get(name).state == pb.JOB_STATE_PAUSED)
        jobs.resume(name, [], allow_inexact=False)  # before the scheduler has noticed that the process ended
    with database.read() as connection:
        assert connection.execute("SELECT crashes FROM jobs WHERE name = ?", (name,)).fetchone() == (0,)


def test_a_paused_job_stays_paused_when_a_server_starts(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit
) -> None:
    name = submit(**LONG)
    first = Scheduler(directory, database)
    first.start()
    wait(lambda: jobs.get(name).last_epoch.epoch >= 1)
    jobs.pause(name)
    wait(lambda: jobs.get(name).state == pb.JOB_STATE_PAUSED)
    first.stop()
    directory.remove_strays(database)
    assert list(directory.job(name).glob("checkpoint-*"))
    second = Scheduler(directory, database)
    second.start()
    assert ended(jobs, submit()).state == pb.JOB_STATE_SUCCEEDED
    assert kinds(jobs, name)[-1] == "paused"
    second.stop()


def test_what_ran_when_a_server_died_goes_first(
    scheduler: Scheduler, jobs: Jobs, submit: Submit, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name, following = submit(), submit()
    jobs.append(name, pb.TrainingEvent(started=pb.Started()))  # by a trainer that is gone
    scheduler.start()
    assert ended(jobs, following).state == pb.JOB_STATE_SUCCEEDED
    assert kinds(jobs, name) == ["accepted", "started", "continued", "epoch_finished", "succeeded"]
    begun = [vars(record)["job"] for record in caplog.records if record.getMessage() == "trainer started"]
    assert begun == [name, following]
