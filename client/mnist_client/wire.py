"""The wire's messages as results: the one place where answers become what callers hold."""

from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mnist_client import history, resources, results
from mnist_client.errors import InternalError
from mnist_client.hyperparameters import Augmentation, Environment, Hyperparameters, ResolvedConfig
from mnist_client.layers import layers_text
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, images_pb2, model_pb2, server_pb2
from mnist_proto.v1 import training_pb2 as pb

_HEALTH = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}


def to_message(
    response: pb.TrainResponse | pb.WatchTrainingResponse,
) -> history.Event | history.Notice | None:
    """Returns the event or notice of a stream's message; None for a kind that this SDK does not know."""
    if response.WhichOneof("message") == "event":
        return to_event(response.event)
    return to_notice(response.notice)


def to_event(event: pb.TrainingEvent) -> history.Event | None:
    """Returns an entry of a job's history; None for a kind that this SDK does not know."""
    job, sequence, time = event.job, event.sequence, to_time(event.time)
    match event.WhichOneof("event"):
        case "accepted":
            config = to_config(event.accepted.config)
            return history.Accepted(job=job, sequence=sequence, time=time, config=config)
        case "started":
            return history.Started(job=job, sequence=sequence, time=time)
        case "epoch_finished":
            epoch = event.epoch_finished
            return history.EpochFinished(job=job, sequence=sequence, time=time, **_epoch_fields(epoch))
        case "continued":
            return history.Continued(
                job=job,
                sequence=sequence,
                time=time,
                epoch=event.continued.epoch,
                skipped_checkpoints=tuple(event.continued.skipped_checkpoints),
                differences=tuple(event.continued.differences),
            )
        case "succeeded":
            return history.Succeeded(
                job=job,
                sequence=sequence,
                time=time,
                model_version=event.succeeded.model_version,
                stop_reason=_word(pb.StopReason.DESCRIPTOR, event.succeeded.stop_reason, "STOP_REASON_"),
                epoch=event.succeeded.epoch,
            )
        case "failed":
            return history.Failed(job=job, sequence=sequence, time=time, reason=event.failed.reason)
        case "cancelled":
            return history.Cancelled(job=job, sequence=sequence, time=time)
        case "paused":
            reason = event.paused.reason or None
            return history.Paused(job=job, sequence=sequence, time=time, reason=reason)
        case "resumed":
            differences = tuple(event.resumed.differences)
            return history.Resumed(job=job, sequence=sequence, time=time, differences=differences)
    return None


def to_notice(notice: pb.TrainingNotice) -> history.Notice | None:
    """Returns what a stream says besides history; None for a kind that this SDK does not know."""
    job, sequence = notice.job, notice.sequence
    match notice.WhichOneof("notice"):
        case "progress":
            return history.Progress(
                job=job,
                sequence=sequence,
                epoch=notice.progress.epoch,
                images=notice.progress.images,
                total_images=notice.progress.total_images,
                loss=notice.progress.loss,
            )
        case "heartbeat":
            return history.Heartbeat(job=job, sequence=sequence)
        case "draining":
            return history.Draining(job=job, sequence=sequence)
    return None


def to_job(job: pb.TrainingJob) -> resources.Job:
    """Returns a training job."""
    return resources.Job(
        name=job.name,
        state=_word(pb.JobState.DESCRIPTOR, job.state, "JOB_STATE_").upper(),
        model=job.model,
        config=to_config(job.config),
        create_time=to_time(job.create_time),
        start_time=to_time(job.start_time) if job.HasField("start_time") else None,
        end_time=to_time(job.end_time) if job.HasField("end_time") else None,
        last_epoch=history.Epoch(**_epoch_fields(job.last_epoch)) if job.HasField("last_epoch") else None,
        last_sequence=job.last_sequence,
        model_version=job.model_version or None,
        reason=job.reason or None,
    )


