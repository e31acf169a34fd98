"""Information: the server speaks for itself."""

import grpc

from mnist_proto import __version__
from mnist_proto.v1 import server_pb2 as pb
from mnist_proto.v1 import server_pb2_grpc
from mnist_server.environment import environment
from mnist_server.jobs import now
from mnist_server.limits import Limits
from mnist_server.registry import ModelRegistry


class InformationServicer(server_pb2_grpc.ServerServiceServicer):
    """Answers `mnist.v1.ServerService`."""

    def __init__(
        self, registry: ModelRegistry, limits: Limits, *, threads: int, blas_threads: int, workers: int
    ) -> None:
        self._registry = registry
        self._info = pb.ServerInfo(
            version=__version__,
            start_time=now(),
            limits=limits.to_message(),
            threads=threads,
            workers=workers,
            environment=environment(blas_threads),
        )

    def GetServerInfo(
        self, request: pb.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetServerInfoResponse:
        """Returns version, limits, threads and the models in memory."""
        response = pb.GetServerInfoResponse(server=self._info)
        response.server.models_loaded.extend(self._registry.loaded()[:1000])
        return response
