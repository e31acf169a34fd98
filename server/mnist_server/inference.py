"""Inference: the Open Inference Protocol's, for clients that were written for Triton, KServe and their like.

What else is in the protocol is inference_metadata's.
"""

from collections.abc import Callable, Hashable, Sequence
from time import perf_counter_ns

import grpc
import numpy as np

from mnist_core import InvalidValue
from mnist_proto.arrays import field_head
from mnist_proto.inference import inference_pb2 as pb
from mnist_proto.names import is_id
from mnist_server import tensors
from mnist_server.errors import InvalidRequest, NotFound
from mnist_server.grouping import ALONE, forward, in_groups, joined
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics
from mnist_server.names import model_name
from mnist_server.recurring import Content, Recurring, parted
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import Later, attempt, check_wanted, parser
from mnist_server.status import to_status
from mnist_server.tensors import DTYPES, Asked

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL_STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
_METHODS = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name
_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
# Each message is answered by one, which Triton's clients may ask to be told.
_FINAL = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()
_RAW = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
# Versions of a model that are remembered of a kind of request.
_MODELS = 8


# One of the requests that a forward pass answers. A plain tuple takes a tenth of a named one's time to make.
_Item = tuple[Model, Asked, Content]


class _Inquiry:
    """What a request says, but for its pixels, and what that asks of each model: which recurs with it."""

    def __init__(self, message: pb.ModelInferRequest) -> None:
        self.message = message
        self.model = _wire_name(message.model_name, message.model_version)
        self.asked: dict[str, Asked] = {}


class Inference:
    """Answers ModelInfer and ModelStreamInfer."""

    def __init__(self, registry: ModelRegistry, limits: Limits, metrics: Metrics, patience: float) -> None:
        """patience: multiply-adds of one request that those which are ready with it wait for."""
        self._patience = patience
        self._registry = registry
        self._limits = limits
        self._metrics = metrics
        self._parse = parser(_METHODS["ModelInfer"])
        self._recurring = Recurring(_RAW, lambda data: _Inquiry(self._parse(data)))

    def infer(self, requests: Sequence[bytes]) -> list[bytes | Exception]:
        """Answers many ModelInfer requests at once, those of one model with one forward pass: rpc.HotMethod.

        Requests of many images and those for a model that is not in memory are left for Later.
        """
        return in_groups(requests, self._sort, self._answer)

    def answer(self, data: bytes, context: grpc.ServicerContext) -> bytes | Exception:
        """Answers one ModelInfer request, however long it takes: rpc.HotUnary.slow."""
        rest, content = parted(data, _RAW)
        request = self._parse(rest)
        model = self._registry.load(
            checked_name(request.model_name, request.model_version, "model_"), field="model_name"
        )
        item = (model, *self._read(request, content, model))
        [answer] = self._answer([item], lambda: check_wanted(context))
        return answer

    def infer_stream(self, messages: Sequence[bytes]) -> list[bytes | Exception]:
        """Answers many messages of ModelStreamInfer at once, of whatever streams: rpc.HotStream.answer."""
        return [self._on_stream(*each) for each in zip(messages, self.infer(messages), strict=True)]

    def answer_on_stream(self, data: bytes, context: grpc.ServicerContext) -> bytes | Exception:
        """Answers one message of ModelStreamInfer, however long it takes: rpc.HotStream.slow."""
        return self._on_stream(data, attempt(lambda: self.answer(data, context)))

    def _on_stream(self, data: bytes, answer: bytes | Exception) -> bytes | Exception:
        """Returns the ModelStreamInferResponse to a message, on the wire; Later, and the error of what is no
        message, which ends the stream, as they are."""
        if isinstance(answer, bytes):
            return b"".join((field_head(_RESPONSE, len(answer) + len(_FINAL)), answer, _FINAL))
        if isinstance(answer, (Later, InvalidRequest)):
            return answer
        rest, _ = parted(data, _RAW)
        response = pb.ModelInferResponse(id=self._parse(rest).id)
        return pb.ModelStreamInferResponse(
            error_message=to_status(answer).message, infer_response=response
        ).SerializeToString()

    def _sort(self, data: bytes) -> tuple[Hashable, _Item] | None:
        """Returns the group of requests that one forward pass answers, and this one as one of them: see
        in_groups. Raises InvalidRequest, InvalidValue or NotFound."""
        inquiry, content = self._recurring.read(data)
        model = self._registry.held(inquiry.model)
        if model is None:
            return None
        asked, pixels = inquiry.asked.get(model.name), content
        if asked is None or pixels is None:
            asked, pixels = self._read(inquiry.message, content, model)
            if len(inquiry.asked) >= _MODELS:
                inquiry.asked.clear()
            inquiry.asked[model.name] = asked
        if asked.work * model.work > self._patience:
            return None
        name = (model.name, asked.datatype) if asked.images < ALONE else object()
        return name, (model, asked, pixels)

    def _read(
        self, request: pb.ModelInferRequest, content: Content | None, model: Model
    ) -> tuple[Asked, Content]:
        began = perf_counter_ns()
        raw = request.raw_input_contents if content is None else [content]
        try:
            return tensors.read(request, raw, model, self._limits)
        except InvalidValue:
            self._metrics.inference(model.name, False, 0, perf_counter_ns() - began)
            raise

    def _answer(
        self, items: list[_Item], before_each: Callable[[], None] | None = None
    ) -> list[bytes | Exception]:
        """Returns the answers to requests for one model with images of one datatype, by one forward pass."""
        began = perf_counter_ns()
        model, asked, _ = items[0]
        pixels = joined([pixels for _, _, pixels in items])
        images = np.frombuffer(pixels, DTYPES[asked.datatype]).reshape(-1, model.height * model.width)
        try:
            tensors.check_range(images)
        except InvalidValue as error:
            if len(items) == 1:
                self._metrics.inference(model.name, False, 0, perf_counter_ns() - began)
                return [error]
            # Each by itself, so that the good ones are answered.
            return [self._answer([item])[0] for item in items]
        passing = perf_counter_ns()
        probabilities = forward(model, images, before_each)
        self._metrics.forward(model.name, len(items), len(images), perf_counter_ns() - passing)
        return [*tensors.encode(model, probabilities, [asked for _, asked, _ in items])]


def _wire_name(name: str, version: str) -> str:
    """Returns how the registry calls a model's version, given as a number or an alias."""
    if not version:
        return f"models/{name}"
    return f"models/{name}/{'versions' if version.isdecimal() else 'aliases'}/{version}"


def checked_name(name: str, version: str, prefix: str = "") -> str:
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