def to_config(resolved: pb.ResolvedConfig) -> ResolvedConfig:
    """Returns a resolved configuration."""
    config = resolved.config
    hyperparameters = Hyperparameters(
        model=config.model,
        recipe=config.recipe or "classic",
        base_model=config.base_model or None,
        class_names=tuple(config.class_names),
        hidden_layers=tuple(config.hidden_layers.sizes),
        activation=_word(pb.Activation.DESCRIPTOR, config.activation, "ACTIVATION_"),
        output=_word(pb.Output.DESCRIPTOR, config.output, "OUTPUT_"),
        loss=_word(pb.Loss.DESCRIPTOR, config.loss, "LOSS_"),
        initialization=_word(pb.Initialization.DESCRIPTOR, config.initialization, "INITIALIZATION_"),
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        layers=layers_text(config.layers),
        optimizer=_word(pb.Optimizer.DESCRIPTOR, config.optimizer, "OPTIMIZER_"),
        schedule=_word(pb.Schedule.DESCRIPTOR, config.schedule, "SCHEDULE_"),
        warm_up=config.warm_up,
        clip_norm=config.clip_norm if config.HasField("clip_norm") else None,
        augmentation=_augmentation(config.augmentation) if config.HasField("augmentation") else None,
        patience=config.patience if config.HasField("patience") else None,
        until_accuracy=config.until_accuracy if config.HasField("until_accuracy") else None,
        time_budget=config.time_budget.ToNanoseconds() / 1e9 if config.HasField("time_budget") else None,
        keep_best=config.keep_best,
        validation_images=config.validation_images if config.HasField("validation_images") else None,
        seed=config.seed,
        dtype=_word(pb.Dtype.DESCRIPTOR, config.dtype, "DTYPE_"),
        promote=config.promote,
        request_id=config.request_id,
        dataset=config.dataset,
    )
    return ResolvedConfig(
        hyperparameters=hyperparameters,
        layer_sizes=tuple(resolved.layer_sizes),
        dataset=resolved.dataset,
        train_images=resolved.train_images,
        validation_images=resolved.validation_images,
        test_images=resolved.test_images,
        height=resolved.height,
        width=resolved.width,
        environment=_environment(resolved.environment),
    )


def to_evaluation(evaluation: evaluation_pb2.Evaluation) -> results.Evaluation:
    """Returns a judgement. Raises InternalError if the matrix is not C x C, or an image not H x W."""
    confusion = np.array(evaluation.confusion_matrix, dtype=np.int64)
    if confusion.size != evaluation.classes**2:
        message = f"a confusion matrix of {confusion.size} counts for {evaluation.classes} classes"
        raise InternalError(grpc.StatusCode.INTERNAL, message)
    return results.Evaluation(
        model=evaluation.model,
        correct=evaluation.correct,
        total=evaluation.total,
        accuracy=evaluation.accuracy,
        accuracy_low=evaluation.accuracy_low,
        accuracy_high=evaluation.accuracy_high,
        loss=evaluation.loss,
        confusion_matrix=confusion.reshape(evaluation.classes, evaluation.classes),
        per_class=tuple(
            results.ClassMetrics(each.precision, each.recall, each.f1, each.support)
            for each in evaluation.per_class
        ),
        ece=evaluation.expected_calibration_error,
        mistakes=tuple(
            results.Mistake(
                each.index,
                each.label,
                each.predicted,
                each.confidence,
                _image(each.image, evaluation.height, evaluation.width),
            )
            for each in evaluation.mistakes
        ),
        split=_word(images_pb2.Split.DESCRIPTOR, evaluation.split, "SPLIT_") if evaluation.split else None,
        class_names=tuple(evaluation.class_names),
    )


def to_stored_dataset(dataset: dataset_pb2.Dataset) -> resources.StoredDataset:
    """Returns a data set. Raises InternalError for a mean image that is not H x W."""
    return resources.StoredDataset(
        name=dataset.name,
        create_time=to_time(dataset.create_time),
        height=dataset.height,
        width=dataset.width,
        bytes=dataset.bytes,
        splits=tuple(
            resources.DatasetSplit(
                split=_word(images_pb2.Split.DESCRIPTOR, split.split, "SPLIT_"),
                images=split.images,
                class_counts=tuple(split.class_counts),
                constant_images=split.constant_images,
                mean_image=_mean_image(split, dataset.height, dataset.width),
                images_sha256=split.images_sha256,
                labels_sha256=split.labels_sha256,
            )
            for split in dataset.splits
        ),
    )


