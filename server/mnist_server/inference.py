"""Inference: the Open Inference Protocol, for clients that were written for Triton, KServe and their like."""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter_ns
from typing import NamedTuple

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from mnist_core import InvalidValue
from mnist_proto import __version__
from mnist_proto.inference import inference_pb2 as pb
from mnist_proto.inference import inference_pb2_grpc
from mnist_proto.names import is_id
from mnist_server import tensors
from mnist_server.errors import Corrupt, InvalidRequest, NotFound
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics, ModelCounts
from mnist_server.names import model_name
from mnist_server.prediction import forward
from mnist_server.recurring import Recurring
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import LATER, check_wanted
from mnist_server.status import to_status
from mnist_server.tensors import DTYPES, Asked

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
PLATFORM = "mnist_numpy"
_RAW = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
# Versions of a model that are remembered of a kind of request.
_MODELS = 8
EXTENSIONS = ("classification", "model_configuration", "model_repository", "statistics")


class _Group(NamedTuple):
    """Requests that one forward pass answers."""

    model: Model
    places: list[int]  # of each among all requests
    asked: list[Asked]
    pixels: list[bytes]


class _Inquiry:
    """What a request says, but for its pixels, and what that asks of each model: which recurs with it."""

    def __init__(self, data: bytes, message: pb.ModelInferRequest) -> None:
        self.model = _wire_name(message.model_name, message.model_version)
        self.asked: dict[str, Asked] = {}
        self._first: tuple[bytes, pb.ModelInferRequest] | None = data, message

    def message(self, data: bytes) -> pb.ModelInferRequest:
        """Returns a request of this kind parsed, of which `data` are the bytes."""
        first, self._first = self._first, None  # so that the first one's pixels are not kept
        if len(self.asked) >= _MODELS:
            self.asked.clear()
        # Another's pixels are not those of the first, which may have been left for Later.
        return first[1] if first and first[0] is data else pb.ModelInferRequest.FromString(data)


class InferenceServicer(inference_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers `inference.GRPCInferenceService`."""

    def __init__(
        self, registry: ModelRegistry, limits: Limits, metrics: Metrics, ready: Callable[[], bool]
    ) -> None:
        """`ready` says whether the server answers about models."""
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._ready = ready
        self._recurring = Recurring(_RAW, _inquire)

    def infer(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        """Answers many ModelInfer requests at once, those of one model with one forward pass: rpc.HotMethod.

        Requests of many images and those for a model that is not in memory are left for Later.
        """
        began = perf_counter_ns()
        answers: list[bytes | Exception] = [LATER] * len(requests)
        groups: dict[tuple[str, str], _Group] = {}
        for place, data in enumerate(requests):
            try:
                inquiry, pixels = self._recurring.read(data)
                model = self._registry.held(inquiry.model)
                if model is None:
                    continue
                asked = inquiry.asked.get(model.name)
                if asked is None:
                    asked, pixels = self._read(inquiry.message(data), model, began)
                    inquiry.asked[model.name] = asked
            except DecodeError:
                found = f"a message of {len(data)} bytes"
                answers[place] = InvalidRequest("request", found, "an inference.ModelInferRequest")
            except Exception as error:
                answers[place] = error
            else:
                if asked.work > model.many:
                    continue
                group = groups.get((model.name, asked.datatype))
                if group is None:
                    group = groups[model.name, asked.datatype] = _Group(model, [], [], [])
                group.places.append(place)
                group.asked.append(asked)
                group.pixels.append(pixels)
        for group in groups.values():
            try:
                group_answers = self._answer(group, began)
            except Exception as error:
                group_answers = [error] * len(group.places)
            for place, answer in zip(group.places, group_answers, strict=True):
                answers[place] = answer
        return answers

    def ModelInfer(
        self, request: pb.ModelInferRequest, context: grpc.ServicerContext
    ) -> pb.ModelInferResponse:
        """Names the digits of one request, however long it takes."""
        return pb.ModelInferResponse.FromString(self._infer(request, context))

    def ModelStreamInfer(
        self, request_iterator: Iterator[pb.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ModelStreamInferResponse]:
        """Names the digits of many requests, in their order; a bad one gets an error of its own."""
        for request in request_iterator:
            try:
                answer = pb.ModelInferResponse.FromString(self._infer(request, context))
                answer.parameters["triton_final_response"].bool_param = True
                yield pb.ModelStreamInferResponse(infer_response=answer)
            except grpc.RpcError:
                raise
            except Exception as error:
                yield pb.ModelStreamInferResponse(
                    error_message=to_status(error).message,
                    infer_response=pb.ModelInferResponse(id=request.id),
                )

    def _infer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        began = perf_counter_ns()
        model = self._load(request.model_name, request.model_version, "model_")
        asked, pixels = self._read(request, model, began)
        [answer] = self._answer(_Group(model, [0], [asked], [pixels]), began, lambda: check_wanted(context))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _read(self, request: pb.ModelInferRequest, model: Model, began: int) -> tuple[Asked, bytes]:
        try:
            return tensors.read(request, model, self._limits)
        except InvalidValue:
            self._metrics.inference(model.name, False, 0, perf_counter_ns() - began)
            raise

    def _answer(
        self, group: _Group, began: int, before_each: Callable[[], None] | None = None
    ) -> list[bytes | Exception]:
        """Returns the answers to requests for one model with images of one datatype, by one forward pass."""
        model, places, asked, pixels = group
        joined = pixels[0] if len(pixels) == 1 else b"".join(pixels)
        images = np.frombuffer(joined, DTYPES[asked[0].datatype]).reshape(-1, model.height * model.width)
        try:
            tensors.check_range(images)
        except InvalidValue as error:
            if len(asked) == 1:
                self._metrics.inference(model.name, False, 0, perf_counter_ns() - began)
                return [error]
            # Each by itself, so that the good ones are answered.
            each = zip(places, asked, pixels, strict=True)
            return [self._answer(_Group(model, [a], [b], [c]), began)[0] for a, b, c in each]
        passing = perf_counter_ns()
        probabilities = forward(model, images, before_each)
        self._metrics.forward(model.name, len(asked), len(images), perf_counter_ns() - passing)
        return [*tensors.encode(model, probabilities, asked)]

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
        parts = model_name("name", _checked(name, version))
        found = self._registry.get(parts)
        return [(name, str(each.version)) for each in found.versions]

    def _load(self, name: str, version: str, prefix: str = "") -> Model:
        return self._registry.load(_checked(name, version, prefix), field=f"{prefix}name")


def _inquire(data: bytes) -> tuple[_Inquiry, bytes]:
    message = pb.ModelInferRequest.FromString(data)
    raw = message.raw_input_contents
    return _Inquiry(data, message), raw[0] if raw else b""


def _wire_name(name: str, version: str) -> str:
    """Returns how the registry calls a model's version, given as a number or an alias."""
    if not version:
        return f"models/{name}"
    return f"models/{name}/{'versions' if version.isdecimal() else 'aliases'}/{version}"


def _checked(name: str, version: str, prefix: str = "") -> str:
    """Returns the same, of names that may exist. Raises InvalidValue or NotFound."""
    if not name:
        raise InvalidValue(f"{prefix}name", name, "the name of a model")
    if not is_id(name):
        raise NotFound(f"{prefix}name", name, "a model's name, [a-z][a-z0-9-]{0,62}")
    whole = _wire_name(name, version)
    try:
        model_name(f"{prefix}version", whole)
    except InvalidValue:
        raise NotFound(f"{prefix}version", version, "a version's number, an alias, or nothing") from None
    return whole


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
