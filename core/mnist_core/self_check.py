"""A self-check: what a network answered to a few fixed images when it was made, and must answer again.

The hash of the weights says that they are the ones that were saved. This says that they are also computed
with as they were: by other code, another BLAS, another processor.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import InvalidValue
from mnist_core.network import Network

# Products of the same numbers differ in their last bits with the kernel and with what was batched with them.
TOLERANCE = 1e-5


def self_check_images(inputs: int) -> NDArray[np.uint8]:
    """Returns the images (4, I): blank, all ink, noise, and faint noise.

    They are the same for ever and everywhere: the noise is SHAKE-256's (FIPS 202), not a random generator's,
    which another release may draw otherwise.
    """
    noise = np.frombuffer(hashlib.shake_256(b"mnist-grpc self-check").digest(2 * inputs), np.uint8)
    images = np.zeros((4, inputs), np.uint8)
    images[1] = 255
    images[2] = noise[:inputs]
    images[3] = noise[inputs:] // 8
    return images


def self_check_answers(network: Network) -> list[list[float]]:
    """Returns the probabilities (4, C) that a network gives. Raises InvalidValue if they are no numbers."""
    answers = network.predict(self_check_images(network.architecture.inputs))
    if not np.isfinite(answers).all():
        raise InvalidValue("parameters", answers, "a network that answers with finite probabilities")
    found: list[list[float]] = answers.tolist()
    return found


def self_check(network: Network, answers: object) -> None:
    """Asks a network its self-check. Raises InvalidValue unless it answers as it did, to TOLERANCE; TypeError
    or ValueError for answers that are no array of numbers.
    """
    expected = np.asarray(answers, dtype=np.float64)
    found = np.asarray(self_check_answers(network))
    if expected.shape != found.shape:
        raise InvalidValue(
            "self_check", f"of shape {expected.shape}", f"probabilities of shape {found.shape}"
        )
    difference = np.abs(found - expected).max()
    if not difference <= TOLERANCE:  # nor is NaN
        raise InvalidValue("self_check", f"an answer off by {difference:.3g}", f"at most {TOLERANCE:g}")
