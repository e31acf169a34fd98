"""From the configuration a caller sends to the one that is resolved, and to the network's own.

Absent values are those of a recipe, without one the book's; what is present is judged as it is.
"""

import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mnist_core import CLASSIC, RECIPES, InvalidValue, TrainingConfig
from mnist_core.architecture import Architecture
from mnist_core.configuration import check_class_names
from mnist_core.threads import blas_threads
from mnist_proto.names import parse_model
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.base_model import BaseModel
from mnist_server.environment import environment
from mnist_server.layers import (
    augmentation_from_wire,
    augmentation_to_wire,
    layers_from_wire,
    layers_to_wire,
)
from mnist_server.limits import Limits

MAX_REQUEST_ID = 128
# Images a mini-batch x neurons, inputs among them: a trainer holds some three numbers for each, in memory
# that the server beside it needs too. All 60,000 images at once through 784-30-10 are below it.
MAX_BATCH_NEURONS = 2**26
_NUMBERS = (
    *("epochs", "batch_size", "learning_rate", "warm_up", "weight_decay", "momentum", "clip_norm"),
    *("patience", "until_accuracy", "keep_best", "seed"),
)
# Classes of a data set that says nothing of them.
DIGITS = 10
_NEED_VALIDATION = ("patience", "until_accuracy", "keep_best")
_ENUMS: dict[str, Any] = {
    "activation": pb.Activation,
    "output": pb.Output,
    "loss": pb.Loss,
    "initialization": pb.Initialization,
    "dtype": pb.Dtype,
    "optimizer": pb.Optimizer,
    "schedule": pb.Schedule,
}


def training_config(config: pb.TrainingConfig, base: BaseModel | None = None) -> TrainingConfig:
    """Returns the network's configuration. Raises InvalidValue, naming the field within `config`.

    How many classes there are is not said there, but with names for them.
    """
    recipe = RECIPES.get(config.recipe or CLASSIC)
    if recipe is None:
        raise InvalidValue("config.recipe", config.recipe, "one of " + ", ".join(RECIPES))
    if base is not None and not config.recipe:
        recipe = replace(base.saved.config, patience=None, until_accuracy=None, keep_best=False)
    if config.class_names:
        check_class_names("config.class_names", config.class_names)
    present = {field.name for field, _ in config.ListFields()}
    values: dict[str, Any] = {"classes": len(config.class_names)} if config.class_names else {}
    values |= {name: getattr(config, name) for name in _NUMBERS if name in present}
    if config.HasField("hidden_layers"):
        values |= {"hidden_sizes": tuple(config.hidden_layers.sizes), "layers": None}
    for name in _ENUMS:
        word = _enum_word(config, name)
        if word is not None:
            values[name] = word
    try:
        if config.layers:
            if config.HasField("hidden_layers"):
                raise InvalidValue("layers", f"{len(config.layers)} layers", "none beside hidden_layers")
            values["layers"] = layers_from_wire(config.layers)
        if config.HasField("augmentation"):
            values["augmentation"] = augmentation_from_wire(config.augmentation)
        asked = replace(recipe, **values)
        return asked if base is None else base.config(asked, set(values))
    except InvalidValue as error:
        field = "hidden_layers.sizes" if error.field == "hidden_sizes" else error.field
        raise InvalidValue(f"config.{field}", error.value, error.expected) from None


def resolved_config(resolved: pb.ResolvedConfig) -> TrainingConfig:
    """Returns the network's configuration of a job."""
    return replace(training_config(resolved.config), classes=resolved.layer_sizes[-1])


def check_config(config: pb.TrainingConfig) -> None:
    """Checks all that can be said of a configuration before its images come. Raises InvalidValue."""
    if config.model:
        _check_model(config.model)
    if len(config.request_id) > MAX_REQUEST_ID:
        raise InvalidValue("config.request_id", config.request_id, f"at most {MAX_REQUEST_ID} characters")
    if config.HasField("validation_images") and config.validation_images < 1:
        raise InvalidValue("config.validation_images", config.validation_images, "at least 1")
    if config.HasField("time_budget") and budget_seconds(config) <= 0:
        raise InvalidValue("config.time_budget", budget_seconds(config), "more than 0 s")
    if not config.base_model:  # else it depends on that, which is looked at when all has arrived
        training_config(config)


def budget_seconds(config: pb.TrainingConfig) -> float:
    """Returns the time that a job may learn and test for, infinite where none is said."""
    budget = config.time_budget
    return budget.seconds + budget.nanos / 1e9 if config.HasField("time_budget") else math.inf


