"""The trainer: the process that one training job runs in.

It alone writes its job's events while the job runs. Its checkpoints are of finished epochs; after a crash,
epochs that the history already tells of are computed again in silence, and must come out the same (unless the
job was allowed to go on where its bits differ).
"""

import contextlib
import copy
import logging
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mnist_core import (
    CheckpointError,
    Dataset,
    Diverged,
    EpochReport,
    InvalidValue,
    Progress,
    Split,
    TrainingState,
    fit_temperature,
    load_checkpoint,
    save_checkpoint,
    save_model,
    train,
)
from mnist_core.durable import TEMPORARY_PREFIX, sync_directory
from mnist_core.product import load_blas
from mnist_proto.v1 import model_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.base_model import load_base
from mnist_server.configuration import budget_seconds, resolved_config
from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.database import Database
from mnist_server.dataset_files import open_dataset
from mnist_server.environment import differences, environment, limit_threads
from mnist_server.errors import ServerError, WrongState
from mnist_server.jobs import ENDED, Jobs, append, now
from mnist_server.logs import configure_logging
from mnist_server.parent import end_with_parent
from mnist_server.progress import ProgressWriter
from mnist_server.registry import ModelRegistry, add_version
from mnist_server.scheduler import EXIT_FILES

log = logging.getLogger("mnist_server.trainer")

# An epoch may take a tenth of a second, and a checkpoint's way to the disk as long.
CHECKPOINT_SECONDS = 5.0
CHECKPOINTS_KEPT = 2
# Predict's p99 on the same core is 1.1 times what it is alone; with 14 it is 1.4 times, with 10 two to five.
NICENESS = 16
OUT_OF_MEMORY_SCORE = "500"
EXIT_STOPPED = 3


class Logged(NamedTuple):
    """What the history says of an epoch."""

    weights_hash: str
    seconds: float


class Failed(Exception):
    """The job cannot succeed; the text says why."""


