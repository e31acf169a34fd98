"""The network as a model of Triton's Python backend: requests batched by Triton, one forward pass for all."""

from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from forward import forward


class TritonPythonModel:
    """What Triton makes one of."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answers what Triton has batched."""
        arrays = [triton.get_input_tensor_by_name(request, "images").as_numpy() for request in requests]
        probabilities = forward(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        responses, start = [], 0
        for array in arrays:
            part = probabilities[start : start + len(array)]
            start += len(array)
            responses.append(triton.InferenceResponse([triton.Tensor("probabilities", part)]))
        return responses
