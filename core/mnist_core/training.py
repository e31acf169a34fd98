"""Training: stochastic gradient descent over reshuffled mini-batches, epoch by epoch."""

import copy
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np

from mnist_core.activation import Array
from mnist_core.configuration import TrainingConfig
from mnist_core.dataset import Dataset, Split
from mnist_core.descent import SLICE_WORK, Descent
from mnist_core.errors import Diverged, InvalidValue
from mnist_core.evaluation import evaluate
from mnist_core.lanes import LANES, Lanes
from mnist_core.network import Network

StopReason = Literal["epochs", "early_stopping", "target_accuracy"]


@dataclass
class TrainingState:
    """Where a training stands after `epoch` finished epochs; going on from here gives the same bits.

    velocity: (P,), only with momentum: what the last step took off the parameters.
    moments: (2, P), only with adamw: its means of gradients and of their squares.
    best_correct: most validation images right so far, None before the first epoch or without that split.
    epochs_without_improvement: epochs since then.
    validation_total: images of the validation split, None as long as best_correct is.
    best_parameters: (P,), only with keep_best: those after the epoch that best_correct is of.
    """

    network: Network
    velocity: Array | None
    rng: np.random.Generator
    epoch: int = 0
    best_correct: int | None = None
    epochs_without_improvement: int = 0
    validation_total: int | None = None
    best_parameters: Array | None = None
    moments: Array | None = None

    @classmethod
    def begin(
        cls,
        config: TrainingConfig,
        image: tuple[int, int] | int = (28, 28),
        *,
        base: Network | None = None,
        keep_output: bool = False,
    ) -> Self:
        """Draws a network from the seed. Raises InvalidValue if it is too large.

        image: height and width in pixels; for dense layers, how many pixels will do.
        base: begin with what this network of the same layers has learnt, but for its last layer, unless that
            is to be kept.
        """
        rng = np.random.Generator(np.random.PCG64(config.seed))
        network = Network.initialize(
            config.architecture((1, image) if isinstance(image, int) else image),
            activation=config.activation,
            output=config.output,
            initialization=config.initialization,
            dtype=config.dtype,
            rng=rng,
        )
        if base is not None:
            layers = list(zip(network.layers, base.layers, strict=True))
            for here, there in layers if keep_output else layers[:-1]:
                here.block[...] = there.block
        velocity = np.zeros_like(network.parameters) if config.momentum else None
        moments = (
            np.zeros((2, network.parameters.size), config.dtype) if config.optimizer == "adamw" else None
        )
        return cls(network, velocity, rng, moments=moments)

    def stop_reason(self, config: TrainingConfig) -> StopReason | None:
        """Returns why training is over, None while it is not."""
        if config.patience is not None and self.epochs_without_improvement >= config.patience:
            return "early_stopping"
        best = self.best_correct / self.validation_total if self.best_correct and self.validation_total else 0
        if config.until_accuracy is not None and best >= config.until_accuracy:
            return "target_accuracy"
        return "epochs" if self.epoch >= config.epochs else None

    def made(self) -> tuple[Network, int]:
        """Returns the network that the training has made, and the epoch (from 0) that it is of."""
        if self.best_parameters is None:
            return self.network, self.epoch - 1
        best = copy.deepcopy(self.network)
        best.parameters[:] = self.best_parameters
        return best, self.epoch - 1 - self.epochs_without_improvement


