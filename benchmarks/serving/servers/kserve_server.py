"""The network served by KServe's own gRPC servicer and interceptors.

Not by way of its ModelServer, which listens on every interface.
"""

import asyncio
import sys

import grpc
from forward import forward
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelRepository
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc
from kserve.protocol.grpc.interceptors import ExceptionToStatusInterceptor, LoggingInterceptor
from kserve.protocol.grpc.servicer import InferenceServicer
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

MAX_BYTES = 16 * 2**20


class Mnist(Model):
    """What KServe serves."""

    def __init__(self) -> None:
        super().__init__("mnist")
        self.ready = True

    async def predict(
        self,
        payload: InferRequest,
        headers: dict[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> InferResponse:
        """Answers one request."""
        probabilities = forward(payload.inputs[0].as_numpy())
        output = InferOutput("probabilities", list(probabilities.shape), "FP32")
        output.set_data_from_numpy(probabilities, binary_data=True)
        return InferResponse(payload.id, self.name, [output])


async def main(port: str) -> None:
    """Serves until it is ended."""
    repository = ModelRepository()
    repository.update(Mnist())
    servicer = InferenceServicer(DataPlane(repository), ModelRepositoryExtension(repository))
    server = grpc.aio.server(
        interceptors=(LoggingInterceptor(), ExceptionToStatusInterceptor()),
        options=[("grpc.max_receive_message_length", MAX_BYTES), ("grpc.so_reuseport", 0)],
    )
    grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
