"""Evaluating with ONNX Runtime: the same weights, images and count, in chunks of the size it likes best."""

import time
from itertools import pairwise

import numpy as np
import onnxruntime
from benchmarks.training.configuration import Configuration
from benchmarks.training.learner import Data
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

REPEATS = 30
TRIALS = 10
CHUNKS = (100, 250, 500, 1000, 2500, 10_000)
# Two float32 forward passes that sum in another order; outputs are 0 to 1.
TOLERANCE = 1e-5


class Learner:
    """Learns nothing; `epoch` evaluates some times over, since once takes milliseconds."""

    share = float(REPEATS)

    def __init__(self, configuration: Configuration, data: Data) -> None:
        self.versions = {"onnxruntime": onnxruntime.__version__}
        network = np.load(data.folder / "network.npz", allow_pickle=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = configuration.threads
        graph = _graph(configuration.sizes, network["parameters"])
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._images, self._labels = data.test_images, data.test_labels
        difference = np.abs(self.predict(self._images) - network["outputs"]).max()
        if not difference <= TOLERANCE:
            raise ValueError(f"outputs differ by {difference}: expected {TOLERANCE} at most")
        trials = [[self._seconds(chunk) for chunk in CHUNKS] for _ in range(TRIALS)]
        self._chunk = CHUNKS[int(np.argmin(np.min(trials, axis=0)))]
        self.versions["images a call"] = str(self._chunk)

    def epoch(self) -> None:
        """Evaluates."""
        for _ in range(REPEATS):
            self._evaluate(self._chunk)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Returns the output activations."""
        outputs: NDArray[np.floating] = self._session.run(None, {"images": images})[0]
        return outputs

    def _evaluate(self, chunk: int) -> int:
        correct = 0
        for start in range(0, len(self._images), chunk):
            part = slice(start, start + chunk)
            digits = self.predict(self._images[part]).argmax(axis=1)
            correct += int(np.count_nonzero(digits == self._labels[part]))
        return correct

    def _seconds(self, chunk: int) -> float:
        start = time.perf_counter()
        self._evaluate(chunk)
        return time.perf_counter() - start


def _graph(sizes: tuple[int, ...], parameters: NDArray[np.float32]) -> bytes:
    """Returns the network as ONNX; the 1/255 is in the first weights, so that the pixels need only a cast."""
    nodes = [helper.make_node("Cast", ["images"], ["a0"], to=TensorProto.FLOAT)]
    constants = []
    start = 0
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        stop = start + (inputs + 1) * outputs
        block = parameters[start:stop].reshape(inputs + 1, outputs)
        start = stop
        weights = block[:-1] / np.float32(255) if layer == 0 else block[:-1]
        constants += [
            numpy_helper.from_array(weights, f"w{layer}"),
            numpy_helper.from_array(block[-1], f"b{layer}"),
        ]
        nodes += [
            helper.make_node("Gemm", [f"a{layer}", f"w{layer}", f"b{layer}"], [f"z{layer + 1}"]),
            helper.make_node("Sigmoid", [f"z{layer + 1}"], [f"a{layer + 1}"]),
        ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["B", sizes[0]])],
        [helper.make_tensor_value_info(f"a{len(sizes) - 1}", TensorProto.FLOAT, ["B", sizes[-1]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized
