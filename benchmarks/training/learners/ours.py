"""Ours: mnist_core as it is."""

from dataclasses import replace

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from mnist_core import (
    Convolution,
    Dataset,
    Dense,
    EpochReport,
    MaxPool,
    Split,
    TrainingConfig,
    TrainingState,
    train,
)
from mnist_core.product import load_blas
from mnist_core.threads import blas_threads


class Learner:
    """One training that never ends, an epoch at a time."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        config = _config(configuration)
        load_blas()
        threadpool_limits(limits=config.threads, user_api="blas")
        split = Split(data.images.reshape(-1, 28, 28), data.labels)
        self._state = TrainingState.begin(config)
        self._reports = train(self._state, Dataset(split), config)
        libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
        self.versions = {"numpy": np.__version__} | _scipy_version()
        self.versions["blas"] = " and ".join(
            f"{info['internal_api']} {info['version']} {info['architecture']}" for info in libraries
        )

    def epoch(self) -> None:
        """Takes the reports up to and including the epoch's."""
        for report in self._reports:
            if isinstance(report, EpochReport):
                return

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns probabilities."""
        return self._state.network.predict(images)


def _config(configuration: Configuration) -> TrainingConfig:
    hidden = configuration.sizes[1:-1]
    config = TrainingConfig(
        hidden_sizes=hidden,
        loss=configuration.loss,
        initialization=configuration.initialization,
        epochs=100_000,
        batch_size=configuration.batch_size,
        learning_rate=configuration.learning_rate,
    )
    if configuration.convolutions:
        stages = (
            layer
            for features, size in configuration.convolutions
            for layer in (Convolution(features, size), MaxPool())
        )
        config = replace(
            config,
            layers=(*stages, *map(Dense, hidden)),
            activation="relu",
            output="softmax",
            optimizer="adamw",
            weight_decay=0.01,
        )
    threads = blas_threads(config.architecture((28, 28)), configuration.batch_size)
    return replace(config, threads=min(threads, configuration.threads))


def _scipy_version() -> dict[str, str]:
    try:
        import scipy
    except ImportError:
        return {}
    return {"scipy": scipy.__version__}
