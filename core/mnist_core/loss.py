"""A loss measures how wrong a network's outputs are.

outputs a and targets y are (B, C), a loss is one number an example. Sigmoid outputs are judged each by
itself; softmax outputs are one distribution, and their targets must sum to 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.activation import Array, Sigmoid
from mnist_core.configuration import Loss, Output


def losses(loss: Loss, output: Output, outputs: Array, targets: Array) -> NDArray[np.float64]:
    """Returns the loss of each example, float64 (B,).

    quadratic: 1/2 |a - y|² (Nielsen ch. 1, eq. 6, without the mean).
    cross_entropy: -Σ [y ln a + (1 - y) ln(1 - a)] of sigmoid outputs (ch. 3, eq. 63); -Σ y ln a of softmax
    (ch. 3, eq. 80). Outputs closer to 0 or 1 than half the dtype's epsilon count as that far from it, as in
    scikit-learn's log_loss: an output rounded to exactly 1 would else cost infinitely much.
    """
    terms: NDArray[np.float64]
    if loss == "quadratic":
        terms = np.subtract(outputs, targets, dtype=np.float64) ** 2 / 2
    else:
        margin = np.finfo(outputs.dtype).eps / 2
        a = np.clip(outputs, margin, 1 - margin, dtype=np.float64)
        terms = -targets * np.log(a)
        if output == "sigmoid":
            terms -= (1 - targets) * np.log1p(-a)
    total: NDArray[np.float64] = terms.sum(axis=1)
    return total


class OutputError:
    """BP1: the error δ = ∂loss/∂z of the output layer (Nielsen ch. 2, eq. 30), for one loss and output."""

    def __init__(self, loss: Loss, output: Output, dtype: np.dtype[Any]) -> None:
        self._kind = (loss, output)
        self._sigmoid = Sigmoid(dtype)

    def write(self, outputs: Array, targets: Array, delta: Array, scratch: Array) -> None:
        """Writes δ into `delta`; `scratch` has its shape, (B, C)."""
        np.subtract(outputs, targets, delta)  # ∇a of the quadratic loss; for cross-entropy, δ itself
        if self._kind == ("quadratic", "sigmoid"):
            self._sigmoid.slope(outputs, out=scratch)
            np.multiply(delta, scratch, delta)  # δ = (a - y) ⊙ σ'(z)
        elif self._kind == ("quadratic", "softmax"):
            # ∂a_k/∂z_j = a_j ([j = k] - a_k), so δ_j = a_j (∇_j - Σ_k a_k ∇_k)
            np.multiply(outputs, delta, scratch)
            np.subtract(delta, scratch.sum(axis=1, keepdims=True), delta)
            np.multiply(delta, outputs, delta)
