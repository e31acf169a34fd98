"""The rest of the Open Inference Protocol, with Triton's extensions: what the server and its models are."""

from collections.abc import Callable

import grpc

from mnist_core import InvalidValue
from mnist_proto import __version__
from mnist_proto.inference import inference_pb2 as pb
from mnist_server import tensors
from mnist_server.errors import Corrupt, NotFound
from mnist_server.inference import checked_name
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics, ModelCounts
from mnist_server.names import model_name
from mnist_server.registry import Model, ModelRegistry

PLATFORM = "mnist_numpy"
EXTENSIONS = ("classification", "model_configuration", "model_repository", "statistics")


class InferenceServicer:
    """Answers all of `inference.GRPCInferenceService` but ModelInfer and ModelStreamInfer."""

    def __init__(
        self, registry: ModelRegistry, limits: Limits, metrics: Metrics, ready: Callable[[], bool]
    ) -> None:
        """`ready` says whether the server answers about models."""
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._ready = ready

    def ServerLive(
        self, request: pb.ServerLiveRequest, context: grpc.ServicerContext
    ) -> pb.ServerLiveResponse:
        """Says yes."""
        return pb.ServerLiveResponse(live=True)

    def ServerReady(
        self, request: pb.ServerReadyRequest, context: grpc.ServicerContext
    ) -> pb.ServerReadyResponse:
        """Says whether the server answers about models."""
        return pb.ServerReadyResponse(ready=self._ready())

    def ModelReady(
        self, request: pb.ModelReadyRequest, context: grpc.ServicerContext
    ) -> pb.ModelReadyResponse:
        """Says whether a model can be asked."""
        try:
            self._load(request.name, request.version)
        except (NotFound, Corrupt):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=self._ready())

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        """Names the server, its version, and what it knows of the protocol."""
        return pb.ServerMetadataResponse(name="mnist-server", version=__version__, extensions=EXTENSIONS)

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        """Describes a model's tensors and names its versions."""
        model = self._load(request.name, request.version)
        tensor = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=request.name,
            versions=[version for _, version in self._versions(request.name, request.version)],
            platform=PLATFORM,
            # One datatype has to be named: the one that our own pixels have.
            inputs=[tensor(name=tensors.IMAGES, datatype="UINT8", shape=[-1, model.height * model.width])],
            outputs=[
                tensor(name=tensors.PROBABILITIES, datatype="FP32", shape=[-1, model.classes]),
                tensor(name=tensors.DIGIT, datatype="INT64", shape=[-1]),
            ],
        )

    def ModelConfig(
        self, request: pb.ModelConfigRequest, context: grpc.ServicerContext
    ) -> pb.ModelConfigResponse:
        """Describes a model as Triton does."""
        model = self._load(request.name, request.version)
        return pb.ModelConfigResponse(
            config=pb.ModelConfig(
                name=request.name,
                platform=PLATFORM,
                backend=PLATFORM,
                max_batch_size=self._limits.max_images_per_request,
                input=[
                    pb.ModelInput(
                        name=tensors.IMAGES, data_type=pb.TYPE_UINT8, dims=[model.height * model.width]
                    )
                ],
                output=[
                    pb.ModelOutput(name=tensors.PROBABILITIES, data_type=pb.TYPE_FP32, dims=[model.classes]),
                    pb.ModelOutput(name=tensors.DIGIT, data_type=pb.TYPE_INT64),
                ],
                dynamic_batching=pb.ModelDynamicBatching(),
                model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
            )
        )

    def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> pb.ModelStatisticsResponse:
        """Sums up what versions of models have been asked, of all workers."""
        if request.version and not request.name:
            raise InvalidValue("name", "", "the name of the model that version belongs to")
        counted = self._metrics.read().models
        return pb.ModelStatisticsResponse(
            model_stats=[
                _statistics(name, version, counted.get(f"models/{name}/versions/{version}", ModelCounts()))
                for name, version in self._versions(request.name, request.version)
            ]
        )

    def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> pb.RepositoryIndexResponse:
        """Lists the versions of all models."""
        if request.repository_name:
            raise NotFound("repository_name", request.repository_name, "none: there is one, without a name")
        loaded = set(self._registry.loaded())
        response = pb.RepositoryIndexResponse()
        for name, version in self._versions("", ""):
            in_memory = f"models/{name}/versions/{version}" in loaded
            if in_memory or not request.ready:
                response.models.add(name=name, version=version, state="READY" if in_memory else "")
        return response

    def _versions(self, name: str, version: str) -> list[tuple[str, str]]:
        """Returns the versions of a model by its name, of all of them without one, or the one version."""
        if not name:
            return self._registry.versions()
        parts = model_name("name", checked_name(name, version))
        found = self._registry.get(parts)
        return [(name, str(each.version)) for each in found.versions]

    def _load(self, name: str, version: str) -> Model:
        return self._registry.load(checked_name(name, version), field="name")


def _statistics(name: str, version: str, counts: ModelCounts) -> pb.ModelStatistics:
    duration = pb.StatisticDuration
    return pb.ModelStatistics(
        name=name,
        version=version,
        last_inference=counts.last // 1_000_000,
        inference_count=counts.images,
        execution_count=counts.passes,
        inference_stats=pb.InferStatistics(
            success=duration(count=counts.successes, ns=counts.success_time),
            fail=duration(count=counts.failures, ns=counts.failure_time),
            queue=duration(count=counts.successes),
            compute_input=duration(count=counts.successes),
            compute_infer=duration(count=counts.successes, ns=counts.pass_time),
            compute_output=duration(count=counts.successes),
        ),
    )
