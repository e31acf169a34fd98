"""Calibration makes a confidence of 90 % right nine times in ten; one number, the temperature, does it.

Guo et al. 2017, On Calibration of Modern Neural Networks: what a softmax is made of, z, is divided by a
temperature T that makes the labels of images that nothing was learnt from most probable. The order of the
classes, and so what an image is named, stays as it is.
"""

import copy

import numpy as np
from numpy.typing import NDArray

from mnist_core.dataset import Labels, Split
from mnist_core.network import Network

# Beyond this there is something else wrong than calibration.
LEAST, MOST = 0.2, 5.0
# Images that go through the network together.
_CHUNK = 500
_HALVINGS = 50


def fit_temperature(network: Network, split: Split) -> float:
    """Returns the temperature for a network, fitted on images it has not learnt from, 0.2 to 5.

    1, as it is, for sigmoid outputs, which are no distribution, and where every image is named rightly: then
    the more confident the better, without end.
    """
    if network.output != "softmax":
        return 1.0
    probabilities = np.concatenate(
        [network.predict(split.images[start : start + _CHUNK]) for start in range(0, len(split), _CHUNK)]
    ).astype(np.float64)
    if np.array_equal(probabilities.argmax(axis=1), split.labels):
        return 1.0
    # The logarithm of softmax(z) is z but for a constant a row, which the next softmax takes no notice of.
    z = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    # The mean of -ln p(label) is convex in β = 1 / T; its slope, Σ_k p_k z_k - z_label, rises through 0.
    least, most = 1 / MOST, 1 / LEAST
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        if _slope(z, split.labels, middle) < 0:
            least = middle
        else:
            most = middle
    return 2 / (least + most)


def calibrated(network: Network, temperature: float) -> Network:
    """Returns the network whose outputs are softmax(z / temperature): itself for 1, or a read-only copy."""
    if temperature == 1:
        return network
    cooled = copy.deepcopy(network)
    cooled.layers[-1].block[...] /= np.asarray(temperature, network.dtype)
    return cooled.freeze()


def _slope(z: NDArray[np.float64], labels: Labels, beta: float) -> float:
    probabilities = np.exp(beta * (z - z.max(axis=1, keepdims=True)))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = (probabilities * z).sum(axis=1)
    return float((expected - z[np.arange(len(z)), labels]).mean())
