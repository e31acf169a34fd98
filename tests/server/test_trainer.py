import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from mnist_client.datasets import Dataset
from mnist_core import (
    RECIPES,
    EpochReport,
    Progress,
    calibrated,
    fit_temperature,
    load_checkpoint,
    load_model,
    read_model,
    save_checkpoint,
    train,
)
from mnist_proto.v1 import model_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_server import trainer as trainer_module
from mnist_server.configuration import resolve
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.dataset_files import Upload, open_dataset
from mnist_server.jobs import Jobs, new_name
from mnist_server.limits import Limits
from mnist_server.registry import ModelRegistry
from mnist_server.trainer import Trainer

TIMEOUT = 30.0
EPOCHS = 6
Submit = Callable[..., str]

CONFIGS: dict[str, dict[str, Any]] = {
    "classic": {},
    "momentum": {"momentum": 0.9, "learning_rate": 0.5, "weight_decay": 0.01},
    "float64": {"dtype": pb.DTYPE_FLOAT64, "hidden_layers": pb.HiddenLayers(sizes=[20, 10])},
    "early stopping": {"validation_images": 50, "patience": 2, "learning_rate": 0.001},
    "keep best": {"validation_images": 50, "keep_best": True, "until_accuracy": 1.0, "learning_rate": 5.0},
}


@pytest.fixture(autouse=True)
def checkpoint_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_SECONDS", -1.0)


@pytest.fixture
def submit(directory: DataDirectory, jobs: Jobs, digits: Dataset) -> Submit:
    """submit(images=200, **fields of TrainingConfig) -> the name of a job on real digits that can be run."""

    def make(images: int = 200, **fields: object) -> str:
        name = new_name()
        upload = Upload(directory.datasets, Limits())
        for split, data in (("train", digits.train), ("test", digits.test)):
            assert data is not None
            upload.add(split, data.images[:images], data.labels[:images])
        fields = {"seed": 0, "epochs": EPOCHS} | fields
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
        directory.job(name).mkdir()
        return jobs.create(name, resolved, request_id="", request_hash="", dataset=dataset, max_queued=100)

    return make


@pytest.fixture
def run(directory: DataDirectory, database: Database, jobs: Jobs) -> Callable[..., bool]:
    """run(job, stop_after=None) -> whether it ended; it is asked to stop once it has announced that epoch."""

    def run(name: str, *, stop_after: int | None = None) -> bool:
        trainer = Trainer(directory, database, name)
        jobs_of_trainer: Any = trainer._jobs
        append = jobs_of_trainer.append

        def append_and_stop(job: str, event: pb.TrainingEvent, *, durable: bool = True) -> pb.TrainingJob:
            if event.HasField("epoch_finished") and event.epoch_finished.epoch == stop_after:
                trainer.stop()
            appended: pb.TrainingJob = append(job, event, durable=durable)
            return appended

        jobs_of_trainer.append = append_and_stop
        ended = trainer.run()
        if not ended:
            jobs.interrupted(name, crashed=False)
        return ended

    return run


Run = Callable[..., bool]


