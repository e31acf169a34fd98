"""The network behind LitServe, which speaks HTTP and JSON: uint8 images in base64, numbers back."""

import base64
import sys
from typing import Any

import litserve
import numpy as np
from forward import forward
from numpy.typing import NDArray


class Mnist(litserve.LitAPI):
    """What LitServe runs in a process of its own."""

    def setup(self, device: str) -> None:
        """There is nothing to set up: the weights come with the module."""

    def decode_request(self, request: dict[str, str]) -> NDArray[Any]:
        """Reads the images of one request."""
        return np.frombuffer(base64.b64decode(request["pixels"]), dtype=np.uint8).reshape(-1, 784)

    def predict(self, images: NDArray[Any]) -> NDArray[Any]:
        """Answers one request."""
        return forward(images)

    def encode_response(self, probabilities: NDArray[Any]) -> dict[str, list[list[float]]]:
        """Writes the answer."""
        return {"probabilities": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Mnist(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
