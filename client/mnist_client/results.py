"""Results: what a network says of images, as small frozen dataclasses of plain values and NumPy arrays.

What is absent on the wire is None. Shapes: B images, C classes, H x W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# Prediction


@dataclass(frozen=True, slots=True)
class Box:
    """A box on a picture, in its pixels, turned as its EXIF orientation says."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Which digit one image is."""

    digit: int
    """The most probable class, the lowest on a tie."""
    confidence: float
    """The probability of that digit, 0 to 1."""
    probabilities: NDArray[np.float32]
    """The probability of each class, (C,); their sum is 1."""
    input: NDArray[np.uint8] | None
    """What the network saw, (H, W), 0 = paper, 255 = ink, if it was asked for."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""
    score: float | None = None
    """How much the image looks like a digit at all, 0 to 1, if it was asked for."""
    is_digit: bool | None = None
    """Whether that is enough to call it one, if it was asked for."""
    image: int | None = None
    """Which of the images it is on, from 0, where all digits were asked for."""
    box: Box | None = None
    """Where on that image, if all digits were asked for."""

    @property
    def name(self) -> str:
        """What the image is: the class's name, or its number."""
        return self.class_names[self.digit] if self.class_names else str(self.digit)


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Which digits B images are, in columns, in the order asked. Its items are `Prediction`s."""

    model: str
    """The exact version that answered, models/{m}/versions/{n}."""
    digits: NDArray[np.int64]
    """(B,)"""
    confidences: NDArray[np.float32]
    """(B,), 0 to 1."""
    probabilities: NDArray[np.float32]
    """(B, C); the sum of each row is 1."""
    inputs: NDArray[np.uint8] | None
    """What the network saw, (B, H, W), if it was asked for."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""
    scores: NDArray[np.float32] | None = None
    """How much each image looks like a digit at all, (B,), 0 to 1, if it was asked for."""
    are_digits: NDArray[np.bool_] | None = None
    """Whether that is enough to call it one, (B,), if it was asked for."""
    images: NDArray[np.intp] | None = None
    """Which of the images each digit is on, (B,), from 0, where all were asked for: B is their number."""
    boxes: NDArray[np.int64] | None = None
    """Where on that image, (B, 4), as `Box` has it, if all digits were asked for."""

    def __len__(self) -> int:
        return len(self.digits)

    def __getitem__(self, index: int) -> Prediction:
        return Prediction(
            int(self.digits[index]),
            float(self.confidences[index]),
            self.probabilities[index],
            None if self.inputs is None else self.inputs[index],
            self.class_names,
            None if self.scores is None else float(self.scores[index]),
            None if self.are_digits is None else bool(self.are_digits[index]),
            None if self.images is None else int(self.images[index]),
            None if self.boxes is None else Box(*self.boxes[index].tolist()),
        )

    def __iter__(self) -> Iterator[Prediction]:
        return (self[index] for index in range(len(self)))


# Evaluation


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """How good a model is at one class; each share is 0 to 1, and 0 where it would be 0 / 0."""

    precision: float
    """Of what it named so, the share that was."""
    recall: float
    """Of what was so, the share it named so."""
    f1: float
    """Harmonic mean of the two."""
    support: int
    """Images of this class."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image named wrongly."""

    index: int
    """Where it stood among the images, from 0."""
    label: int
    predicted: int
    confidence: float
    """The probability given to what was predicted, 0 to 1."""
    image: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    """(H, W), 0 = paper, 255 = ink, if images were asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """How good a model is on images whose labels are known."""

    model: str
    """The exact version judged, models/{m}/versions/{n}."""
    correct: int
    total: int
    accuracy: float
    """correct / total, 0 to 1."""
    accuracy_low: float
    """Lower end of the 95 % confidence interval on the accuracy (Wilson's score interval)."""
    accuracy_high: float
    loss: float
    """Mean of the loss that the model was trained with."""
    confusion_matrix: NDArray[np.int64]
    """(C, C) counts: rows are labels, columns what the model said."""
    per_class: tuple[ClassMetrics, ...]
    """One for each of the C classes."""
    ece: float
    """Expected calibration error over the confidences, 15 bins of one width, 0 to 1."""
    mistakes: tuple[Mistake, ...]
    """The most confident mistakes, the most confident first, at most 20."""
    split: str | None
    """The split judged by, of a data set that the server has; None for images that were sent."""
    class_names: tuple[str, ...] = ()
    """What the classes are called, (C,); none: by their numbers."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the classes are called, (C,), by their numbers where they have no names."""
        return self.class_names or tuple(str(each) for each in range(len(self.confusion_matrix)))
