"""The progress of a training job, as its watcher has seen it: accuracy, speed, and the time that is left."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

from mnist_client.history import (
    Accepted,
    Cancelled,
    Continued,
    Draining,
    EpochFinished,
    Event,
    Failed,
    Notice,
    Paused,
    Progress,
    Resumed,
    Started,
    Succeeded,
)
from mnist_client.hyperparameters import ResolvedConfig

# Speed and time left follow the last few epochs: what else the machine does comes and goes.
_RECENT_EPOCHS = 5
# A heartbeat comes every 15 s where there is nothing else to say: after longer, something is amiss.
_SILENCE_SECONDS = 20.0


class TrainingProgress:
    """Takes a watch's events and notices, one by one, and says how far the job has come.

    Reading it from another thread than the one that updates it is safe: a reader may be one message behind.
    """

    def __init__(self, job: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self.state = "QUEUED"
        self.config: ResolvedConfig | None = None
        self.epochs: list[EpochFinished] = []
        self.inside: Progress | None = None  # where the running epoch is
        self.end: Succeeded | Failed | Cancelled | None = None
        self.note = ""  # what else a reader should know
        self._clock = clock
        self._heard = clock()
        self._inside_since: tuple[float, Progress] | None = None

    def update(self, message: Event | Notice) -> None:
        """Takes the next message of a watch."""
        self._heard = self._clock()
        match message:
            case Accepted():
                self.config = message.config
            case Started():
                self.state = "RUNNING"
            case EpochFinished():
                self.state, self.inside, self._inside_since, self.note = "RUNNING", None, None, ""
                self.epochs.append(message)
            case Continued():
                self.state, self.inside, self._inside_since = "RUNNING", None, None
                self.note = f"continued from epoch {message.epoch}"
            case Paused():
                self.state, self.inside, self._inside_since = "PAUSED", None, None
                self.note = message.reason or "paused"
            case Resumed():
                self.state, self.note = "QUEUED", ""
            case Succeeded() | Failed() | Cancelled():
                self.state, self.inside, self.end = type(message).__name__.upper(), None, message
                self.note = message.reason if isinstance(message, Failed) else ""
            case Progress():
                self.state, self.inside, self.note = "RUNNING", message, ""
                if self._inside_since is None:
                    self._inside_since = self._heard, message
            case Draining():
                self.note = "the server is stopping; waiting for it to come back"
            case _:  # a heartbeat: being heard is all it says
                pass

    @property
    def silence(self) -> float | None:
        """Seconds without any message, once they are more than a heartbeat explains; else None."""
        seconds = self._clock() - self._heard
        return seconds if self.end is None and seconds > _SILENCE_SECONDS else None

    @property
    def epochs_asked(self) -> int | None:
        """Epochs that the job was asked to do; None while its configuration is not known."""
        return None if self.config is None else self.config.hyperparameters.epochs

    @property
    def accuracies(self) -> list[float]:
        """Accuracy after each epoch from 0, 0 to 1; NaN where nothing was tested or the watch came later."""
        return self._by_epoch(lambda epoch: math.nan if epoch.accuracy is None else epoch.accuracy)

    @property
    def losses(self) -> list[float]:
        """Training loss of each epoch from 0; NaN where the watch came later."""
        return self._by_epoch(lambda epoch: epoch.loss)

    @property
    def best(self) -> EpochFinished | None:
        """The first epoch of the greatest accuracy; None where nothing was tested."""
        tested = [epoch for epoch in list(self.epochs) if epoch.accuracy is not None]
        return max(tested, key=lambda epoch: epoch.accuracy or 0.0, default=None)

    @property
    def seconds_an_epoch(self) -> float | None:
        """Median of the last few epochs, or, during the first, what its own pace makes of it; None before."""
        recent = [epoch.seconds for epoch in self.epochs[-_RECENT_EPOCHS:]]
        if recent:
            return statistics.median(recent)
        inside, since = self.inside, self._inside_since
        if inside is None or since is None or inside.images <= since[1].images:
            return None
        return (self._heard - since[0]) / (inside.images - since[1].images) * inside.total_images

    @property
    def images_a_second(self) -> float | None:
        """Training images an epoch over its seconds, which hold the test after it too; None before."""
        seconds = self.seconds_an_epoch
        images = self.config.train_images if self.config else self.inside.total_images if self.inside else 0
        return images / seconds if seconds and images else None

    @property
    def share(self) -> float:
        """How much of the running epoch is done, 0 to 1."""
        inside = self.inside
        return inside.images / inside.total_images if inside and inside.total_images else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the last epoch asked for; None while nothing is known of the pace or after the end."""
        each, asked = self.seconds_an_epoch, self.epochs_asked
        if each is None or asked is None or self.end is not None:
            return None
        return max(asked - self.epochs_done - self.share, 0.0) * each

    @property
    def epochs_done(self) -> int:
        """Epochs behind the job, those before the watch began among them."""
        if self.inside is not None:
            return self.inside.epoch
        return self.epochs[-1].epoch + 1 if self.epochs else 0

    def _by_epoch(self, value: Callable[[EpochFinished], float]) -> list[float]:
        seen = list(self.epochs)
        values = [math.nan] * (seen[-1].epoch + 1 if seen else 0)
        for epoch in seen:
            values[epoch.epoch] = value(epoch)
        return values


def network_text(layer_sizes: Sequence[int], layers: str) -> str:
    """Returns inputs, hidden layers and classes: 784-30-10, or 784-20C5-P-150-10."""
    hidden = [layers] if layers else list(map(str, layer_sizes[1:-1]))
    return "-".join([str(layer_sizes[0]), *hidden, str(layer_sizes[-1])])


def describe(config: ResolvedConfig) -> list[str]:
    """Returns what a job trains, and on what, in two lines. Values that are the book's own are left out."""
    asked = config.hyperparameters
    network = network_text(config.layer_sizes, asked.layers)
    activations = [asked.activation] * bool(asked.hidden_layers or asked.layers) + [asked.output]
    words = [f"recipe {asked.recipe}"] if asked.recipe != "classic" else []
    if asked.base_model:
        words.append(f"from {asked.base_model}")
    words += [
        f"{network} {' and '.join(dict.fromkeys(activations))}",
        f"{asked.loss.replace('_', '-')} loss",
        f"mini-batches of {asked.batch_size}",
        f"learning rate {asked.learning_rate:g}",
    ]
    for name, value in (("weight decay", asked.weight_decay), ("momentum", asked.momentum)):
        if value:
            words.append(f"{name} {value:g}")
    if asked.optimizer != "sgd":
        words.append(asked.optimizer)
    if asked.schedule != "constant" or asked.warm_up:
        words.append(f"{asked.schedule} after warming up" if asked.warm_up else asked.schedule)
    if asked.clip_norm is not None:
        words.append(f"gradients clipped to {asked.clip_norm:g}")
    if asked.augmentation is not None:
        words.append("images varied")
    if asked.initialization != "normal":
        words.append(f"{asked.initialization} weights")
    if asked.dtype != "float32":
        words.append(asked.dtype)
    words.append(f"seed {asked.seed}")
    splits = [f"{config.train_images:,} images to learn from"]
    if config.validation_images:
        splits.append(f"{config.validation_images:,} to validate on")
    if config.test_images:
        splits.append(f"{config.test_images:,} to test on")
    return [", ".join(words), ", ".join(splits)]
