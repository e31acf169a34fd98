"""scikit-learn: MLPClassifier with its solver "sgd" and nothing added, by partial_fit, which is one epoch.

Its outputs are a softmax judged by cross-entropy, since it has no other; the work is the same.
"""

import numpy as np
import sklearn
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

# The quadratic loss has a factor of σ' that cross-entropy has not, 1/4 at most.
QUADRATIC_SLOPE = 0.25


class Learner:
    """A classifier and the images as float32, which is what it takes."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        self.versions = {"scikit-learn": sklearn.__version__}
        slope = QUADRATIC_SLOPE if configuration.loss == "quadratic" else 1.0
        self._classifier = MLPClassifier(
            configuration.sizes[1:-1],
            activation="logistic",
            solver="sgd",
            alpha=0.0,
            batch_size=configuration.batch_size,
            learning_rate_init=configuration.learning_rate * slope,
            momentum=0.0,
            nesterovs_momentum=False,
            random_state=0,
        )
        self._images = data.images / np.float32(255)
        self._labels = data.labels

    def epoch(self) -> None:
        """Shuffles, and learns from every image once."""
        self._classifier.partial_fit(self._images, self._labels, classes=np.arange(10))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns probabilities."""
        probabilities: NDArray[np.floating] = self._classifier.predict_proba(images / np.float32(255))
        return probabilities
