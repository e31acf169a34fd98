"""A small C kernel: what one core reaches without Python, as a limit rather than a peer."""

import ctypes
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data, initial_layers
from numpy.typing import NDArray

SOURCE = Path(__file__).with_name("kernel.c")
COMPILER_SECONDS = 60


class Learner:
    """The library is compiled for this machine and these sizes, into a folder that goes again at once."""

    share = 1.0

    def __init__(self, configuration: Configuration, data: Data) -> None:
        _, hidden, _ = configuration.sizes
        command = ["gcc", "-O3", "-march=native", "-shared", "-fPIC"]
        sizes = [f"-DHIDDEN={hidden}", f"-DBATCH={configuration.batch_size}"]
        with tempfile.TemporaryDirectory() as folder:
            library = str(Path(folder) / "kernel.so")
            subprocess.run(
                [*command, *sizes, str(SOURCE), "-o", library], check=True, timeout=COMPILER_SECONDS
            )
            self._epoch = ctypes.CDLL(library).epoch
        self._epoch.restype = None
        version = subprocess.run(
            ["gcc", "-dumpfullversion"], check=True, capture_output=True, text=True, timeout=COMPILER_SECONDS
        )
        self.versions = {"gcc": f"{version.stdout.strip()} {' '.join(command[1:3])}"}
        self._learning_rate = configuration.learning_rate
        self._images, self._labels = data.images, data.labels
        (w1, b1), (w2, b2) = initial_layers(configuration)
        # In whole vectors of 16, as the kernel has them.
        self._parameters = [np.pad(w1, ((0, 0), (0, -hidden % 16))), b1, w2, b2]
        self._rng = np.random.default_rng(0)

    def epoch(self) -> None:
        """Shuffles, then one call."""
        order = self._rng.permutation(len(self._images)).astype(np.int32)
        self._epoch(
            self._images.ctypes.data_as(ctypes.c_void_p),
            self._labels.ctypes.data_as(ctypes.c_void_p),
            order.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(len(order)),
            ctypes.c_float(self._learning_rate),
            *(array.ctypes.data_as(ctypes.c_void_p) for array in self._parameters),
        )

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the outputs before their sigmoid, which changes no order."""
        w1, b1, w2, b2 = self._parameters
        z = images / np.float32(255) @ w1[:, : len(b1)] + b1
        outputs: NDArray[np.floating] = 1 / (1 + np.exp(-z)) @ w2 + b2
        return outputs
