"""A network is layers of neurons, each of which turns the layer before it into its own outputs."""

import hashlib
import math
from itertools import pairwise
from typing import Any, NamedTuple, Self, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnist_core import configuration
from mnist_core.activation import ACTIVATIONS, OUTPUTS, Array
from mnist_core.configuration import Activation, Initialization, Output
from mnist_core.errors import InvalidValue

MAX_PARAMETERS = 100_000_000
# BLAS multiplies columns by fours: 784 x 32 takes four fifths of the time of 784 x 30.
_COLUMNS = 4


class Layer(NamedTuple):
    """Views of one layer's part of a flat array: I inputs, O outputs."""

    block: Array  # (I + 1, O): the weights, and the biases as the last row
    weights: Array  # (I, O)
    biases: Array  # (O,)


def layers_of(sizes: tuple[int, ...], flat: Array) -> tuple[Layer, ...]:
    """Returns each layer's views into a flat array (P,), of parameters or of anything shaped like them."""
    layers = []
    start = 0
    for inputs, outputs in pairwise(sizes):
        stop = start + (inputs + 1) * outputs
        block = flat[start:stop].reshape(inputs + 1, outputs)
        layers.append(Layer(block, block[:-1], block[-1]))
        start = stop
    return tuple(layers)


class Network:
    """Layers of any number and size, joined each to the next; sizes are inputs, hidden neurons, outputs.

    parameters: float32 or float64 (P,), the layers one after the other, each its weights (I, O) row-major and
        then its biases (O,). `layers` are views into it.

    Forward and predict store nothing on the network and take no lock. Raises InvalidValue.
    """

    def __init__(
        self, sizes: tuple[int, ...], activation: Activation, output: Output, parameters: Array
    ) -> None:
        self.sizes = _checked_sizes(sizes)
        if activation not in ACTIVATIONS:
            raise InvalidValue("activation", activation, "one of " + ", ".join(ACTIVATIONS))
        if output not in get_args(Output):
            raise InvalidValue("output", output, "one of " + ", ".join(get_args(Output)))
        if parameters.dtype not in (np.float32, np.float64) or parameters.shape != (count(self.sizes),):
            raise InvalidValue(
                "parameters",
                f"{parameters.dtype} of shape {parameters.shape}",
                f"float32 or float64 of shape ({count(self.sizes)},) for sizes {self.sizes}",
            )
        self.activation: Activation = activation
        self.output: Output = output
        self.parameters: Array = np.ascontiguousarray(parameters)
        self.layers = layers_of(self.sizes, self.parameters)

    @classmethod
    def initialize(
        cls,
        sizes: tuple[int, ...],
        *,
        activation: Activation = "sigmoid",
        output: Output = "sigmoid",
        initialization: Initialization = "normal",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator,
    ) -> Self:
        """Draws weights and biases from the standard normal distribution (Nielsen ch. 1), layer by layer.

        "scaled" divides the weights by sqrt(I), so that no layer starts saturated (Nielsen ch. 3). Drawn in
        float64 whatever the dtype: one seed is the same network in both, but for rounding.
        """
        if initialization not in get_args(configuration.Initialization):
            raise InvalidValue("initialization", initialization, "normal or scaled")
        network = cls(sizes, activation, output, np.empty(count(_checked_sizes(sizes)), dtype))
        for layer in network.layers:
            layer.block[...] = rng.standard_normal(layer.block.shape)
            if initialization == "scaled":
                np.divide(layer.weights, math.sqrt(len(layer.weights)), out=layer.weights)
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        # The default copies views and parameters apart from one another.
        return Network(self.sizes, self.activation, self.output, self.parameters.copy())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of parameters and arithmetic."""
        return self.parameters.dtype

    def freeze(self) -> Self:
        """Makes the parameters read-only for good, here and in every view made from now on."""
        self.parameters.flags.writeable = False
        self.layers = layers_of(self.sizes, self.parameters)
        return self

    def widened(self) -> "Network":
        """Returns a network with the same outputs, as quick to compute as can be: a copy, or itself.

        Hidden layers get neurons that nobody listens to until their number suits BLAS.
        """
        hidden = [size + -size % _COLUMNS for size in self.sizes[1:-1]]
        sizes = (self.sizes[0], *hidden, self.sizes[-1])
        if sizes == self.sizes:
            return self
        wide = Network(sizes, self.activation, self.output, np.zeros(count(sizes), self.dtype))
        for there, here in zip(wide.layers, self.layers, strict=True):
            inputs, outputs = here.weights.shape
            there.weights[:inputs, :outputs] = here.weights
            there.biases[:outputs] = here.biases
        return wide

    def forward(self, images: NDArray[Any]) -> Array:
        """Returns the outputs (B, C) of images (B, I) or (B, H, W): uint8, 0 to 255, or floats, 0 to 1.

        Floats are taken as they are, NaN and infinity too. Raises InvalidValue when the images are of another
        size or type.
        """
        hidden, output = ACTIVATIONS[self.activation](self.dtype), OUTPUTS[self.output](self.dtype)
        # exp may overflow to infinity on the way to the right 0; what is made of NaN is the caller's.
        with np.errstate(over="ignore", invalid="ignore"):
            a, pixel = self._inputs(images)
            for layer in self.layers:
                z = np.dot(a, layer.weights)
                if layer is self.layers[0] and pixel is not None:
                    np.multiply(z, pixel, out=z)  # fewer numbers than the pixels
                np.add(z, layer.biases, out=z)
                (output if layer is self.layers[-1] else hidden).apply(z, z)
                a = z
        return a

    def predict(self, images: NDArray[Any]) -> Array:
        """Returns probabilities (B, C), each row summing to 1, of images as `forward` takes them.

        Softmax outputs as they are; sigmoid outputs divided by their sum, uniform where that is 0.
        """
        return self.probabilities(self.forward(images))

    def probabilities(self, outputs: Array) -> Array:
        """Returns what `predict` makes of outputs (B, C), which may be overwritten."""
        if self.output == "softmax":
            return outputs
        total = outputs.sum(axis=1, keepdims=True)
        if not total.all():
            outputs[(total == 0).ravel()] = 1
            total[total == 0] = outputs.shape[1]
        outputs /= total
        return outputs

    def weights_hash(self) -> str:
        """Returns the SHA-256 of the parameters' little-endian bytes, in hexadecimal."""
        little_endian = self.parameters.astype(self.dtype.newbyteorder("<"), copy=False)
        return hashlib.sha256(little_endian.data).hexdigest()

    def _inputs(self, images: NDArray[Any]) -> tuple[Array, Array | None]:
        """Returns (B, I) in the network's dtype, and what 1 in them is worth where it is not 1."""
        size = math.prod(images.shape[1:])
        if images.ndim not in (2, 3) or size != self.sizes[0]:
            expected = f"(B, {self.sizes[0]}) or (B, H, W) with H x W = {self.sizes[0]}"
            raise InvalidValue("images", f"shape {images.shape}", expected)
        rows = images.reshape(len(images), size)
        if images.dtype == np.uint8:
            return rows.astype(self.dtype), np.asarray(1 / 255, dtype=self.dtype)
        if not np.issubdtype(images.dtype, np.floating):
            raise InvalidValue("images", str(images.dtype), "uint8 or a floating-point type")
        return rows.astype(self.dtype, copy=False), None


def count(sizes: tuple[int, ...]) -> int:
    """Returns P, the number of parameters of a network of these sizes."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def _checked_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(sizes)
    if len(sizes) < 2 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise InvalidValue("sizes", sizes, "two or more integers, each at least 1")
    if count(sizes) > MAX_PARAMETERS:
        raise InvalidValue("sizes", sizes, f"at most {MAX_PARAMETERS} parameters, not {count(sizes)}")
    return sizes
