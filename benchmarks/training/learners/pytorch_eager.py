"""PyTorch as most people write it: an nn.Module, autograd, torch.optim.SGD."""

import numpy as np
import torch
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data, initial_layers
from numpy.typing import NDArray
from torch import nn


class Learner:
    """The images are float32 beforehand: a gather is faster here than a gather and a scaling."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        torch.set_num_threads(configuration.threads)
        self.versions = {"torch": torch.__version__}
        self._batch_size = configuration.batch_size
        modules: list[nn.Module] = []
        for weights, biases in initial_layers(configuration):
            linear = nn.Linear(*weights.shape)
            linear.weight.data.copy_(torch.from_numpy(weights.T))
            linear.bias.data.copy_(torch.from_numpy(biases))
            modules += [linear, nn.Sigmoid()]
        self._network = nn.Sequential(*modules[:-1])  # the last sigmoid is with the loss
        self._quadratic = configuration.loss == "quadratic"
        torch.manual_seed(0)
        self._optimizer = torch.optim.SGD(self._network.parameters(), lr=configuration.learning_rate)
        self._images = torch.from_numpy(data.images / np.float32(255))
        self._targets = torch.eye(10)[torch.from_numpy(data.labels).long()]

    def epoch(self) -> None:
        """The usual loop."""
        for indices in torch.randperm(len(self._images)).split(self._batch_size):
            self._optimizer.zero_grad()
            z, targets = self._network(self._images[indices]), self._targets[indices]
            if self._quadratic:
                loss = nn.functional.mse_loss(z.sigmoid(), targets, reduction="sum") / 2
            else:
                loss = nn.functional.binary_cross_entropy_with_logits(z, targets, reduction="sum")
            (loss / len(indices)).backward()
            self._optimizer.step()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the outputs before their sigmoid, which changes no order."""
        with torch.no_grad():
            outputs: NDArray[np.floating] = self._network(torch.from_numpy(images / np.float32(255))).numpy()
        return outputs