class Trainer:
    """One job, from where its checkpoints are to its end."""

    def __init__(self, directory: DataDirectory, database: Database, name: str) -> None:
        self._directory = directory
        self._database = database
        self._jobs = Jobs(database)
        self._name = name
        self._folder = directory.job(name)
        self._stopping = False
        self._exact = True  # what is computed again must come out the same
        self._saved_epoch = 0
        self._saved_at = time.monotonic()

    def stop(self) -> None:
        """Has run() write a checkpoint and return within one slice of an epoch."""
        self._stopping = True  # no lock: a signal handler calls this

    def run(self) -> bool:
        """Trains. Returns whether the job has ended or paused; otherwise it goes on in another process."""
        job = self._jobs.get(self._name)
        if job.state in ENDED or job.state == pb.JOB_STATE_PAUSED:
            return True
        try:
            return self._train(job)
        except (Failed, Diverged, InvalidValue, ServerError, MemoryError) as error:
            log.warning("job failed", extra={"job": self._name, "reason": str(error)})
            reason = "out of memory" if isinstance(error, MemoryError) else str(error)
            self._jobs.append(self._name, pb.TrainingEvent(failed=pb.Failed(reason=reason)))
            return True

    def _train(self, job: pb.TrainingJob) -> bool:
        resolved = job.config
        threads = resolved.environment.blas_threads
        load_blas()
        limit_threads(threads)
        differs = differences(resolved.environment, environment(threads))
        self._exact = not self._jobs.allows_inexact(self._name)
        dataset = open_dataset(self._directory.datasets, resolved)
        logged = self._logged()
        state, skipped = self._last_checkpoint(logged)
        if state is None:
            state = self._begin(resolved)
        if job.HasField("start_time"):
            continued = pb.Continued(
                epoch=state.epoch,
                skipped_checkpoints=skipped,
                differences=[] if self._exact else differs,
            )
            begin = pb.TrainingEvent(continued=continued)
        else:
            begin = pb.TrainingEvent(started=pb.Started())
        try:
            self._jobs.append(self._name, begin)
        except WrongState:  # cancelled while this process was starting
            return True
        if differs and self._exact:
            # Not a failure: it can go on where it was accepted, or here if whoever wants it says so.
            self._pause(f"it cannot come to the same bits here: {'; '.join(differs)}")
            return True
        return self._epochs(resolved, state, dataset, logged)

    def _begin(self, resolved: pb.ResolvedConfig) -> TrainingState:
        config, image = resolved_config(resolved), (resolved.height, resolved.width)
        if not resolved.config.base_model:
            return TrainingState.begin(config, image)
        registry = ModelRegistry(self._database, self._directory.models)
        saved = load_base(registry, resolved.config.base_model).saved
        same = saved.config.classes == config.classes and saved.class_names == tuple(
            resolved.config.class_names
        )
        return TrainingState.begin(config, image, base=saved.network, keep_output=same)

    def _epochs(
        self, resolved: pb.ResolvedConfig, state: TrainingState, dataset: Dataset, logged: dict[int, Logged]
    ) -> bool:
        config = resolved_config(resolved)
        budget = budget_seconds(resolved.config)
        spent = sum(epoch.seconds for number, epoch in logged.items() if number < state.epoch)
        progress = ProgressWriter(self._folder)
        finished = copy.deepcopy(state)
        # The budget is judged by what the history says, so that the last epoch is the same after a crash.
        for report in train(state, dataset, config) if spent < budget else ():
            if isinstance(report, Progress):
                progress.write(report.epoch, report.examples, report.total_examples, report.loss)
            else:
                spent += self._epoch_finished(state, report, logged)
                if spent >= budget:
                    break
                finished = copy.deepcopy(state)
                if time.monotonic() - self._saved_at > CHECKPOINT_SECONDS and report.stop_reason is None:
                    self._checkpoint(finished, resolved)
            asked = self._jobs.asked(self._name)
            if asked == "cancel":
                self._jobs.append(self._name, pb.TrainingEvent(cancelled=pb.Cancelled()))
                return True
            if asked == "pause" or self._stopping:
                self._checkpoint(finished, resolved)
            if asked == "pause":
                progress.remove()  # of an epoch that will begin anew
                self._pause("")
                return True
            if self._stopping:
                return False
        self._succeed(resolved, state, dataset.validation)
        return True

    def _pause(self, reason: str) -> None:
        self._jobs.append(self._name, pb.TrainingEvent(paused=pb.Paused(reason=reason)))
        log.info("job paused", extra={"job": self._name, "reason": reason})

    def _epoch_finished(self, state: TrainingState, report: EpochReport, logged: dict[int, Logged]) -> float:
        """Has the history tell of an epoch, or compares with what it tells. Returns the epoch's seconds."""
        weights_hash = state.network.weights_hash()
        if known := logged.get(report.epoch):
            if self._exact and known.weights_hash != weights_hash:
                raise Failed(
                    f"epoch {report.epoch} was computed again with another result: weights {weights_hash}, "
                    f"expected {known.weights_hash}"
                )
            return known.seconds
        finished = pb.EpochFinished(
            epoch=report.epoch,
            correct=report.correct,
            total=report.total,
            loss=report.loss,
            learning_rate=report.learning_rate,
            seconds=report.seconds,
            weights_hash=weights_hash,
            validation_correct=report.validation_correct,
            validation_total=report.validation_total,
        )
        # After the machine's own crash, an epoch that is missing here is computed again to the same bits.
        self._jobs.append(self._name, pb.TrainingEvent(epoch_finished=finished), durable=False)
        return report.seconds

    def _history(self) -> Iterator[pb.EpochFinished]:
        sequence = 0
        while events := self._jobs.events(self._name, sequence, 1000):
            yield from (event.epoch_finished for event in events if event.HasField("epoch_finished"))
            sequence = events[-1].sequence

    def _logged(self) -> dict[int, Logged]:
        return {epoch.epoch: Logged(epoch.weights_hash, epoch.seconds) for epoch in self._history()}

    def _checkpoints(self) -> list[Path]:
        return sorted(self._folder.glob("checkpoint-*.safetensors"), reverse=True)

    def _last_checkpoint(self, logged: dict[int, Logged]) -> tuple[TrainingState | None, list[str]]:
        """Returns the newest state that can be gone on from, and which newer ones cannot, and why."""
        for left in self._folder.glob(f"{TEMPORARY_PREFIX}*"):  # by a process that was killed
            left.unlink()
        skipped = []
        for path in self._checkpoints():
            try:
                state, _, _ = load_checkpoint(path)
                # A crash of the machine may have taken the newest events, but not the checkpoint after them.
                found = logged.get(state.epoch - 1)
                if found is None or (self._exact and found.weights_hash != state.network.weights_hash()):
                    raise CheckpointError(path, f"its epoch {state.epoch - 1} is not the history's")
            except CheckpointError as error:
                log.warning("checkpoint skipped", extra={"job": self._name, "error": str(error)})
                skipped.append(f"{path.name}: {error.why}")
                if not isinstance(error.__cause__, OSError):  # it would be one of the two that are kept
                    path.unlink()
                continue
            self._saved_epoch = state.epoch
            return state, skipped
        return None, skipped

    def _checkpoint(self, state: TrainingState, resolved: pb.ResolvedConfig) -> None:
        self._saved_at = time.monotonic()
        if state.epoch <= self._saved_epoch:
            return
        path = self._folder / f"checkpoint-{state.epoch:06}.safetensors"
        try:
            save_checkpoint(path, state, resolved_config(resolved), _provenance(self._name, resolved))
        except OSError as error:  # the one before it will do, and costs some epochs computed again
            log.warning("checkpoint not written", extra={"job": self._name, "error": str(error)})
            return
        self._saved_epoch = state.epoch
        for old in self._checkpoints()[CHECKPOINTS_KEPT:]:
            old.unlink()

    def _succeed(self, resolved: pb.ResolvedConfig, state: TrainingState, validation: Split | None) -> None:
        file = self._directory.model_of(self._name)
        config = resolved_config(resolved)
        stop_reason = state.stop_reason(config) or "time_budget"
        network, epoch = state.made()
        temperature = 1.0 if validation is None else fit_temperature(network, validation)
        # Written in the job's own folder: what a killed process leaves there does not stay.
        made = self._folder / "model.safetensors"
        save_model(
            made,
            network,
            config,
            _provenance(self._name, resolved),
            image=(resolved.height, resolved.width),
            temperature=temperature,
            class_names=resolved.config.class_names,
        )
        made.replace(file)
        sync_directory(self._directory.models)
        job = self._jobs.get(self._name)
        version = model_pb2.ModelVersion(
            create_time=now(),
            job=self._name,
            config=resolved,
            last_epoch=next(known for known in self._history() if known.epoch == epoch),
            parameters=network.parameters.size,
            weights_hash=network.weights_hash(),
            temperature=None if temperature == 1 else temperature,
        )
        reason = pb.StopReason.Value(f"STOP_REASON_{stop_reason.upper()}")
        with self._database.write() as connection:
            name = add_version(connection, job.model, file.name, version, promote=resolved.config.promote)
            succeeded = pb.Succeeded(model_version=name, stop_reason=reason, epoch=epoch)
            append(connection, self._name, pb.TrainingEvent(succeeded=succeeded))
        log.info("job succeeded", extra={"job": self._name, "model_version": name})


def _provenance(job: str, resolved: pb.ResolvedConfig) -> dict[str, str]:
    return {
        "job": job,
        "dataset": resolved.dataset,
        **{
            field.name: str(getattr(resolved.environment, field.name))
            for field in pb.Environment.DESCRIPTOR.fields
        },
    }


def main(root: str, name: str) -> int:
    """Runs the job `name` of the data directory `root`. Returns the exit status."""
    end_with_parent()
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # where memory runs out, this process goes before those that answer
        Path("/proc/self/oom_score_adj").write_text(OUT_OF_MEMORY_SCORE)
    configure_logging()
    directory = DataDirectory(Path(root))
    lock = Lock(directory.job(name) / "lock")
    lock.acquire({"job": name}, wait_seconds=10)
    try:
        trainer = Trainer(directory, directory.database(), name)
        signal.signal(signal.SIGTERM, lambda *_: trainer.stop())
        return 0 if trainer.run() else EXIT_STOPPED
    except (OSError, sqlite3.Error):  # the disk may be full for a moment only: the scheduler tries again
        log.exception("trainer ended", extra={"job": name})
        return EXIT_FILES


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
