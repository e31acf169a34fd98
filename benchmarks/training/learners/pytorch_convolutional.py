"""PyTorch as most people write a convolutional network: an nn.Module, autograd, torch.optim.AdamW."""

import numpy as np
import torch
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from numpy.typing import NDArray
from torch import nn


class Learner:
    """The images are float32 beforehand; weights are drawn by PyTorch's own defaults."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        torch.set_num_threads(configuration.threads)
        torch.manual_seed(0)
        self.versions = {"torch": torch.__version__}
        self._batch_size = configuration.batch_size
        modules: list[nn.Module] = []
        channels, size = 1, 28
        for features, kernel in configuration.convolutions:
            modules += [nn.Conv2d(channels, features, kernel), nn.ReLU(), nn.MaxPool2d(2)]
            channels, size = features, (size - kernel + 1) // 2
        modules.append(nn.Flatten())
        inputs = channels * size * size
        for outputs in configuration.sizes[1:]:
            modules += [nn.Linear(inputs, outputs), nn.ReLU()]
            inputs = outputs
        self._network = nn.Sequential(*modules[:-1])  # softmax is with the loss
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=configuration.learning_rate, betas=(0.9, 0.99), weight_decay=0.01
        )
        self._images = _images(data.images)
        self._labels = torch.from_numpy(data.labels).long()

    def epoch(self) -> None:
        """The usual loop."""
        self._network.train()
        for indices in torch.randperm(len(self._images)).split(self._batch_size):
            self._optimizer.zero_grad()
            z = self._network(self._images[indices])
            nn.functional.cross_entropy(z, self._labels[indices]).backward()
            self._optimizer.step()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns probabilities."""
        self._network.eval()
        with torch.inference_mode():
            outputs: NDArray[np.floating] = self._network(_images(images)).softmax(1).numpy()
        return outputs


def _images(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images.reshape(-1, 1, 28, 28) / np.float32(255))
