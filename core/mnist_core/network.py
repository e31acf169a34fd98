"""A network is layers of neurons, each of which turns the layer before it into its own outputs."""

import hashlib
import math
from dataclasses import replace
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnist_core import configuration
from mnist_core.activation import ACTIVATIONS, OUTPUTS, Array
from mnist_core.architecture import Architecture
from mnist_core.configuration import Activation, Initialization, Output
from mnist_core.errors import InvalidValue
from mnist_core.stage import features

# BLAS multiplies columns by fours: 784 x 32 takes four fifths of the time of 784 x 30.
_COLUMNS = 4


class Network:
    """Layers of any number and size, joined each to the next.

    architecture: their shape; for dense layers alone their sizes will do, inputs, hidden neurons, outputs.
    activation: of the hidden layers. output: of the last.
    parameters: float32 or float64 (P,), the layers one after the other, each its weights (I, O) row-major and
        then its biases (O,). `layers` are views into it. The I inputs of a convolution are what lies under a
        kernel: row by row, column by column, channel by channel.

    Forward and predict store nothing on the network and take no lock. Raises InvalidValue.
    """

    def __init__(
        self,
        architecture: Architecture | tuple[int, ...],
        activation: Activation,
        output: Output,
        parameters: Array,
    ) -> None:
        self.architecture = _architecture(architecture)
        self.sizes = self.architecture.sizes
        if activation not in ACTIVATIONS:
            raise InvalidValue("activation", activation, "one of " + ", ".join(ACTIVATIONS))
        if output not in get_args(Output):
            raise InvalidValue("output", output, "one of " + ", ".join(get_args(Output)))
        size = self.architecture.parameters
        if parameters.dtype not in (np.float32, np.float64) or parameters.shape != (size,):
            raise InvalidValue(
                "parameters",
                f"{parameters.dtype} of shape {parameters.shape}",
                f"float32 or float64 of shape ({size},) for sizes {self.sizes}",
            )
        self.activation: Activation = activation
        self.output: Output = output
        self.parameters: Array = np.ascontiguousarray(parameters)
        self.layers = self.architecture.blocks(self.parameters)

    @classmethod
    def initialize(
        cls,
        architecture: Architecture | tuple[int, ...],
        *,
        activation: Activation = "sigmoid",
        output: Output = "sigmoid",
        initialization: Initialization = "normal",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator,
    ) -> Self:
        """Draws weights and biases from the standard normal distribution (Nielsen ch. 1), layer by layer.

        "scaled" divides the weights by sqrt(I), so that no layer starts saturated (Nielsen ch. 3); "he" by
        sqrt(I / 2), which suits ReLU, and has biases of 0 (He et al. 2015, Delving Deep into Rectifiers, eq.
        10). Drawn in float64 whatever the dtype: one seed is the same network in both, but for rounding.
        """
        if initialization not in get_args(configuration.Initialization):
            raise InvalidValue("initialization", initialization, "normal, scaled or he")
        architecture = _architecture(architecture)
        network = cls(architecture, activation, output, np.empty(architecture.parameters, dtype))
        for layer in network.layers:
            layer.block[...] = rng.standard_normal(layer.block.shape)
            if initialization == "scaled":
                np.divide(layer.weights, math.sqrt(len(layer.weights)), out=layer.weights)
            elif initialization == "he":
                np.divide(layer.weights, math.sqrt(len(layer.weights) / 2), out=layer.weights)
                layer.biases[...] = 0
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        # The default copies views and parameters apart from one another.
        return Network(self.architecture, self.activation, self.output, self.parameters.copy())

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of parameters and arithmetic."""
        return self.parameters.dtype

    def freeze(self) -> Self:
        """Makes the parameters read-only for good, here and in every view made from now on."""
        self.parameters.flags.writeable = False
        self.layers = self.architecture.blocks(self.parameters)
        return self

    def widened(self) -> "Network":
        """Returns a network with the same outputs, as quick to compute as can be: a copy, or itself.

        Hidden dense layers get neurons that nobody listens to until their number suits BLAS.
        """
        inputs, *hidden, classes = self.architecture.dense
        sizes = (inputs, *(size + -size % _COLUMNS for size in hidden), classes)
        if sizes == self.architecture.dense:
            return self
        architecture = replace(self.architecture, dense=sizes)
        wide = Network(
            architecture, self.activation, self.output, np.zeros(architecture.parameters, self.dtype)
        )
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
            stages = len(self.architecture.stages)
            for layer in self.layers[stages:]:
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
        """Returns the dense layers' inputs (B, I), and what 1 in them is worth where it is not 1."""
        size = math.prod(images.shape[1:])
        inputs = self.architecture.inputs
        if images.ndim not in (2, 3) or size != inputs:
            expected = f"(B, {inputs}) or (B, H, W) with H x W = {inputs}"
            raise InvalidValue("images", f"shape {images.shape}", expected)
        is_bytes = images.dtype == np.uint8
        if not is_bytes and not np.issubdtype(images.dtype, np.floating):
            raise InvalidValue("images", str(images.dtype), "uint8 or a floating-point type")
        rows = images.reshape(len(images), size)
        if self.architecture.stages:
            hidden = ACTIVATIONS[self.activation](self.dtype)
            return features(rows, self.architecture, self.layers, hidden, 1 / 255 if is_bytes else 1), None
        if is_bytes:
            return rows.astype(self.dtype), np.asarray(1 / 255, dtype=self.dtype)
        return rows.astype(self.dtype, copy=False), None


def _architecture(architecture: Architecture | tuple[int, ...]) -> Architecture:
    return architecture if isinstance(architecture, Architecture) else Architecture.of_sizes(architecture)