def resolve(
    config: pb.TrainingConfig,
    job: str,
    *,
    dataset_hash: str,
    counts: Mapping[str, int],
    height: int,
    width: int,
    limits: Limits,
    labels: int = DIGITS,
    base: BaseModel | None = None,
) -> pb.ResolvedConfig:
    """Returns all that decides the bits of a job on these images. Raises InvalidValue.

    labels: the largest label and one. base: the model that config.base_model names.
    """
    counts = dict(counts)
    if config.HasField("validation_images"):
        held_back = config.validation_images
        if counts["validation"]:
            raise InvalidValue(
                "config.validation_images", held_back, "absent, since batches were sent as VALIDATION"
            )
        if held_back >= counts["train"]:
            raise InvalidValue("config.validation_images", held_back, f"less than {counts['train']}")
        counts["train"] -= held_back
        counts["validation"] = held_back
    seeded = pb.TrainingConfig()
    seeded.CopyFrom(config)
    if not seeded.HasField("seed"):
        seeded.seed = secrets.randbits(32)
    core, class_names = _with_classes(training_config(seeded, base), seeded, labels, base)
    if base is not None and (height, width) != (base.saved.height, base.saved.width):
        expected = f"images of {base.saved.height} x {base.saved.width} pixels, as {base.name} takes"
        raise InvalidValue("batch.height", f"{height} x {width}", expected)
    if not counts["validation"]:
        for name in _NEED_VALIDATION:
            if value := getattr(core, name):
                raise InvalidValue(f"config.{name}", value, "absent, since there is no validation split")
    architecture = _architecture(core, (height, width), limits)
    sizes = architecture.sizes
    batch_size = min(core.batch_size, counts["train"])
    if batch_size * sum(sizes) > MAX_BATCH_NEURONS:
        expected = f"at most {MAX_BATCH_NEURONS // sum(sizes)} with {sum(sizes)} neurons, inputs among them"
        raise InvalidValue("config.batch_size", core.batch_size, expected)
    resolved = pb.TrainingConfig(
        model=config.model or f"models/{job.removeprefix('jobs/')}",
        request_id=config.request_id,
        promote=config.promote,
        hidden_layers=None if core.layers is not None else pb.HiddenLayers(sizes=core.hidden_sizes),
        layers=layers_to_wire(core.layers or ()),
        activation=pb.Activation.Value(f"ACTIVATION_{core.activation.upper()}"),
        output=pb.Output.Value(f"OUTPUT_{core.output.upper()}"),
        loss=pb.Loss.Value(f"LOSS_{core.loss.upper()}"),
        initialization=pb.Initialization.Value(f"INITIALIZATION_{core.initialization.upper()}"),
        optimizer=pb.Optimizer.Value(f"OPTIMIZER_{core.optimizer.upper()}"),
        schedule=pb.Schedule.Value(f"SCHEDULE_{core.schedule.upper()}"),
        warm_up=core.warm_up,
        clip_norm=core.clip_norm,
        augmentation=augmentation_to_wire(core.augmentation),
        epochs=core.epochs,
        batch_size=core.batch_size,
        learning_rate=core.learning_rate,
        weight_decay=core.weight_decay,
        momentum=core.momentum,
        patience=core.patience,
        time_budget=config.time_budget if config.HasField("time_budget") else None,
        until_accuracy=core.until_accuracy,
        keep_best=core.keep_best,
        validation_images=config.validation_images if config.HasField("validation_images") else None,
        seed=core.seed,
        dtype=pb.Dtype.Value(f"DTYPE_{core.dtype.upper()}"),
        recipe=config.recipe,
        class_names=class_names,
        base_model="" if base is None else base.name,
        dataset=f"datasets/{dataset_hash}",
    )
    return pb.ResolvedConfig(
        config=resolved,
        layer_sizes=sizes,
        dataset=f"datasets/{dataset_hash}",
        train_images=counts["train"],
        validation_images=counts["validation"],
        test_images=counts["test"],
        height=height,
        width=width,
        environment=environment(min(blas_threads(architecture, batch_size), os.cpu_count() or 1)),
    )


def _with_classes(
    core: TrainingConfig, config: pb.TrainingConfig, labels: int, base: BaseModel | None
) -> tuple[TrainingConfig, Sequence[str]]:
    """Returns the configuration for the classes that there are, and what they are called, if anything."""
    names: Sequence[str] = config.class_names
    if names:
        if labels > len(names):
            expected = f"at least {labels}, since {labels - 1} is a label of the data set"
            raise InvalidValue("config.class_names", f"{len(names)} names", expected)
        return core, names
    if base is not None and labels <= base.saved.config.classes:
        return replace(core, classes=base.saved.config.classes), base.saved.class_names
    return replace(core, classes=max(labels, DIGITS)), ()


def _architecture(core: TrainingConfig, image: tuple[int, int], limits: Limits) -> Architecture:
    field: str
    asked: object
    if core.layers is None:
        field, asked = "hidden_layers.sizes", list(core.hidden_sizes)
    else:
        field, asked = "layers", list(core.layers)
    try:
        architecture = core.architecture(image)
    except InvalidValue as error:
        raise InvalidValue(f"config.{error.field}", error.value, error.expected) from None
    parameters = architecture.parameters
    if parameters > limits.max_parameters:
        expected = f"a network of at most {limits.max_parameters} parameters, not {parameters}"
        raise InvalidValue(f"config.{field}", asked, expected)
    return architecture


def _check_model(name: str) -> None:
    try:
        parts = parse_model(name)
    except ValueError:
        parts = None
    if parts is None or parts.version is not None or parts.alias is not None:
        raise InvalidValue("config.model", name, "models/{m}, where m matches [a-z][a-z0-9-]{0,62}")


def _enum_word(config: pb.TrainingConfig, name: str) -> str | None:
    value: int = getattr(config, name)
    enum = _ENUMS[name]
    if value not in enum.values():
        words = ", ".join(word for word, number in enum.items() if number)
        raise InvalidValue(f"config.{name}", value, f"one of {words}")
    return enum.Name(value).removeprefix(f"{name.upper()}_").lower() if value else None
