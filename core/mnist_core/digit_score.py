"""A digit score says how much an image looks like a digit at all, which the network that names it cannot.

A network that knows digits alone calls uniform noise a 2, and is sure of it. So a second, small one, of the
same make, was taught to tell digits from letters, scribbles, noise and parts of photographs, as they are once
they have been prepared (`benchmarks/pictures/train_score.py`). What it says is weighed with the picture's
border: noise that was cut out and centred may look like a 1, but the ink of a 1 is not all over its picture.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_core.checkpoint import read_model
from mnist_core.network import Network

IS_DIGIT = 0.5
"""The score from which an image is called a digit."""

FILE = Path(__file__).with_name("digit_score.safetensors")
_TOGETHER = 1024

# A logistic regression of the network's log-odds and the share of the border that is inked, fitted by
# train_score.py on its teaching half. (Contrast, noise, stray ink and strokes crossed added nothing.)
WEIGHTS = (0.5443, -3.804)
BIAS = 0.433


def digit_scores(images: NDArray[np.uint8], borders: Sequence[float] | None = None) -> NDArray[np.float32]:
    """Returns how much each of (B, 28, 28) looks like a digit, (B,), 0 to 1. A blank image is none: 0.

    borders: the share of its border that is inked, 0 to 1, of each picture that an image was made of; without
        them, of the images themselves.
    """
    if not len(images):
        return np.empty(0, dtype=np.float32)
    odds = evidence(images, borders) @ np.array(WEIGHTS) + BIAS
    scores = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return np.where(images.any(axis=(1, 2)), scores, 0).astype(np.float32)


def evidence(images: NDArray[np.uint8], borders: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Returns what is known of images (B, 28, 28), (B, 2): the network's log-odds, and the border."""
    if borders is None:
        borders = [border_of(image) for image in images]
    network = _network()
    parts = [network.predict(images[start : start + _TOGETHER]) for start in range(0, len(images), _TOGETHER)]
    digit = np.clip(np.concatenate(parts).astype(np.float64)[:, 1], 1e-6, 1 - 1e-6)
    return np.column_stack([np.log(digit / (1 - digit)), borders])


def border_share(mask: NDArray[np.bool_]) -> float:
    """Returns the share of the border of (H, W) that is inked, 0 to 1: a digit keeps away from it."""
    return float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())


def border_of(image: NDArray[np.uint8]) -> float:
    """Returns the share of the border of an image (H, W), 0 = paper, 255 = ink, that is inked, 0 to 1."""
    return border_share(image > 127)


@cache
def _network() -> Network:
    return read_model(FILE).network