def history(jobs: Jobs, name: str) -> list[pb.TrainingEvent]:
    events = jobs.events(name, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


def kinds(jobs: Jobs, name: str) -> list[str | None]:
    return [event.WhichOneof("event") for event in history(jobs, name)]


def epochs(jobs: Jobs, name: str) -> list[tuple[object, ...]]:
    """What a job says of its epochs, but for how long they took."""
    found = [event.epoch_finished for event in history(jobs, name) if event.HasField("epoch_finished")]
    return [
        (each.epoch, each.correct, each.validation_correct, each.loss, each.weights_hash) for each in found
    ]


def checkpoints(directory: DataDirectory, name: str) -> list[Path]:
    return sorted(directory.job(name).glob("checkpoint-*"))


@contextmanager
def rewritten(database: Database, name: str) -> Iterator[pb.TrainingJob]:
    """Changes a job's row as nothing of the server's would."""
    with database.write() as connection:
        (body,) = connection.execute("SELECT body FROM jobs WHERE name = ?", (name,)).fetchone()
        job = pb.TrainingJob.FromString(body)
        yield job
        connection.execute("UPDATE jobs SET body = ? WHERE name = ?", (job.SerializeToString(), name))


@pytest.mark.parametrize("fields", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_job_stopped_after_any_epoch_goes_on_to_the_same_bits(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, fields: dict[str, Any]
) -> None:
    undisturbed = submit(**fields)
    assert run(undisturbed)
    expected = epochs(jobs, undisturbed)
    reason = history(jobs, undisturbed)[-1].succeeded.stop_reason
    early = "patience" in fields
    assert reason == (pb.STOP_REASON_EARLY_STOPPING if early else pb.STOP_REASON_EPOCHS)
    assert (len(expected) < EPOCHS) == early
    for stop_after in range(len(expected)):
        name = submit(**fields)
        assert not run(name, stop_after=stop_after)
        assert len(epochs(jobs, name)) == stop_after + 1
        assert run(name)
        assert epochs(jobs, name) == expected
        ended = history(jobs, name)[-1].succeeded
        assert ended.stop_reason == reason
        [continued] = [event for event in history(jobs, name) if event.HasField("continued")]
        assert continued.continued.epoch == stop_after + 1
        network, _, _ = load_model(directory.models / f"{name[5:]}.safetensors")
        kept = ended.epoch if "keep_best" in fields else -1
        assert network.weights_hash() == expected[kept][-1]
        assert ended.epoch == expected[kept][0]


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_that_is_stopped_and_killed_goes_on_to_the_same_bits(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, recipe: str
) -> None:
    undisturbed, name = (submit(images=100, recipe=recipe, epochs=3) for _ in range(2))
    assert run(undisturbed)
    assert not run(name, stop_after=0)
    assert not run(name, stop_after=1)
    checkpoints(directory, name)[-1].unlink()  # as if it had been killed before it was written
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)
    assert len(epochs(jobs, name)) == 3
    continued = [event.continued.epoch for event in history(jobs, name) if event.HasField("continued")]
    assert continued == [1, 1]


def version_of(database: Database, name: str) -> model_pb2.ModelVersion:
    """The version that a job has made."""
    with database.read() as connection:
        [(body,)] = connection.execute(
            "SELECT body FROM versions WHERE file = ?", (f"{name[5:]}.safetensors",)
        ).fetchall()
    return model_pb2.ModelVersion.FromString(body)


def test_keep_best_makes_a_version_of_the_best_epoch_that_says_so(
    database: Database, jobs: Jobs, submit: Submit, run: Run
) -> None:
    # So large a step goes up and down; with this seed the best epoch is not the last.
    fields = {"validation_images": 50, "learning_rate": 20.0, "seed": 4, "epochs": 10}
    last, best = submit(**fields), submit(**fields, keep_best=True)
    for name in (last, best):
        run(name)
    found = [event.epoch_finished for event in history(jobs, best) if event.HasField("epoch_finished")]
    assert epochs(jobs, last) == epochs(jobs, best)
    most = max(epoch.validation_correct for epoch in found)
    expected = next(epoch for epoch in found if epoch.validation_correct == most)
    assert expected.epoch < 9
    assert history(jobs, best)[-1].succeeded.epoch == expected.epoch
    version = version_of(database, best)
    assert version.last_epoch == expected
    assert version.weights_hash == expected.weights_hash
    assert history(jobs, last)[-1].succeeded.epoch == 9
    assert version_of(database, last).weights_hash == found[-1].weights_hash


def test_a_target_ends_a_job_after_the_epoch_that_reaches_it(jobs: Jobs, submit: Submit, run: Run) -> None:
    name = submit(validation_images=50, until_accuracy=0.5, epochs=100)
    run(name)
    *before, last = [
        event.epoch_finished for event in history(jobs, name) if event.HasField("epoch_finished")
    ]
    assert last.validation_correct >= 25 > max([0, *(epoch.validation_correct for epoch in before)])
    ended = history(jobs, name)[-1].succeeded
    assert (ended.stop_reason, ended.epoch) == (pb.STOP_REASON_TARGET_ACCURACY, last.epoch)


class TestTimeBudget:
    """Judged by the seconds that the history has, so that the last epoch is the same whatever happens."""

    SECONDS = 3.0  # an epoch, as the reports of these tests say

    @pytest.fixture(autouse=True)
    def epochs_of_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def train_slowly(*arguments: Any) -> Iterator[Progress | EpochReport]:
            for report in train(*arguments):
                yield replace(report, seconds=self.SECONDS) if isinstance(report, EpochReport) else report

        monkeypatch.setattr(trainer_module, "train", train_slowly)

    @pytest.mark.parametrize(
        ("budget", "count"), [(0.001, 1), (3.0, 1), (3.001, 2), (8.9, 3), (1000.0, EPOCHS)]
    )
    def test_ends_after_the_epoch_with_which_it_is_used_up(
        self, database: Database, jobs: Jobs, submit: Submit, run: Run, budget: float, count: int
    ) -> None:
        undisturbed, name = (
            submit(),
            submit(time_budget=Duration(nanos=round(budget * 1e9) % 10**9, seconds=int(budget))),
        )
        run(undisturbed)
        assert run(name)
        assert epochs(jobs, name) == epochs(jobs, undisturbed)[:count]
        ended = history(jobs, name)[-1].succeeded
        reason = pb.STOP_REASON_EPOCHS if count == EPOCHS else pb.STOP_REASON_TIME_BUDGET
        assert (ended.stop_reason, ended.epoch) == (reason, count - 1)
        assert version_of(database, name).weights_hash == epochs(jobs, name)[-1][-1]

    @pytest.mark.parametrize("stop_after", [0, 1, 2])
    def test_goes_on_with_what_is_left_of_it(
        self,
        directory: DataDirectory,
        jobs: Jobs,
        submit: Submit,
        run: Run,
        monkeypatch: pytest.MonkeyPatch,
        stop_after: int,
    ) -> None:
        name = submit(time_budget=Duration(seconds=10))
        assert not run(name, stop_after=stop_after)
        if stop_after == 1:  # what is computed again counts as the history has it, however long it takes now
            for path in checkpoints(directory, name):
                path.unlink()
            monkeypatch.setattr(TestTimeBudget, "SECONDS", 100.0)
        assert run(name)
        assert len(epochs(jobs, name)) == (3 if stop_after == 1 else 4)

    def test_a_job_that_died_when_it_was_used_up_does_no_more(
        self, jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = submit(time_budget=Duration(seconds=8))

        def die(*_: Any, **__: Any) -> str:
            raise sqlite3.OperationalError("disk I/O error")

        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr(trainer_module, "add_version", die)
                with pytest.raises(sqlite3.OperationalError):
                    run(name)
            jobs.interrupted(name, crashed=True)
        assert run(name)
        assert len(epochs(jobs, name)) == 3


def test_confidences_are_made_true_on_the_validation_split(
    directory: DataDirectory, jobs: Jobs, database: Database, submit: Submit, run: Run
) -> None:
    name = submit(output=pb.OUTPUT_SOFTMAX, loss=pb.LOSS_CROSS_ENTROPY, validation_images=60)
    assert run(name)
    saved = read_model(directory.models / f"{name[5:]}.safetensors")
    dataset = open_dataset(directory.datasets, jobs.get(name).config)
    assert dataset.validation is not None
    assert saved.temperature == fit_temperature(saved.network, dataset.validation) != 1
    model = ModelRegistry(database, directory.models).load(jobs.get(name).model_version, field="model")
    served = calibrated(saved.network, saved.temperature).widened()
    assert model.network.weights_hash() == served.weights_hash()
    version = version_of(database, name)
    assert version.temperature == saved.temperature
    assert version.weights_hash == saved.network.weights_hash()


@pytest.mark.parametrize("fields", [{}, {"output": pb.OUTPUT_SOFTMAX, "loss": pb.LOSS_CROSS_ENTROPY}])
def test_without_a_validation_split_or_a_softmax_there_is_no_temperature(
    directory: DataDirectory, jobs: Jobs, database: Database, submit: Submit, run: Run, fields: dict[str, Any]
) -> None:
    name = submit(**fields, **({} if fields else {"validation_images": 60}))
    assert run(name)
    assert read_model(directory.models / f"{name[5:]}.safetensors").temperature == 1
    assert not version_of(database, name).HasField("temperature")


def test_a_job_may_be_stopped_again_and_again(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)
    for stop_after in range(EPOCHS):
        assert not run(name, stop_after=stop_after)
        assert len(checkpoints(directory, name)) <= trainer_module.CHECKPOINTS_KEPT
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)
    assert kinds(jobs, name)[:6] == [
        "accepted",
        "started",
        "epoch_finished",
        "continued",
        "epoch_finished",
        "continued",
    ]


def test_checkpoints_say_how_they_were_made(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run
) -> None:
    name = submit()
    run(name, stop_after=2)
    state, config, provenance = load_checkpoint(checkpoints(directory, name)[-1])
    resolved = jobs.get(name).config
    assert state.epoch == 3
    assert config.seed == 0
    assert provenance["job"] == name
    assert provenance["dataset"] == resolved.dataset
    for field in pb.Environment.DESCRIPTOR.fields:
        assert provenance[field.name] == str(getattr(resolved.environment, field.name))


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "foreign"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    directory: DataDirectory,
    jobs: Jobs,
    submit: Submit,
    run: Run,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)
    run(name, stop_after=3)
    before, newest = checkpoints(directory, name)
    assert load_checkpoint(before)[0].epoch == 3
    data = newest.read_bytes()
    match damage:
        case "torn":
            newest.write_bytes(data[: len(data) // 2])
        case "empty":
            newest.write_bytes(b"")
        case "flipped":
            newest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "foreign":  # whole, but of a training that this one is not
            other = submit(seed=1)
            run(other, stop_after=3)
            newest.write_bytes(checkpoints(directory, other)[-1].read_bytes())
    assert run(name)
    assert "checkpoint skipped" in caplog.text
    [continued] = [event for event in history(jobs, name) if event.HasField("continued")]
    assert continued.continued.epoch == 3
    [skipped] = continued.continued.skipped_checkpoints  # and whoever watches is told
    assert skipped.startswith(f"{newest.name}: ")
    assert str(directory.root) not in skipped
    assert epochs(jobs, name) == epochs(jobs, undisturbed)


def test_without_a_checkpoint_that_can_be_read_it_begins_anew(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)
    run(name, stop_after=3)
    for path in checkpoints(directory, name):
        path.write_bytes(b"no checkpoint")
    assert run(name)
    [continued] = [event for event in history(jobs, name) if event.HasField("continued")]
    assert continued.continued.epoch == 0
    assert epochs(jobs, name) == epochs(jobs, undisturbed)


def test_a_checkpoint_of_epochs_that_the_history_has_lost_is_not_used(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit, run: Run
) -> None:
    """After a power failure: the checkpoint was on the disk, the newest events not yet."""
    undisturbed, name = submit(), submit()
    run(undisturbed)
    run(name, stop_after=3)
    with rewritten(database, name) as job:
        events = history(jobs, name)
        job.last_sequence, last = 4, events[3].epoch_finished
        assert last.epoch == 1
        job.last_epoch.CopyFrom(last)
    with database.write() as connection:
        connection.execute("DELETE FROM events WHERE job = ? AND sequence > 4", (name,))
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_epoch_that_comes_out_otherwise_than_the_history_has_it_fails_the_job(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit, run: Run, stop_after: int
) -> None:
    name = submit()
    run(name, stop_after=stop_after)
    for path in checkpoints(directory, name):
        path.unlink()
    event = history(jobs, name)[3]
    right = event.epoch_finished.weights_hash
    event.epoch_finished.weights_hash = "0" * 64
    with database.write() as connection:
        connection.execute(
            "UPDATE events SET body = ? WHERE job = ? AND sequence = 4", (event.SerializeToString(), name)
        )
    assert run(name)
    assert kinds(jobs, name)[-2:] == ["continued", "failed"]
    job = jobs.get(name)
    assert job.state == pb.JOB_STATE_FAILED
    assert job.reason == (
        f"epoch 1 was computed again with another result: weights {right}, expected {'0' * 64}"
    )
    assert list(directory.models.iterdir()) == []


@contextmanager
def elsewhere(database: Database, name: str) -> Iterator[None]:
    """Has a job be accepted in another environment than this."""
    with rewritten(database, name) as job:
        job.config.environment.numpy_version = "1.0.0"
        job.config.environment.blas_kernel = "Abacus"
        yield


@pytest.mark.parametrize("begun", [False, True])
def test_another_environment_pauses_the_job_naming_what_differs(
    database: Database, jobs: Jobs, submit: Submit, run: Run, begun: bool
) -> None:
    name = submit()
    now = jobs.get(name).config.environment.numpy_version
    if begun:
        run(name, stop_after=1)
    with elsewhere(database, name):
        pass
    assert run(name)
    assert kinds(jobs, name)[-2:] == ["continued" if begun else "started", "paused"]
    job = jobs.get(name)
    assert job.state == pb.JOB_STATE_PAUSED
    assert job.reason == history(jobs, name)[-1].paused.reason
    assert f"numpy_version was 1.0.0, is {now}" in job.reason
    assert "blas_kernel was Abacus, is " in job.reason
    assert "code_version" not in job.reason


def test_a_job_that_may_go_on_elsewhere_does_and_says_what_differs(
    directory: DataDirectory, database: Database, jobs: Jobs, submit: Submit, run: Run
) -> None:
    name = submit()
    run(name, stop_after=3)
    checkpoints(directory, name)[-1].unlink()
    with database.write() as connection:  # epochs that come out otherwise here, as they would elsewhere
        for event in history(jobs, name):
            if event.epoch_finished.epoch >= 2:
                event.epoch_finished.weights_hash = "0" * 64
                changed = (event.SerializeToString(), name, event.sequence)
                connection.execute("UPDATE events SET body = ? WHERE job = ? AND sequence = ?", changed)
    with elsewhere(database, name):
        pass
    assert run(name)
    jobs.resume(name, ["it differs"], allow_inexact=True)
    assert not run(name, stop_after=4)
    assert run(name)
    assert [epoch for epoch, *_ in epochs(jobs, name)] == list(range(EPOCHS))
    assert jobs.get(name).state == pb.JOB_STATE_SUCCEEDED
    first, *later = [event.continued for event in history(jobs, name) if event.HasField("continued")]
    assert not first.differences  # that was before it was allowed to
    assert len(later) == 2
    for continued in later:
        assert [line.partition(" ")[0] for line in continued.differences] == ["numpy_version", "blas_kernel"]
        assert not continued.skipped_checkpoints


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_job(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "save_checkpoint", fail)
        assert not run(name, stop_after=3)
    assert checkpoints(directory, name) == []
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)


def test_what_a_killed_process_left_half_written_is_removed(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run
) -> None:
    name = submit()
    left = directory.job(name) / ".writing-left"
    left.write_bytes(b"half of it")
    assert not run(name, stop_after=1)
    assert not left.exists()


@pytest.mark.parametrize("file", ["train-images", "train-labels", "test-images", "test-labels"])
@pytest.mark.parametrize("damage", ["short", "gone", "flipped"])
def test_a_damaged_data_set_fails_the_job_naming_it(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, file: str, damage: str
) -> None:
    name = submit()
    [folder] = directory.datasets.iterdir()
    match damage:
        case "short":
            os.truncate(folder / file, 10)
        case "gone":
            (folder / file).unlink()
        case "flipped":
            data = (folder / file).read_bytes()
            (folder / file).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert run(name)
    assert kinds(jobs, name) == ["accepted", "failed"]
    assert str(folder if damage == "flipped" else folder / file) in jobs.get(name).reason


def test_running_out_of_memory_fails_the_job(
    jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhaust(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(trainer_module, "train", exhaust)
    name = submit()
    assert run(name)
    assert jobs.get(name).reason == "out of memory"


def test_a_job_that_is_to_be_cancelled_is_and_makes_no_model(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = submit()

    def cancel_and_save(*arguments: Any) -> None:
        jobs.cancel(name)
        save_checkpoint(*arguments)

    monkeypatch.setattr(trainer_module, "save_checkpoint", cancel_and_save)
    assert run(name)
    assert kinds(jobs, name) == ["accepted", "started", "epoch_finished", "cancelled"]
    assert list(directory.models.iterdir()) == []


def test_a_job_that_is_to_be_paused_is_and_goes_on_to_the_same_bits(
    directory: DataDirectory, jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)

    def pause_and_save(*arguments: Any) -> None:
        jobs.pause(name)
        save_checkpoint(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "save_checkpoint", pause_and_save)
        assert run(name)
    assert kinds(jobs, name) == ["accepted", "started", "epoch_finished", "paused"]
    assert [path.name for path in directory.job(name).iterdir()] == ["checkpoint-000001.safetensors"]
    assert run(name)  # the scheduler does not begin it, but if it did, nothing would happen to it
    assert kinds(jobs, name)[-1] == "paused"
    jobs.resume(name, [], allow_inexact=False)
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)


def test_a_job_that_was_cancelled_before_its_trainer_began_is_left_alone(
    jobs: Jobs, submit: Submit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    early, late = submit(), submit()
    jobs.cancel(early)
    assert run(early)

    def cancel_and_open(*arguments: Any) -> Any:
        jobs.cancel(late)
        return open_dataset(*arguments)

    monkeypatch.setattr(trainer_module, "open_dataset", cancel_and_open)
    assert run(late)
    assert kinds(jobs, early) == kinds(jobs, late) == ["accepted", "cancelled"]


def test_a_death_between_model_and_event_makes_one_model(
    directory: DataDirectory,
    database: Database,
    jobs: Jobs,
    submit: Submit,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, name = submit(), submit()
    run(undisturbed)

    def die(*_: Any, **__: Any) -> str:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "add_version", die)
        with pytest.raises(sqlite3.OperationalError):
            run(name)
    jobs.interrupted(name, crashed=True)
    assert kinds(jobs, name)[-1] == "epoch_finished"
    assert run(name)
    assert epochs(jobs, name) == epochs(jobs, undisturbed)
    with database.read() as connection:
        rows = connection.execute("SELECT file, body FROM versions ORDER BY file").fetchall()
    versions = {file: model_pb2.ModelVersion.FromString(body) for file, body in rows}
    assert sorted(path.name for path in directory.models.iterdir()) == list(versions)
    assert sorted(version.job for version in versions.values()) == sorted([undisturbed, name])


class TestProcess:
    @pytest.fixture
    def start(self, directory: DataDirectory) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
        """Starts a trainer as the scheduler does; ends what is left of it."""
        started = []

        def start(name: str) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-P", "-m", "mnist_server.trainer", str(directory.root), name]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            started.append(process)
            return process

        yield start
        for process in started:
            process.kill()
            with process:  # closes its pipes and waits
                pass

    @staticmethod
    def wait_for_epoch(jobs: Jobs, name: str, epoch: int) -> None:
        deadline = time.monotonic() + TIMEOUT
        while jobs.get(name).last_epoch.epoch < epoch:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_runs_a_job_and_exits_0(
        self, jobs: Jobs, submit: Submit, start: Callable[[str], subprocess.Popen[bytes]]
    ) -> None:
        name = submit()
        process = start(name)
        assert process.wait(TIMEOUT) == 0
        assert jobs.get(name).state == pb.JOB_STATE_SUCCEEDED
        assert process.stdout is not None
        assert process.stdout.read() == b""

    def test_goes_at_once_when_the_pipe_to_its_server_closes(
        self, jobs: Jobs, submit: Submit, start: Callable[[str], subprocess.Popen[bytes]]
    ) -> None:
        name = submit(epochs=100_000)
        process = start(name)
        self.wait_for_epoch(jobs, name, 1)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(TIMEOUT) == 1
        assert jobs.get(name).state == pb.JOB_STATE_RUNNING
        assert history(jobs, name)[-1].HasField("epoch_finished")

    def test_sigterm_writes_a_checkpoint_and_leaves_the_job_to_another(
        self,
        directory: DataDirectory,
        jobs: Jobs,
        submit: Submit,
        start: Callable[[str], subprocess.Popen[bytes]],
    ) -> None:
        name = submit(epochs=100_000)
        process = start(name)
        self.wait_for_epoch(jobs, name, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == trainer_module.EXIT_STOPPED
        job = jobs.get(name)
        assert job.state == pb.JOB_STATE_RUNNING
        newest = checkpoints(directory, name)[-1]
        assert load_checkpoint(newest)[0].epoch == job.last_epoch.epoch + 1

    def test_two_never_run_one_job(
        self,
        directory: DataDirectory,
        jobs: Jobs,
        submit: Submit,
        start: Callable[[str], subprocess.Popen[bytes]],
    ) -> None:
        """A server that was killed may leave a trainer for a moment; the next server's waits for its end."""
        name = submit(epochs=100_000)
        first = start(name)
        self.wait_for_epoch(jobs, name, 1)
        second = start(name)
        time.sleep(1.0)
        assert kinds(jobs, name).count("continued") == 0
        first.kill()
        first.wait()
        deadline = time.monotonic() + TIMEOUT
        while "continued" not in kinds(jobs, name):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert second.poll() is None


def test_logs_what_it_does(jobs: Jobs, submit: Submit, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    name = submit()
    run(name)
    [record] = [record for record in caplog.records if record.getMessage() == "job succeeded"]
    assert vars(record)["job"] == name
    assert vars(record)["model_version"] == jobs.get(name).model_version
