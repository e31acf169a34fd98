"""A descent takes a network down the slope of its loss, a mini-batch after the other.

Plain gradient descent's step is part of the product that finds a layer's gradient. Where more is to be done
with a gradient, it is found first, whole; that of convolutions in two lanes, a few images at a time.
"""

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import Array
from mnist_core.augmentation import augment
from mnist_core.configuration import TrainingConfig
from mnist_core.dataset import Split
from mnist_core.lanes import LANES, Lanes
from mnist_core.loss import losses
from mnist_core.minibatch import MiniBatch
from mnist_core.network import Network
from mnist_core.optimizer import Step, optimizer
from mnist_core.schedule import learning_rate
from mnist_core.stage import examples_at_a_time

# Work between two reports, in multiply-adds: some 10 to 50 ms. By count, not by a clock, so that it is the
# same everywhere.
SLICE_WORK = 5e8
# What the calls alone of a mini-batch cost, some 20 microseconds, in the same unit.
_STEP_WORK = 5e5
# Images gathered at a time, or one mini-batch where that is more: waiting for the memory that they are
# scattered over, a hundred take half as long together as ten by ten.
_GATHERED = 100
# The same where they are varied, too.
_AUGMENTED = 512


class Descent:
    """Learning from one split, a slice of an epoch at a time."""

    def __init__(
        self,
        network: Network,
        velocity: Array | None,
        moments: Array | None,
        split: Split,
        config: TrainingConfig,
        lanes: Lanes,
    ) -> None:
        """velocity, moments: as TrainingState has them; network and they are written in place."""
        self._network = network
        self._velocity = velocity
        self._config = config
        self._images = split.images.reshape(len(split), split.inputs)
        self._labels = split.labels
        self._targets = np.eye(config.classes, dtype=config.dtype)
        self._batch_size = min(config.batch_size, len(split))
        batch_work = 3 * network.architecture.work * self._batch_size + _STEP_WORK
        least = _AUGMENTED if config.augmentation else _GATHERED
        gathered = self._batch_size * max(1, least // self._batch_size)
        self.slice_examples = self._batch_size * max(1, int(SLICE_WORK / batch_work))
        if config.augmentation:
            self.slice_examples = max(self.slice_examples, gathered)
        self._image = split.images.shape[1:]
        self._pixels = np.empty((gathered, split.inputs), np.uint8)
        self._outputs = np.empty((min(self.slice_examples, len(split)), config.classes), config.dtype)
        self._batches: dict[tuple[int, int, int], MiniBatch] = {}
        self._steps_an_epoch = -(-len(split) // self._batch_size)
        self._step = 0
        self._draws = config.augmentation is not None or any(network.architecture.dropout)
        self._rngs: list[np.random.Generator | None] = [None] * LANES
        self._lanes = lanes
        self._gradients: list[Array] = []
        self._optimize: Step | None = None
        self.learning_rate = config.learning_rate
        """Of the last step."""
        stages = network.architecture.stages
        plain = config.optimizer == "sgd" and config.schedule == "constant" and not config.warm_up
        if stages or not plain or config.clip_norm is not None:
            self._gradients = [np.empty_like(network.parameters) for _ in range(LANES if stages else 1)]
            self._optimize = optimizer(network, velocity, moments, config)

    def begin(self, epoch: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Begins an epoch (from 0), all of whose chance `rng` decides here. Returns the examples' order."""
        self._step = epoch * self._steps_an_epoch
        order = rng.permutation(len(self._images))
        if self._draws:
            seeds = np.random.SeedSequence(int(rng.integers(2**63))).spawn(LANES)
            self._rngs = [np.random.Generator(np.random.PCG64(seed)) for seed in seeds]
        return order

    def learn(self, indices: NDArray[np.intp]) -> float:
        """Learns from the examples at `indices`, a mini-batch after the other. Returns their losses' sum."""
        targets = self._targets.take(self._labels[indices], axis=0)
        outputs = self._outputs[: len(indices)]
        with np.errstate(all="ignore"):  # what overflows here is found at the end of the epoch
            for start in range(0, len(indices), len(self._pixels)):
                part = slice(start, start + len(self._pixels))
                wanted = indices[part]
                images = self._pixels[: len(wanted)]
                self._images.take(wanted, axis=0, out=images, mode="clip")  # "raise" would copy twice
                if self._config.augmentation is not None:
                    self._vary(images)
                self._steps(images, outputs[part], targets[part])
            return float(losses(self._config.loss, self._config.output, outputs, targets).sum())

    def _vary(self, images: NDArray[np.uint8]) -> None:
        def vary(lane: int, part: slice) -> None:
            augmentation, rng = self._config.augmentation, self._rngs[lane]
            assert augmentation is not None
            assert rng is not None, "begin() has drawn it"
            varied = augment(images[part].reshape(-1, *self._image), augmentation, rng)
            images[part] = varied.reshape(len(varied), -1)

        self._lanes.run(vary, len(images))

    def _steps(self, images: NDArray[np.uint8], outputs: Array, targets: Array) -> None:
        for start in range(0, len(images), self._batch_size):
            part = slice(start, start + self._batch_size)
            if self._optimize is None:
                self._plain_step(images[part], outputs[part], targets[part])
            else:
                self._gradient_step(self._optimize, images[part], outputs[part], targets[part])

    def _plain_step(self, images: NDArray[np.uint8], outputs: Array, targets: Array) -> None:
        batch = self._batches.get((0, len(images), len(images))) or self._plain_batch(len(images))
        batch.forward(images, outputs, self._rngs[0])
        batch.backward(outputs, targets)
        if self._velocity is not None:
            parameters = self._network.parameters
            np.add(parameters, self._velocity, out=parameters)

    def _plain_batch(self, examples: int) -> MiniBatch:
        # One of the full size, one for the short mini-batch that ends an epoch. Their gradients are steps,
        # η and sign included, added to the parameters where they are found: w -> w - η ∇ (Nielsen ch. 1,
        # eq. 20); with momentum to the velocity: v -> μ v - η ∇, w -> w + v (ch. 3, eq. 107).
        config, velocity = self._config, self._velocity
        batch = MiniBatch(
            self._network,
            config.loss,
            examples,
            self._network.parameters if velocity is None else velocity,
            scale=-config.learning_rate / examples,
            decay=-config.learning_rate * config.weight_decay,
            keep=1.0 if velocity is None else config.momentum,
        )
        self._batches[0, examples, examples] = batch
        return batch

    def _gradient_step(
        self, optimize: Step, images: NDArray[np.uint8], outputs: Array, targets: Array
    ) -> None:
        total = len(images)

        def learn(lane: int, half: slice) -> None:
            self._add_gradient(lane, total, images[half], outputs[half], targets[half])

        gradient = self._gradients[0]
        if len(self._gradients) == 1:
            learn(0, slice(0, total))
        else:
            self._lanes.run(learn, total)
            if total > 1:
                np.add(gradient, self._gradients[1], out=gradient)
        config = self._config
        steps = config.epochs * self._steps_an_epoch
        self.learning_rate = learning_rate(
            config.schedule, config.learning_rate, config.warm_up, self._step, steps
        )
        optimize(gradient, self.learning_rate, self._step)
        self._step += 1

    def _add_gradient(
        self, lane: int, total: int, images: NDArray[np.uint8], outputs: Array, targets: Array
    ) -> None:
        """Writes a lane's part of the gradient of the mean loss of a mini-batch of `total` images."""
        together = len(images)
        if self._network.architecture.stages:
            together = examples_at_a_time(self._network.architecture)
            self._gradients[lane][...] = 0
        with np.errstate(all="ignore"):  # which is a thread's own
            for start in range(0, len(images), together):
                part = slice(start, start + together)
                key = (lane, total, len(images[part]))
                batch = self._batches.get(key) or self._gradient_batch(*key)
                batch.forward(images[part], outputs[part], self._rngs[lane])
                batch.backward(outputs[part], targets[part])

    def _gradient_batch(self, lane: int, total: int, examples: int) -> MiniBatch:
        batch = MiniBatch(
            self._network,
            self._config.loss,
            examples,
            self._gradients[lane],
            scale=1 / total,
            keep=1.0 if self._network.architecture.stages else 0.0,
            in_numpy=True,
        )
        self._batches[lane, total, examples] = batch
        return batch
