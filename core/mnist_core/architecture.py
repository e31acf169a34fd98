"""An architecture is a network's shape: how its layers follow each other, and where their parameters lie."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

from mnist_core.activation import Array
from mnist_core.errors import InvalidValue
from mnist_core.layer import Convolution, Dense, Dropout, Layer, MaxPool

MAX_PARAMETERS = 100_000_000
# Numbers an image that all convolutions may have in memory: 16 MiB of float32.
MAX_NUMBERS = 2**22


class Block(NamedTuple):
    """Views of one layer's part of a flat array: I inputs, O outputs."""

    block: Array  # (I + 1, O): the weights, and the biases as the last row
    weights: Array  # (I, O)
    biases: Array  # (O,)


@dataclass(frozen=True)
class Stage:
    """A convolution of images with some channels, and the 2 x 2 pooling after it if there is one."""

    height: int
    width: int
    channels: int
    features: int
    size: int
    pooled: bool

    @property
    def rows(self) -> int:
        """Rows of places where a kernel is laid: one that pooling would leave out is not computed."""
        return _even(self.height - self.size + 1, self.pooled)

    @property
    def columns(self) -> int:
        """Columns of places where a kernel is laid."""
        return _even(self.width - self.size + 1, self.pooled)

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Rows, columns and channels of what comes out."""
        shrunk = 1 + self.pooled
        return self.rows // shrunk, self.columns // shrunk, self.features

    @property
    def inputs(self) -> int:
        """Numbers under a kernel, I of its layer."""
        return self.size * self.size * self.channels

    @property
    def numbers(self) -> int:
        """The most numbers an image that are in memory at a time: of what goes in, unfolded, or comes out."""
        unfolded = (self.rows + self.size - 1) * self.size * self.channels * self.columns
        return max(unfolded, self.rows * self.columns * self.features)


def _even(places: int, pooled: bool) -> int:
    return places - places % 2 if pooled else places


@dataclass(frozen=True)
class Architecture:
    """Convolutions, then dense layers, joined each to the next.

    inputs: pixels an image. stages: the convolutions. dense: inputs of the first dense layer, neurons of the
        hidden ones, classes. dropout: share of the inputs of each dense layer left out in training.

    Raises InvalidValue for what is no network, or one of more than 100,000,000 parameters.
    """

    inputs: int
    stages: tuple[Stage, ...]
    dense: tuple[int, ...]
    dropout: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.dense) < 2 or not all(isinstance(size, int) and size >= 1 for size in self.dense):
            raise InvalidValue("sizes", self.dense, "two or more integers, each at least 1")
        if self.parameters > MAX_PARAMETERS:
            raise InvalidValue(
                "sizes", self.sizes, f"at most {MAX_PARAMETERS} parameters, not {self.parameters}"
            )

    @classmethod
    def of_sizes(cls, sizes: Sequence[int]) -> Self:
        """Returns dense layers alone: inputs, hidden neurons, classes."""
        sizes = tuple(sizes)
        return cls(sizes[0] if sizes else 0, (), sizes, (0.0,) * (len(sizes) - 1))

    @classmethod
    def of_layers(cls, image: tuple[int, int], layers: Sequence[Layer], classes: int) -> Self:
        """Returns hidden layers that `checked_layers` has passed, for images of this height and width.

        Raises InvalidValue, naming the layer, where a kernel is larger than what it is laid on.
        """
        height, width, channels = (*image, 1)
        stages: list[Stage] = []
        for index, layer in enumerate(layers):
            if isinstance(layer, Convolution):
                following = layers[index + 1] if index + 1 < len(layers) else None
                pooled = isinstance(following, MaxPool)
                stage = Stage(height, width, channels, layer.features, layer.size, pooled)
                if stage.rows < 1 or stage.columns < 1:
                    least = layer.size + pooled
                    expected = f"a kernel that fits: {height} x {width} come in, {least} x {least} are needed"
                    raise InvalidValue(f"layers[{index}].size", layer.size, expected)
                stages.append(stage)
                if (numbers := sum(each.numbers for each in stages)) > MAX_NUMBERS:
                    expected = f"convolutions with at most {MAX_NUMBERS} numbers an image, not {numbers}"
                    raise InvalidValue(f"layers[{index}].features", layer.features, expected)
                height, width, channels = stage.outputs
        sizes, dropout = [height * width * channels], [0.0]
        for layer in layers:
            if isinstance(layer, Dense):
                sizes.append(layer.neurons)
                dropout.append(0.0)
            elif isinstance(layer, Dropout):
                dropout[-1] = layer.rate
        return cls(image[0] * image[1], tuple(stages), (*sizes, classes), tuple(dropout))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, and what comes out of each layer, pooling included, an image; the last are classes."""
        if not self.stages:
            return self.dense
        return (self.inputs, *(math.prod(stage.outputs) for stage in self.stages), *self.dense[1:])

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """I and O of each layer with parameters, in their order."""
        return (*((stage.inputs, stage.features) for stage in self.stages), *pairwise(self.dense))

    @property
    def parameters(self) -> int:
        """P."""
        return sum((inputs + 1) * outputs for inputs, outputs in self.shapes)

    @property
    def numbers(self) -> int:
        """Numbers an image that its stages have in memory, apart from those that training adds."""
        return sum(stage.numbers for stage in self.stages)

    @property
    def work(self) -> int:
        """Multiply-adds an image on its way forward."""
        convolved = sum(
            stage.rows * stage.columns * (stage.inputs + 1) * stage.features for stage in self.stages
        )
        return convolved + sum((inputs + 1) * outputs for inputs, outputs in pairwise(self.dense))

    def blocks(self, flat: Array) -> tuple[Block, ...]:
        """Returns each layer's views into a flat array (P,): of parameters, or of what lies as they do."""
        blocks = []
        start = 0
        for inputs, outputs in self.shapes:
            stop = start + (inputs + 1) * outputs
            block = flat[start:stop].reshape(inputs + 1, outputs)
            blocks.append(Block(block, block[:-1], block[-1]))
            start = stop
        return tuple(blocks)
