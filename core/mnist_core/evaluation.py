"""An evaluation says how good a network is on images whose labels are known."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import Array
from mnist_core.configuration import Loss
from mnist_core.dataset import Labels, Split
from mnist_core.errors import InvalidValue
from mnist_core.loss import losses
from mnist_core.network import Network

# Images that go through a network together: their pixels as float32 stay in a core's cache.
_CHUNK = 500
_BINS = 15
_MISTAKES = 20
# Of the standard normal distribution, 95 % lies within so many standard deviations.
_Z = 1.959963984540054


def evaluate(network: Network, split: Split) -> int:
    """Returns how many images have their label's output as the largest (the first, on a tie)."""
    correct = 0
    network = network.widened()
    for start in range(0, len(split), _CHUNK):
        part = slice(start, start + _CHUNK)
        predicted = network.forward(split.images[part]).argmax(axis=1)
        correct += int(np.count_nonzero(predicted == split.labels[part]))
    return correct


@dataclass(frozen=True)
class Mistake:
    """An image named wrongly. index: where it stood among all that were added, from 0. image: what was added,
    None if that were probabilities."""

    index: int
    label: int
    predicted: int
    confidence: float
    image: NDArray[Any] | None = field(default=None, repr=False, compare=False)


class Evaluation:
    """Counts over images that come batch by batch; its memory does not grow with them.

    classes: C. loss: the loss to report, by the name of the network's own; None: -ln of the label's
    probability. All figures are 0 before the first image.
    """

    def __init__(self, classes: int, loss: Loss | None = None) -> None:
        self.classes = classes
        self.confusion = np.zeros((classes, classes), np.int64)
        """Counts (C, C): a row a label, a column a prediction."""
        self.mistakes: list[Mistake] = []
        """The 20 wrong images with most confidence, that first; the earlier on a tie."""
        self._loss_name = loss
        self._loss_sum = 0.0
        self._bins = np.zeros((3, _BINS))  # images, correct, sum of confidence

    def add_images(self, network: Network, images: NDArray[Any], labels: Labels) -> None:
        """Adds what a network says of images, (B, I) or (B, H, W) as `Network.forward` takes them."""
        self._check(labels, len(images))
        for start in range(0, len(images), _CHUNK):
            part = slice(start, start + _CHUNK)
            outputs = network.forward(images[part])
            loss = self._losses(network, outputs, labels[part])
            self._add(network.probabilities(outputs), labels[part], loss, images[part])

    def add(self, probabilities: Array, labels: Labels) -> None:
        """Adds probabilities (B, C), rows summing to 1, and labels (B,). The loss is -ln of the label's.

        Raises InvalidValue when shapes or labels do not fit.
        """
        if probabilities.ndim != 2 or probabilities.shape[1] != self.classes:
            raise InvalidValue("probabilities", probabilities.shape, f"shape (B, {self.classes})")
        self._check(labels, len(probabilities))
        targets = np.eye(self.classes, dtype=probabilities.dtype)[labels]
        self._add(probabilities, labels, losses("cross_entropy", "softmax", probabilities, targets))

    @property
    def total(self) -> int:
        """Images added."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Images whose largest probability is their label's."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """correct / total."""
        return self.correct / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval on the accuracy, 0 to 1; (0, 1) before the first image.

        Wilson's score interval (Wilson 1927, Probable inference, the law of succession, and statistical
        inference), the accuracies p for which |accuracy - p| <= z sqrt(p (1 - p) / total). Unlike accuracy
        +- z sqrt(accuracy (1 - accuracy) / total) it holds near 1, where classifiers are.
        """
        if not self.total:
            return 0.0, 1.0
        share, square = self.accuracy, _Z * _Z / self.total
        middle = share + square / 2
        reach = math.sqrt(square * (share * (1 - share) + square / 4))
        low, high = (middle - reach) / (1 + square), (middle + reach) / (1 + square)
        return max(low, 0.0), min(high, 1.0)

    @property
    def loss(self) -> float:
        """Mean loss an image."""
        return self._loss_sum / self.total if self.total else 0.0

    @property
    def support(self) -> NDArray[np.int64]:
        """Images of each class, (C,)."""
        support: NDArray[np.int64] = self.confusion.sum(axis=1)
        return support

    @property
    def precision(self) -> NDArray[np.float64]:
        """Of what was named so, the share that was, (C,); 0 where none was."""
        return _quotient(self.confusion.diagonal(), self.confusion.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of what was so, the share named so, (C,); 0 where there was none."""
        return _quotient(self.confusion.diagonal(), self.support)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and recall, (C,); 0 where both are."""
        return _quotient(2 * self.precision * self.recall, self.precision + self.recall)

    @property
    def ece(self) -> float:
        """Expected calibration error, 0 to 1: how far confidence is from accuracy, averaged over 15 bins of
        confidence, ((m - 1)/15, m/15], by the images in each (Guo et al. 2017, On Calibration, eq. 3)."""
        _, correct, confidence = self._bins
        return float(np.abs(correct - confidence).sum() / self.total) if self.total else 0.0

    def _losses(self, network: Network, outputs: Array, labels: Labels) -> NDArray[np.float64]:
        targets = np.eye(self.classes, dtype=outputs.dtype)[labels]
        if self._loss_name is not None:
            return losses(self._loss_name, network.output, outputs, targets)
        return losses("cross_entropy", "softmax", network.probabilities(outputs.copy()), targets)

    def _add(
        self,
        probabilities: Array,
        labels: Labels,
        loss: NDArray[np.float64],
        images: NDArray[Any] | None = None,
    ) -> None:
        predicted = probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1).astype(np.float64)
        right = predicted == labels
        self._keep_mistakes(labels, predicted, confidence, np.flatnonzero(~right), images)
        np.add.at(self.confusion, (labels, predicted), 1)
        self._loss_sum += float(loss.sum())
        bins = np.clip(np.ceil(confidence * _BINS).astype(np.intp) - 1, 0, _BINS - 1)
        for row, weights in zip(self._bins, (np.ones(len(bins)), right, confidence), strict=True):
            row += np.bincount(bins, weights, _BINS)

    def _keep_mistakes(
        self,
        labels: Labels,
        predicted: NDArray[np.intp],
        confidence: NDArray[np.float64],
        wrong: NDArray[np.intp],
        images: NDArray[Any] | None,
    ) -> None:
        offset = self.total
        worst = wrong[np.argsort(-confidence[wrong], kind="stable")[:_MISTAKES]]
        found = [
            Mistake(
                offset + int(i),
                int(labels[i]),
                int(predicted[i]),
                float(confidence[i]),
                None if images is None else images[i].copy(),
            )
            for i in worst
        ]
        kept = sorted(self.mistakes + found, key=lambda mistake: (-mistake.confidence, mistake.index))
        self.mistakes = kept[:_MISTAKES]

    def _check(self, labels: Labels, images: int) -> None:
        if labels.shape != (images,):
            raise InvalidValue("labels", f"shape {labels.shape}", f"shape ({images},), a label an image")
        if images and not 0 <= int(labels.min()) <= int(labels.max()) < self.classes:
            wrong = int(labels.max() if labels.max() >= self.classes else labels.min())
            raise InvalidValue("labels", wrong, f"0 to {self.classes - 1}")


def _quotient(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    quotient = np.zeros(len(above))
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient
