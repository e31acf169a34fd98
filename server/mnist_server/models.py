"""Models over the wire: what can be asked."""

import grpc

from mnist_core import InvalidValue
from mnist_proto.names import is_id
from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1 import model_pb2_grpc
from mnist_server.names import model_name, page_size
from mnist_server.registry import ModelRegistry


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Answers `mnist.v1.ModelService`."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        """Lists models by name."""
        if request.page_token and not is_id(request.page_token):  # a page begins after a model's name
            raise InvalidValue("page_token", request.page_token, "next_page_token of an earlier page")
        models, following = self._registry.page(page_size(request.page_size), request.page_token)
        return pb.ListModelsResponse(models=models, next_page_token=following or "")

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """Returns one model."""
        return pb.GetModelResponse(model=self._registry.get(model_name("model", request.model)))
