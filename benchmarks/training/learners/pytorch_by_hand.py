"""PyTorch with the gradient by hand: no autograd, everything allocated once, the update in the product."""

from dataclasses import dataclass

import numpy as np
import torch
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data, initial_layers
from numpy.typing import NDArray
from torch import Tensor


@dataclass
class _Layer:
    """I inputs, O outputs; a and delta are (B, O)."""

    weights: Tensor  # (I, O)
    biases: Tensor  # (O,)
    a: Tensor
    delta: Tensor
    slope: Tensor


class _Batch:
    """B examples going forward and back."""

    def __init__(
        self, parameters: list[tuple[Tensor, Tensor]], examples: int, configuration: Configuration
    ) -> None:
        self._step = -configuration.learning_rate / examples
        self._quadratic = configuration.loss == "quadratic"
        self.images = torch.empty(examples, len(parameters[0][0]))
        self.targets = torch.empty(examples, 10)
        self._ones = torch.ones(examples)
        self._layers = [
            _Layer(weights, biases, *(torch.empty(examples, len(biases)) for _ in range(3)))
            for weights, biases in parameters
        ]

    def learn(self) -> None:
        a = self.images
        for layer in self._layers:
            torch.addmm(layer.biases, a, layer.weights, out=layer.a)
            a = layer.a.sigmoid_()
        last = self._layers[-1]
        torch.sub(last.a, self.targets, out=last.delta)
        for index in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[index]
            if layer is not last or self._quadratic:
                torch.addcmul(layer.a, layer.a, layer.a, value=-1, out=layer.slope)  # σ' = a - a²
                layer.delta.mul_(layer.slope)
            if index:
                below = self._layers[index - 1]
                torch.mm(layer.delta, layer.weights.t(), out=below.delta)
            inputs = self._layers[index - 1].a if index else self.images
            layer.weights.addmm_(inputs.t(), layer.delta, alpha=self._step)
            layer.biases.addmv_(layer.delta.t(), self._ones, alpha=self._step)


class Learner:
    """The images are float32 beforehand: a gather is faster here than a gather and a scaling."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        torch.set_num_threads(configuration.threads)
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        self.versions = {"torch": torch.__version__}
        self._configuration = configuration
        self._batch_size = configuration.batch_size
        self._parameters = [
            (torch.from_numpy(weights), torch.from_numpy(biases))
            for weights, biases in initial_layers(configuration)
        ]
        self._batches: dict[int, _Batch] = {}
        self._images = torch.from_numpy(data.images / np.float32(255))
        self._targets = torch.eye(10)[torch.from_numpy(data.labels).long()]

    def epoch(self) -> None:
        """Gathers and learns, a mini-batch after the other."""
        for indices in torch.randperm(len(self._images)).split(self._batch_size):
            examples = len(indices)
            if examples not in self._batches:
                self._batches[examples] = _Batch(self._parameters, examples, self._configuration)
            batch = self._batches[examples]
            torch.index_select(self._images, 0, indices, out=batch.images)
            torch.index_select(self._targets, 0, indices, out=batch.targets)
            batch.learn()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the output activations."""
        a = torch.from_numpy(images / np.float32(255))
        for weights, biases in self._parameters:
            a = torch.addmm(biases, a, weights).sigmoid_()
        outputs: NDArray[np.floating] = a.numpy()
        return outputs
