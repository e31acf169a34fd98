"""Evaluation: how good is a model on images whose labels are known, however many of them."""

from collections.abc import Iterator

import grpc

from mnist_core import Evaluation, InvalidValue
from mnist_proto.v1 import evaluation_pb2 as pb
from mnist_proto.v1 import evaluation_pb2_grpc
from mnist_server.errors import InvalidRequest
from mnist_server.images import read_batch
from mnist_server.limits import Limits
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import Silence


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """Answers `mnist.v1.EvaluationService`."""

    def __init__(self, registry: ModelRegistry, limits: Limits) -> None:
        self._registry = registry
        self._limits = limits

    def Evaluate(
        self, request_iterator: Iterator[pb.EvaluateRequest], context: grpc.ServicerContext
    ) -> pb.EvaluateResponse:
        """Judges a model by the batches that follow its name."""
        model: Model | None = None
        evaluation: Evaluation | None = None
        with Silence(context) as silence:
            for request in request_iterator:
                silence.heard()
                if request.WhichOneof("message") == "config":
                    if model is not None:
                        raise InvalidRequest(
                            "config", "a second configuration", "batches after the first message"
                        )
                    model = self._registry.load(request.config.model, field="config.model")
                    evaluation = Evaluation(model.classes, model.loss)
                elif model is None or evaluation is None:
                    raise InvalidRequest("message", "a batch before the configuration", "config first")
                else:
                    self._add(evaluation, model, request)
        if model is None or evaluation is None:
            raise InvalidRequest("config", "no message at all", "a configuration, then batches")
        if not evaluation.total:
            raise InvalidRequest("batch", "no image", "at least one batch after the configuration")
        return pb.EvaluateResponse(evaluation=_to_message(evaluation, model))

    def _add(self, evaluation: Evaluation, model: Model, request: pb.EvaluateRequest) -> None:
        images, labels = read_batch(request.batch, self._limits, model.classes)
        height, width = images.shape[1:]
        if (height, width) != (model.height, model.width):
            raise InvalidValue(
                "batch.height",
                f"{height} x {width}",
                f"images of {model.height} x {model.width} pixels, the inputs of {model.name}",
            )
        evaluation.add_images(model.network, images, labels)


def _to_message(evaluation: Evaluation, model: Model) -> pb.Evaluation:
    return pb.Evaluation(
        model=model.name,
        correct=evaluation.correct,
        total=evaluation.total,
        accuracy=evaluation.accuracy,
        loss=evaluation.loss,
        classes=model.classes,
        confusion_matrix=evaluation.confusion.ravel().tolist(),
        per_class=[
            pb.ClassMetrics(precision=precision, recall=recall, f1=f1, support=support)
            for precision, recall, f1, support in zip(
                evaluation.precision, evaluation.recall, evaluation.f1, evaluation.support, strict=True
            )
        ],
        expected_calibration_error=evaluation.ece,
        mistakes=[pb.Mistake(**vars(mistake)) for mistake in evaluation.mistakes],
    )
