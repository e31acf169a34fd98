"""Evaluating with mnist_core: how many of the 10,000 test images, uint8, a trained network names rightly."""

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mnist_core import Network, Split, evaluate

REPEATS = 30


class Learner:
    """Learns nothing; `epoch` evaluates some times over, since once takes milliseconds."""

    share = float(REPEATS)

    def __init__(self, configuration: Configuration, data: Data) -> None:
        threadpool_limits(limits=configuration.threads, user_api="blas")
        self.versions = {"numpy": np.__version__}
        parameters = np.load(data.folder / "network.npz", allow_pickle=False)["parameters"]
        self.network = Network(configuration.sizes, "sigmoid", "sigmoid", parameters).freeze()
        self._split = Split(data.test_images.reshape(-1, 28, 28), data.test_labels)

    def epoch(self) -> None:
        """Evaluates."""
        for _ in range(REPEATS):
            evaluate(self.network, self._split)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the output activations."""
        return self.network.forward(images)