def to_model(model: model_pb2.Model) -> resources.Model:
    """Returns a model and its versions."""
    return resources.Model(
        name=model.name,
        versions=tuple(to_version(version) for version in model.versions),
        aliases=dict(model.aliases),
        etag=model.etag,
    )


def to_version(version: model_pb2.ModelVersion) -> resources.ModelVersion:
    """Returns a version of a model."""
    has_epoch = version.HasField("last_epoch")
    return resources.ModelVersion(
        name=version.name,
        version=version.version,
        create_time=to_time(version.create_time),
        job=version.job or None,
        config=to_config(version.config) if version.HasField("config") else None,
        last_epoch=history.Epoch(**_epoch_fields(version.last_epoch)) if has_epoch else None,
        parameters=version.parameters,
        weights_hash=version.weights_hash,
        network=_network(version.network),
        provenance=dict(version.provenance),
        temperature=version.temperature if version.HasField("temperature") else None,
    )


def to_server_info(info: server_pb2.ServerInfo) -> resources.ServerInfo:
    """Returns what the server says of itself."""
    return resources.ServerInfo(
        version=info.version,
        start_time=to_time(info.start_time),
        limits=resources.Limits(
            **{field.name: getattr(info.limits, field.name) for field in info.limits.DESCRIPTOR.fields}
        ),
        threads=info.threads,
        workers=info.workers,
        environment=_environment(info.environment),
        models_loaded=tuple(info.models_loaded),
    )


def to_health(status: int) -> str:
    """Returns the word of a grpc.health.v1 status."""
    return _HEALTH.get(status, str(status))


def to_time(timestamp: Timestamp) -> datetime:
    """Returns a time as an aware datetime in UTC, to the microsecond."""
    return timestamp.ToDatetime(tzinfo=UTC)


def _image(pixels: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
    if not pixels:
        return None
    if len(pixels) != height * width:
        message = f"an image of {len(pixels)} pixels, not {height} x {width}"
        raise InternalError(grpc.StatusCode.INTERNAL, message)
    return np.frombuffer(pixels, np.uint8).reshape(height, width)


def _mean_image(split: dataset_pb2.DatasetSplit, height: int, width: int) -> NDArray[np.float32] | None:
    if not split.mean_image:
        return None
    mean = np.array(split.mean_image, dtype=np.float32)
    if mean.size != height * width:
        message = f"a mean image of {mean.size} pixels for images of {height} x {width}"
        raise InternalError(grpc.StatusCode.INTERNAL, message)
    return mean.reshape(height, width)


def _network(network: model_pb2.Network) -> resources.Network:
    return resources.Network(
        layer_sizes=tuple(network.layer_sizes),
        height=network.height,
        width=network.width,
        activation=_word(pb.Activation.DESCRIPTOR, network.activation, "ACTIVATION_"),
        output=_word(pb.Output.DESCRIPTOR, network.output, "OUTPUT_"),
        loss=_word(pb.Loss.DESCRIPTOR, network.loss, "LOSS_"),
        dtype=_word(pb.Dtype.DESCRIPTOR, network.dtype, "DTYPE_"),
        layers=layers_text(network.layers),
        class_names=tuple(network.class_names),
    )


def _augmentation(augmentation: pb.Augmentation) -> Augmentation:
    return Augmentation(**{field.name: value for field, value in augmentation.ListFields()})


def _epoch_fields(epoch: pb.EpochFinished) -> dict[str, Any]:
    known: dict[str, Any] = {field.name: value for field, value in epoch.ListFields()}
    return {
        field.name: known.get(field.name, None if field.has_presence else field.default_value)
        for field in epoch.DESCRIPTOR.fields
    }


def _environment(environment: pb.Environment) -> Environment:
    return Environment(
        **{field.name: getattr(environment, field.name) for field in environment.DESCRIPTOR.fields}
    )


def _word(enum: EnumDescriptor, number: int, prefix: str) -> str:
    """A value's name without its enumeration's; its number where a newer server has more of them."""
    value = enum.values_by_number.get(number)
    return str(number) if value is None else value.name.removeprefix(prefix).lower()