@dataclass(frozen=True)
class Progress:
    """How far an epoch (from 0) has come: examples learnt from, and their mean loss."""

    epoch: int
    examples: int
    total_examples: int
    loss: float


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch (from 0).

    correct, total: images of the test split named rightly; without one, of the validation split; else None.
    loss: mean over the epoch's examples as they were learnt from, without the penalty of weight_decay.
    learning_rate: of its last mini-batch.
    seconds: learning and evaluating, not what the caller did in between.
    """

    epoch: int
    correct: int | None
    total: int | None
    validation_correct: int | None
    validation_total: int | None
    loss: float
    learning_rate: float
    seconds: float
    stop_reason: StopReason | None


def train(state: TrainingState, dataset: Dataset, config: TrainingConfig) -> Iterator[Progress | EpochReport]:
    """Trains `state` on, in place, until `config.epochs` epochs are done, or the validation split says so.

    Yields Progress every few milliseconds of work, and an EpochReport when an epoch is done; then, and only
    then, `state` is what a checkpoint has to hold. To cancel, stop iterating. The bits also depend on BLAS
    and its threads: setting them to `config.threads` is the caller's, since it concerns the whole process.

    Raises InvalidValue at once where data, state and configuration do not fit, Diverged at an epoch's end.
    """
    _check(state, dataset, config)
    return _epochs(state, dataset, config)


def _epochs(
    state: TrainingState, dataset: Dataset, config: TrainingConfig
) -> Iterator[Progress | EpochReport]:
    lanes = Lanes()
    descent = Descent(state.network, state.velocity, state.moments, dataset.train, config, lanes)
    while state.stop_reason(config) is None:
        seconds, since = 0.0, time.perf_counter()
        for report in _epoch(state, dataset, config, descent, lanes):
            seconds += time.perf_counter() - since
            yield replace(report, seconds=seconds) if isinstance(report, EpochReport) else report
            since = time.perf_counter()


def _epoch(
    state: TrainingState, dataset: Dataset, config: TrainingConfig, descent: Descent, lanes: Lanes
) -> Iterator[Progress | EpochReport]:
    total = len(dataset.train)
    order = descent.begin(state.epoch, state.rng)
    examples, loss = 0, 0.0
    while examples < total:
        part = order[examples : examples + descent.slice_examples]
        loss += descent.learn(part)
        examples += len(part)
        progress = Progress(state.epoch, examples, total, loss / examples)
        yield progress
    if not (math.isfinite(loss) and np.isfinite(state.network.parameters).all()):
        raise Diverged(state.epoch)
    validation_correct = yield from _correct(state.network, dataset.validation, progress, lanes)
    test_correct = yield from _correct(state.network, dataset.test, progress, lanes)
    _count_improvement(state, validation_correct, dataset.validation, config)
    state.epoch += 1
    judged = dataset.validation if dataset.test is None else dataset.test
    yield EpochReport(
        epoch=state.epoch - 1,
        correct=validation_correct if dataset.test is None else test_correct,
        total=None if judged is None else len(judged),
        validation_correct=validation_correct,
        validation_total=None if dataset.validation is None else len(dataset.validation),
        loss=loss / total,
        learning_rate=descent.learning_rate,
        seconds=0.0,
        stop_reason=state.stop_reason(config),
    )


def _correct(
    network: Network, split: Split | None, progress: Progress, lanes: Lanes
) -> Generator[Progress, None, int | None]:
    """Returns how many images are named rightly; on the way repeats `progress` so that a caller may leave."""
    if split is None:
        return None
    correct = [0] * LANES
    images = max(1, int(SLICE_WORK / network.architecture.work))
    for start in range(0, len(split), images):
        if start:
            yield progress
        stop = start + images
        part = Split(split.images[start:stop], split.labels[start:stop])

        def judge(lane: int, half: slice, part: Split = part) -> None:
            correct[lane] += evaluate(network, Split(part.images[half], part.labels[half]))

        if network.architecture.stages:
            lanes.run(judge, len(part))
        else:
            judge(0, slice(None))
    return sum(correct)


def _check(state: TrainingState, dataset: Dataset, config: TrainingConfig) -> None:
    _, height, width = dataset.train.images.shape
    architecture = config.architecture((height, width))
    for field, value, expected in (
        ("sizes", state.network.sizes, architecture.sizes),
        ("architecture", state.network.architecture, architecture),
        ("activation", state.network.activation, config.activation),
        ("output", state.network.output, config.output),
        ("dtype", state.network.dtype.name, config.dtype),
    ):
        if value != expected:
            raise InvalidValue(f"network.{field}", value, f"{expected}, as images and configuration say")
    if (state.velocity is not None) != (config.momentum > 0):
        raise InvalidValue("momentum", config.momentum, "what the state was begun with")
    if (state.moments is not None) != (config.optimizer == "adamw"):
        raise InvalidValue("optimizer", config.optimizer, "what the state was begun with")
    if dataset.validation is None:
        for name in ("patience", "until_accuracy", "keep_best"):
            if value := getattr(config, name):
                raise InvalidValue(name, value, "none, since there is no validation split")
    for name, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        if split is not None and (most := int(split.labels.max())) >= config.classes:
            raise InvalidValue(
                f"{name}.labels", most, f"0 to {config.classes - 1}, for {config.classes} classes"
            )


def _count_improvement(
    state: TrainingState, validation_correct: int | None, validation: Split | None, config: TrainingConfig
) -> None:
    if validation_correct is None or validation is None:
        return
    state.validation_total = len(validation)
    if state.best_correct is None or validation_correct > state.best_correct:
        state.best_correct = validation_correct
        state.epochs_without_improvement = 0
        if config.keep_best:
            state.best_parameters = state.network.parameters.copy()
    else:
        state.epochs_without_improvement += 1
