"""The network behind BentoML, which speaks HTTP and JSON: uint8 images in base64, numbers back."""

import base64

import bentoml
import numpy as np
from forward import forward


@bentoml.service(workers=1)
class Mnist:
    """What BentoML serves."""

    @bentoml.api
    def predict(self, pixels: str) -> dict[str, list[list[float]]]:
        """Answers one request."""
        images = np.frombuffer(base64.b64decode(pixels), dtype=np.uint8).reshape(-1, 784)
        return {"probabilities": forward(images).tolist()}
