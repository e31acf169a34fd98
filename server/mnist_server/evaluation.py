"""Evaluation: how good is a model on images whose labels are known, however many of them."""

from collections.abc import Iterator

import grpc

from mnist_core import Evaluation, InvalidValue
from mnist_proto.v1 import dataset_pb2, evaluation_pb2_grpc, images_pb2
from mnist_proto.v1 import evaluation_pb2 as pb
from mnist_server.data_directory import DataDirectory
from mnist_server.dataset_files import StoredSplit
from mnist_server.dataset_registry import DatasetRegistry
from mnist_server.errors import InvalidRequest
from mnist_server.images import read_batch
from mnist_server.limits import Limits
from mnist_server.names import dataset_name
from mnist_server.registry import Model, ModelRegistry
from mnist_server.rpc import Silence, check_wanted


class EvaluationServicer(evaluation_pb2_grpc.EvaluationServiceServicer):
    """Answers `mnist.v1.EvaluationService`."""

    def __init__(
        self, registry: ModelRegistry, directory: DataDirectory, datasets: DatasetRegistry, limits: Limits
    ) -> None:
        self._registry = registry
        self._directory = directory
        self._datasets = datasets
        self._limits = limits

    def Evaluate(
        self, request_iterator: Iterator[pb.EvaluateRequest], context: grpc.ServicerContext
    ) -> pb.EvaluateResponse:
        """Judges a model by the batches that follow its name, or by a data set that is stored."""
        config: pb.EvaluationConfig | None = None
        with Silence(context) as silence:
            for request in request_iterator:
                silence.heard()
                if request.WhichOneof("message") == "config":
                    if config is not None:
                        raise InvalidRequest(
                            "config", "a second configuration", "batches after the first message"
                        )
                    config = request.config
                    model = self._registry.load(config.model, field="config.model")
                    evaluation = Evaluation(model.classes, model.loss)
                elif config is None:
                    raise InvalidRequest("message", "a batch before the configuration", "config first")
                elif config.dataset:
                    raise InvalidRequest("batch", "a batch beside config.dataset", "one of the two")
                else:
                    images, labels = read_batch(request.batch, self._limits, model.classes)
                    _check_size("batch.height", images.shape[1:], model)
                    evaluation.add_images(model.network, images, labels)
        if config is None:
            raise InvalidRequest("config", "no message at all", "a configuration, then batches")
        split = images_pb2.SPLIT_UNSPECIFIED
        if config.dataset:
            split = self._add_stored(evaluation, model, config, context)
        elif not evaluation.total:
            raise InvalidRequest("batch", "no image", "at least one batch after the configuration")
        found = _to_message(evaluation, model, return_images=config.return_images)
        found.split = split
        return pb.EvaluateResponse(evaluation=found)

    def _add_stored(
        self,
        evaluation: Evaluation,
        model: Model,
        config: pb.EvaluationConfig,
        context: grpc.ServicerContext,
    ) -> images_pb2.Split.ValueType:
        """Adds the split that is asked for, and returns which it is."""
        name = dataset_name("config.dataset", config.dataset)
        with self._datasets.keeping(name) as dataset:
            _check_size("config.dataset", (dataset.height, dataset.width), model)
            split = _split(dataset, config.split)
            # What is mapped stays, even if the data set is deleted now.
            batches = StoredSplit(self._directory.dataset(name), dataset, split)
        for images, labels in batches:
            check_wanted(context)
            evaluation.add_images(model.network, images, labels)
        return split.split


def _split(dataset: dataset_pb2.Dataset, asked: images_pb2.Split.ValueType) -> dataset_pb2.DatasetSplit:
    splits = {split.split: split for split in dataset.splits}
    if asked:
        if asked not in splits:
            there = ", ".join(images_pb2.Split.Name(split) for split in splits)
            raise InvalidValue("config.split", asked, f"one that {dataset.name} has: {there}")
        return splits[asked]
    for usual in (images_pb2.SPLIT_TEST, images_pb2.SPLIT_TRAIN):
        if usual in splits:
            return splits[usual]
    return dataset.splits[0]


def _check_size(field: str, size: tuple[int, ...], model: Model) -> None:
    height, width = size
    if (height, width) != (model.height, model.width):
        raise InvalidValue(
            field,
            f"{height} x {width}",
            f"images of {model.height} x {model.width} pixels, the inputs of {model.name}",
        )


def _to_message(evaluation: Evaluation, model: Model, *, return_images: bool) -> pb.Evaluation:
    low, high = evaluation.interval
    return pb.Evaluation(
        model=model.name,
        correct=evaluation.correct,
        total=evaluation.total,
        accuracy=evaluation.accuracy,
        accuracy_low=low,
        accuracy_high=high,
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
        mistakes=[
            pb.Mistake(
                index=mistake.index,
                label=mistake.label,
                predicted=mistake.predicted,
                confidence=mistake.confidence,
                image=mistake.image.tobytes() if return_images and mistake.image is not None else b"",
            )
            for mistake in evaluation.mistakes
        ],
        height=model.height,
        width=model.width,
        class_names=model.class_names,
    )
