"""A configuration is a network and how it is trained: what the contenders of a comparison have in common."""

import json
import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Literal, Self


@dataclass(frozen=True)
class Configuration:
    """Layers of `sizes`, sigmoid neurons throughout, plain gradient descent, float32.

    convolutions: features and kernel size of those before the dense layers, each pooled. With them neurons
        are ReLU, outputs softmax, and descent is AdamW's.
    loss: quadratic, or the cross-entropy of each output.
    initialization: "normal" draws all parameters from the standard normal distribution, "scaled" divides the
        weights by the square root of the layer's inputs, "he" by that of half of them.
    threads: that a contender may compute with.
    images: to learn from; the 60,000 are repeated, or cut, to as many.
    """

    sizes: tuple[int, ...]
    batch_size: int
    learning_rate: float
    loss: Literal["quadratic", "cross_entropy"] = "quadratic"
    initialization: Literal["normal", "scaled", "he"] = "normal"
    threads: int = 1
    images: int = 60_000
    convolutions: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """Such as 784-30-10 batch 10."""
        inputs, *dense = map(str, self.sizes)
        convolutions = [word for features, size in self.convolutions for word in (f"{features}C{size}", "P")]
        return f"{'-'.join([inputs, *convolutions, *dense])} batch {self.batch_size}"

    @property
    def products(self) -> tuple[tuple[int, int, int], ...]:
        """The products of matrices of one full mini-batch, as (m, k, n) for (m, k) times (k, n).

        Of dense layers alone.
        """
        B = self.batch_size
        layers = tuple(pairwise(self.sizes))
        forward = tuple((B, inputs, outputs) for inputs, outputs in layers)
        gradients = tuple((inputs, B, outputs) for inputs, outputs in layers)
        backward = tuple((B, outputs, inputs) for inputs, outputs in layers[1:])
        return forward + gradients + backward

    @property
    def flops(self) -> float:
        """Floating-point operations of the products of an epoch: a multiplication and an addition each."""
        return 2 * sum(map(math.prod, self.products)) * self.images / self.batch_size

    def with_images(self, images: int) -> Self:
        """Returns the same for another number of images."""
        return replace(self, images=images)

    def to_json(self) -> str:
        """Returns it as one line, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The way back."""
        fields = json.loads(line)
        convolutions = tuple(map(tuple, fields["convolutions"]))
        return cls(**fields | {"sizes": tuple(fields["sizes"]), "convolutions": convolutions})


CLASSIC = Configuration((784, 30, 10), 10, 3.0)
HUNDRED = Configuration((784, 100, 10), 10, 1.0, initialization="scaled")
# With the quadratic loss, two hidden layers of sigmoids stay where they begin for some epochs.
WIDE = Configuration((784, 800, 10), 100, 0.3, "cross_entropy", "scaled", threads=2)
DEEP = Configuration((784, 512, 512, 10), 128, 0.3, "cross_entropy", "scaled", threads=2)
CONVOLUTIONAL = Configuration(
    (784, 150, 10),
    128,
    0.002,
    "cross_entropy",
    "he",
    threads=2,
    images=20_000,
    convolutions=((20, 5), (40, 5)),
)
