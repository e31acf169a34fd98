"""History: what happened to a training job, event by event, and what a watch says besides.

Times are aware datetimes in UTC, and what is absent on the wire is None.
"""

from dataclasses import dataclass
from datetime import datetime

from mnist_client.hyperparameters import ResolvedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """How a network did in one epoch."""

    epoch: int
    """From 0."""
    correct: int | None
    """Images of the test split (without one, of the validation split) named rightly; None without either."""
    total: int | None
    loss: float
    """Mean loss of the training images as they were learnt from."""
    learning_rate: float
    seconds: float
    """Learning and evaluating."""
    weights_hash: str
    """SHA-256 of the parameters after it."""
    validation_correct: int | None
    validation_total: int | None

    @property
    def accuracy(self) -> float | None:
        """correct / total, 0 to 1; None where nothing was tested."""
        return self.correct / self.total if self.correct is not None and self.total else None

    def __str__(self) -> str:
        """The classic line: 'Epoch 3 : 9321 / 10000', or 'Epoch 3 complete' where nothing was tested."""
        if self.correct is None or self.total is None:
            return f"Epoch {self.epoch} complete"
        return f"Epoch {self.epoch} : {self.correct} / {self.total}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """An entry of a job's durable history."""

    job: str
    """jobs/{j}"""
    sequence: int
    """1, 2, 3 ... without a gap."""
    time: datetime
    """When it was written, by the server's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(_Entry):
    """Images and job are durable. Always the first event."""

    config: ResolvedConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(_Entry):
    """The job's process has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochFinished(Epoch):
    """An epoch is done."""

    job: str
    sequence: int
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued(_Entry):
    """The job goes on: after its process or the server had died or stopped, or after it was resumed."""

    epoch: int
    """The first epoch done again or anew, from 0."""
    skipped_checkpoints: tuple[str, ...]
    """Newer checkpoints that could not be used, each as 'file: why'."""
    differences: tuple[str, ...]
    """What differs from the environment that the job was accepted in, each as 'name was X, is Y'; from here
    on its weights may differ from those of an undisturbed run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeeded(_Entry):
    """The job ended and made a version of its model."""

    model_version: str
    """models/{m}/versions/{n}"""
    stop_reason: str
    """'epochs', 'early_stopping', 'time_budget' or 'target_accuracy'."""
    epoch: int
    """The epoch whose weights the version holds, from 0: the last, or with keep_best the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_Entry):
    """The job ended without making a model."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(_Entry):
    """The job was cancelled, and made no model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(_Entry):
    """The job was put aside."""

    reason: str | None
    """Why the server did so itself; None: it was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(_Entry):
    """The job is in the queue again."""

    differences: tuple[str, ...]
    """What differs from the environment that the job was accepted in, each as 'name was X, is Y'."""


Event = Accepted | Started | EpochFinished | Continued | Succeeded | Failed | Cancelled | Paused | Resumed

# Training: what a watch says besides


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remark:
    """What is not history: it is stored nowhere."""

    job: str
    sequence: int
    """The last event's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(_Remark):
    """How far an epoch has come."""

    epoch: int
    """The one being done, from 0."""
    images: int
    """Learnt from in this epoch."""
    total_images: int
    loss: float
    """Mean of this epoch so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(_Remark):
    """The server is there and has nothing else to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draining(_Remark):
    """The server is stopping. The watch goes on by itself when it is back."""


Notice = Progress | Heartbeat | Draining
