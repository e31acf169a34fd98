"""The network as a custom runtime of MLServer."""

from forward import forward
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Mnist(MLModel):
    """What MLServer loads."""

    async def load(self) -> bool:
        """There is nothing to load: the weights come with the module."""
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answers one request."""
        images = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("probabilities", forward(images))
        return InferenceResponse(model_name=self.name, outputs=[output])
