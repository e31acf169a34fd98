"""The wire's messages as results: nothing is lost, and nothing new from a later server breaks them."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mnist_client import errors, history, resources, wire
from mnist_proto.v1 import evaluation_pb2, model_pb2, server_pb2
from mnist_proto.v1 import training_pb2 as pb

TIME = datetime(2026, 2, 3, 4, 5, 6, 700_000, tzinfo=UTC)


def fill(message: Message) -> None:
    """Gives every field outside a oneof of alternatives a value of its own."""
    fields: Any = message.DESCRIPTOR.fields
    for number, field in enumerate(fields, 1):
        oneof = field.containing_oneof
        if oneof is not None and len(oneof.fields) > 1:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            kind = field.message_type.fields_by_name["value"].type
            getattr(message, field.name)["key"] = "text" if kind == field.TYPE_STRING else number
        elif field.message_type is not None:
            part = getattr(message, field.name)
            part = part.add() if field.is_repeated else part
            if isinstance(part, Timestamp):
                part.FromDatetime(TIME)
            else:
                part.SetInParent()
                fill(part)
        else:
            value = _value(field, number)
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def _value(field: FieldDescriptor, number: int) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.type == field.TYPE_STRING:
        return f"{field.name} {number}"
    if field.type == field.TYPE_BYTES:
        return bytes([number])
    if field.type == field.TYPE_BOOL:
        return True
    return number


def assert_same(message: Message, result: Any, renamed: dict[str, str] | None = None) -> None:
    """Every field of the message stands in the result, under its own name or the one it was given."""
    for field, value in message.ListFields():
        found = getattr(result, (renamed or {}).get(field.name, field.name))
        if isinstance(value, Timestamp):
            assert found == TIME, field.name
        elif field.enum_type is not None:
            assert field.enum_type.values_by_number[value].name.lower().endswith(found.lower()), field.name
        elif field.message_type is None and not field.is_repeated:
            assert found == value, field.name
        else:
            assert found, field.name


def test_every_field_of_a_configuration_arrives() -> None:
    resolved = pb.ResolvedConfig()
    fill(resolved)
    resolved.config.hidden_layers.sizes[:] = [30, 20]
    config = wire.to_config(resolved)
    assert_same(resolved, config, {"config": "hyperparameters"})
    assert_same(resolved.config, config.hyperparameters)
    assert_same(resolved.environment, config.environment)
    assert config.hyperparameters.hidden_layers == (30, 20)
    assert config.hyperparameters.loss == "cross_entropy"
    assert config.hyperparameters.activation == "relu"
    assert config.layer_sizes == tuple(resolved.layer_sizes)


def test_what_is_absent_is_none() -> None:
    config = wire.to_config(pb.ResolvedConfig(config=pb.TrainingConfig(seed=0)))
    assert config.hyperparameters.patience is None
    assert config.hyperparameters.validation_images is None
    assert config.hyperparameters.hidden_layers == ()
    job = wire.to_job(pb.TrainingJob(name="jobs/a", state=pb.JOB_STATE_QUEUED))
    assert (job.start_time, job.end_time, job.last_epoch, job.model_version, job.reason) == (None,) * 5
    assert job.state == "QUEUED"


def test_every_field_of_a_job_arrives() -> None:
    message = pb.TrainingJob()
    fill(message)
    job = wire.to_job(message)
    assert_same(message, job)
    assert job.last_epoch is not None
    assert_same(message.last_epoch, job.last_epoch)
    assert job.state == "PAUSED"


def test_every_state_has_its_word() -> None:
    words = [wire.to_job(pb.TrainingJob(state=state)).state for state in pb.JobState.values() if state]
    assert words == ["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "PAUSED"]


def test_every_field_of_a_model_arrives() -> None:
    message = model_pb2.Model()
    fill(message)
    model = wire.to_model(message)
    assert_same(message, model)
    assert_same(message.versions[0], model.versions[0])
    assert model.aliases == dict(message.aliases)
    assert_same(message.versions[0].network, model.versions[0].network)
    assert model.versions[0].provenance == {"key": "text"}


def test_an_imported_version_has_neither_job_nor_configuration() -> None:
    version = wire.to_version(model_pb2.ModelVersion(name="models/m/versions/1"))
    assert (version.job, version.config, version.last_epoch) == (None, None, None)


def test_every_field_of_the_server_arrives() -> None:
    message = server_pb2.ServerInfo()
    fill(message)
    info = wire.to_server_info(message)
    assert_same(message, info)
    assert_same(message.limits, info.limits)
    assert len(dataclasses.fields(resources.Limits)) == len(message.limits.DESCRIPTOR.fields)


def test_every_field_of_an_evaluation_arrives() -> None:
    message = evaluation_pb2.Evaluation()
    fill(message)
    message.classes = 2
    message.confusion_matrix[:] = [1, 2, 3, 4]
    message.height, message.width, message.mistakes[0].image = 2, 3, b"abcdef"
    evaluation = wire.to_evaluation(message)
    for field in ("classes", "height", "width"):
        message.ClearField(field)
    renamed = {"expected_calibration_error": "ece", "confusion_matrix": "per_class"}
    assert_same(message, evaluation, renamed)
    np.testing.assert_array_equal(evaluation.confusion_matrix, [[1, 2], [3, 4]])
    assert evaluation.ece == message.expected_calibration_error
    assert_same(message.per_class[0], evaluation.per_class[0])
    image = evaluation.mistakes[0].image
    assert image is not None
    assert (image.shape, image.tobytes()) == ((2, 3), b"abcdef")
    message.mistakes[0].ClearField("image")
    assert_same(message.mistakes[0], evaluation.mistakes[0])


def test_an_image_that_makes_no_sense_is_the_servers_fault() -> None:
    mistake = evaluation_pb2.Mistake(image=b"12345")
    with pytest.raises(errors.InternalError, match="5 pixels, not 2 x 3"):
        wire.to_evaluation(evaluation_pb2.Evaluation(height=2, width=3, mistakes=[mistake]))


def test_a_confusion_matrix_that_is_not_square_is_the_servers_fault() -> None:
    with pytest.raises(errors.InternalError, match="3 counts for 2 classes"):
        wire.to_evaluation(evaluation_pb2.Evaluation(classes=2, confusion_matrix=[1, 2, 3]))


EVENTS: dict[str, Any] = {
    "accepted": history.Accepted,
    "started": history.Started,
    "epoch_finished": history.EpochFinished,
    "continued": history.Continued,
    "succeeded": history.Succeeded,
    "failed": history.Failed,
    "cancelled": history.Cancelled,
    "paused": history.Paused,
    "resumed": history.Resumed,
}
NOTICES: dict[str, Any] = {
    "progress": history.Progress,
    "heartbeat": history.Heartbeat,
    "draining": history.Draining,
}


def test_every_kind_of_event_and_notice_is_known() -> None:
    assert set(EVENTS) == {field.name for field in pb.TrainingEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    assert set(EVENTS.values()) == set(history.Event.__args__)
    assert set(NOTICES) == {
        field.name for field in pb.TrainingNotice.DESCRIPTOR.oneofs_by_name["notice"].fields
    }
    assert set(NOTICES.values()) == set(history.Notice.__args__)


@pytest.mark.parametrize("kind", EVENTS)
def test_every_field_of_an_event_arrives(kind: str) -> None:
    event = pb.TrainingEvent()
    fill(event)
    getattr(event, kind).SetInParent()
    fill(getattr(event, kind))
    for response in (pb.TrainResponse(event=event), pb.WatchTrainingResponse(event=event)):
        result: Any = wire.to_message(response)
        assert type(result) is EVENTS[kind]
        assert (result.job, result.sequence, result.time) == (event.job, event.sequence, TIME)
        assert_same(getattr(event, kind), result)


@pytest.mark.parametrize("kind", NOTICES)
def test_every_field_of_a_notice_arrives(kind: str) -> None:
    notice = pb.TrainingNotice()
    fill(notice)
    getattr(notice, kind).SetInParent()
    fill(getattr(notice, kind))
    result: Any = wire.to_message(pb.WatchTrainingResponse(notice=notice))
    assert type(result) is NOTICES[kind]
    assert (result.job, result.sequence) == (notice.job, notice.sequence)
    assert_same(getattr(notice, kind), result)


def test_an_epoch_without_a_test_has_no_counts_and_zero_is_one() -> None:
    event = pb.TrainingEvent(epoch_finished=pb.EpochFinished(validation_correct=0, validation_total=7))
    epoch = wire.to_event(event)
    assert isinstance(epoch, history.EpochFinished)
    assert (epoch.correct, epoch.total) == (None, None)
    assert (epoch.validation_correct, epoch.validation_total) == (0, 7)
    assert epoch.epoch == 0


def test_what_a_later_server_adds_does_no_harm() -> None:
    assert wire.to_event(pb.TrainingEvent(sequence=3)) is None
    assert wire.to_notice(pb.TrainingNotice(sequence=3)) is None
    assert wire.to_message(pb.WatchTrainingResponse()) is None
    config = wire.to_config(pb.ResolvedConfig(config=pb.TrainingConfig(activation=77)))  # type: ignore[arg-type]  # unknown on purpose
    assert config.hyperparameters.activation == "77"


@pytest.mark.parametrize(("status", "word"), [(0, "UNKNOWN"), (1, "SERVING"), (2, "NOT_SERVING"), (9, "9")])
def test_health_is_a_word(status: int, word: str) -> None:
    assert wire.to_health(status) == word
