"""A configuration: what a caller asks to be trained, as the wire has it; None leaves it to the server."""

import math
import operator
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TypeAlias, TypeVar

from mnist_client.errors import InvalidInput
from mnist_client.hyperparameters import Augmentation
from mnist_client.layers import parse_layers
from mnist_proto.names import expand_dataset, expand_job, expand_model
from mnist_proto.v1 import training_pb2 as pb

Hidden: TypeAlias = int | Iterable[int]
"""Neurons of the hidden layers, one number or several."""

N = TypeVar("N", int, float)
_FIELDS = pb.TrainingConfig.DESCRIPTOR.fields_by_name


def training_config(
    *,
    name: str | None,
    recipe: str | None,
    base_model: str | None,
    class_names: Sequence[str] | None,
    hidden: Hidden | None,
    layers: str | None,
    augmentation: Augmentation | None,
    promote: bool,
    request_id: str | None,
    activation: str | None,
    output: str | None,
    loss: str | None,
    initialization: str | None,
    optimizer: str | None,
    schedule: str | None,
    dtype: str | None,
    validation: int | None,
    time_budget: float | None,
    **numbers: float | None,
) -> pb.TrainingConfig:
    """Returns the configuration of a job; `numbers` are fields of TrainingConfig by name.

    Without a request id it gets a new one, so that sending it twice starts one job. Raises InvalidInput for
    what cannot be written on the wire; whether it makes sense is for the server to say.
    """
    config = pb.TrainingConfig(promote=promote, request_id=request_id or str(uuid.uuid4()))
    if name is not None:
        config.model = model_name("name", name)
    if recipe is not None:
        config.recipe = recipe
    if base_model is not None:
        config.base_model = model_name("base_model", base_model)
    if class_names is not None:
        config.class_names.extend(_texts("class_names", class_names))
    if hidden is not None:
        config.hidden_layers.SetInParent()
        config.hidden_layers.sizes.extend(_sizes(hidden))
    if layers is not None:
        config.layers.extend(parse_layers(layers))
    if augmentation is not None:
        _set_augmentation(config, augmentation)
    words = {
        "activation": activation,
        "output": output,
        "loss": loss,
        "initialization": initialization,
        "optimizer": optimizer,
        "schedule": schedule,
        "dtype": dtype,
    }
    for field, word in words.items():
        if word is not None:
            setattr(config, field, _enum(field, word))
    for parameter, number in {**numbers, "validation": validation}.items():
        if number is not None:
            _set_number(config, parameter, number)
    if time_budget is not None:
        try:
            config.time_budget.FromNanoseconds(round(time_budget * 1e9))
        except (TypeError, ValueError, OverflowError):
            raise InvalidInput.of("time_budget", repr(time_budget), "seconds, more than 0") from None
    return config


def list_jobs_request(states: Iterable[str], model: str | None) -> pb.ListTrainingJobsRequest:
    """Returns what asks for the jobs in some states, in upper case, or of one model. Raises InvalidInput."""
    request = pb.ListTrainingJobsRequest(model="" if model is None else model_name("model", model))
    for state in [states] if isinstance(states, str) else states:
        number = pb.JobState.DESCRIPTOR.values_by_name.get(f"JOB_STATE_{state}")
        if not state.isupper() or number is None or not number.number:
            words = (name.removeprefix("JOB_STATE_") for name, value in pb.JobState.items() if value)
            raise InvalidInput.of("states", repr(state), f"some of {', '.join(words)}")
        request.states.append(pb.JobState.Value(number.name))
    return request


def model_name(parameter: str, name: str) -> str:
    """Returns a model's name as the wire has it, from its shorthand too. Raises InvalidInput."""
    try:
        return expand_model(name)
    except (TypeError, ValueError):
        raise InvalidInput.of(
            parameter, repr(name), "NAME, NAME@VERSION or NAME@ALIAS, names matching [a-z][a-z0-9-]{0,62}"
        ) from None


def job_name(name: str) -> str:
    """Returns a job's name as the wire has it, from its shorthand too. Raises InvalidInput."""
    try:
        return expand_job(name)
    except (TypeError, ValueError):
        raise InvalidInput.of(
            "name", repr(name), "jobs/{j} or {j}, j matching [a-z][a-z0-9-]{0,62}"
        ) from None


def dataset_name(name: str) -> str:
    """Returns a data set's name as the wire has it, from its hash alone too. Raises InvalidInput."""
    try:
        return expand_dataset(name)
    except (TypeError, ValueError):
        expected = "datasets/{sha256} or {sha256}, 64 hexadecimal digits in lower case"
        raise InvalidInput.of("name", repr(name), expected) from None


def positive(parameter: str, number: N) -> N:
    """Returns a number that is finite and greater than 0. Raises InvalidInput."""
    if not 0 < number < math.inf:
        raise InvalidInput.of(parameter, number, "more than 0")
    return number


def _texts(parameter: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput.of(parameter, repr(texts), "a sequence of texts")
    return list(texts)


def _sizes(hidden: Hidden) -> list[int]:
    try:
        sizes = [operator.index(size) for size in ([hidden] if isinstance(hidden, int) else hidden)]
    except TypeError:
        sizes = [-1]
    if not all(0 <= size < 2**31 for size in sizes):
        raise InvalidInput.of("hidden", repr(hidden), "a number of neurons, or one for each hidden layer")
    return sizes


def _set_augmentation(config: pb.TrainingConfig, augmentation: Augmentation) -> None:
    config.augmentation.SetInParent()
    for name, value in asdict(augmentation).items():
        try:
            setattr(config.augmentation, name, value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidInput.of(f"augmentation.{name}", repr(value), "a number") from None


def _enum(field: str, word: str) -> int:
    prefix = f"{field.upper()}_"
    enum = _FIELDS[field].enum_type
    assert enum is not None  # the caller's words are those of enumerations
    values = {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
    if word not in values:
        raise InvalidInput.of(field, repr(word), f"one of {', '.join(values)}")
    return values[word]


def _set_number(config: pb.TrainingConfig, parameter: str, number: float) -> None:
    field = "validation_images" if parameter == "validation" else parameter
    try:
        setattr(config, field, number)
    except (TypeError, ValueError, OverflowError):
        descriptor = _FIELDS[field]
        expected = {
            descriptor.TYPE_INT32: "a whole number below 2^31",
            descriptor.TYPE_UINT64: "a whole number from 0 to 2^64 - 1",
        }.get(descriptor.type, "a number")
        raise InvalidInput.of(parameter, repr(number), expected) from None
