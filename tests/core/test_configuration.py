import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from mnist_core import (
    Augmentation,
    Convolution,
    Dense,
    Dropout,
    InvalidValue,
    MaxPool,
    TrainingConfig,
)


def test_defaults_are_the_classic_run() -> None:
    config = TrainingConfig()
    assert config.hidden_sizes == (30,)
    assert (config.epochs, config.batch_size, config.learning_rate) == (30, 10, 3.0)
    assert (config.activation, config.output, config.loss) == ("sigmoid", "sigmoid", "quadratic")
    assert (config.initialization, config.dtype, config.patience) == ("normal", "float32", None)
    assert (config.weight_decay, config.momentum) == (0, 0)


BAD_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, -1.0, "1", None, True, [1], 1e300, 10**400]
NO_AUGMENTATIONS: list[Any] = ["rotation", 3, {"turn": 3}, []]
NO_LAYERS: list[Any] = ["20C5", 3, {}, (Dense(1),) * 65]
BAD_COUNTS: list[Any] = [0, -1, 1.5, 1.0, math.nan, "3", True, [1], 2**63, 10**400]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("learning_rate", value) for value in [*BAD_NUMBERS, 0.0]],
        *[("weight_decay", value) for value in BAD_NUMBERS],
        *[("momentum", value) for value in [*BAD_NUMBERS, 1.0]],
        *[("warm_up", value) for value in [*BAD_NUMBERS, 1.01]],
        *[("clip_norm", value) for value in [*BAD_NUMBERS, 0.0] if value is not None],
        *[("augmentation", value) for value in NO_AUGMENTATIONS],
        *[("layers", value) for value in NO_LAYERS],
        *[("epochs", value) for value in [*BAD_COUNTS, None, 100_001]],
        *[("batch_size", value) for value in [*BAD_COUNTS, None, 65_537]],
        *[("classes", value) for value in [*BAD_COUNTS, None, 1, 1001]],
        *[("threads", value) for value in [*BAD_COUNTS, None, 1025]],
        *[("patience", value) for value in BAD_COUNTS],
        *[("seed", value) for value in (-1, 2**64, 0.0, "0", None, True)],
        *[("hidden_sizes", value) for value in (None, 30, "30", (0,), (-1,), (30.0,), (True,), (65_537,))],
        ("hidden_sizes", (30, 0)),
        ("hidden_sizes", (1,) * 33),
        *[
            (field, value)
            for field in ("activation", "output", "loss", "initialization", "dtype", "optimizer", "schedule")
            for value in ("", "Sigmoid", "none", None, 0)
        ],
        ("output", "relu"),
        ("activation", "softmax"),
        ("dtype", "float16"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        TrainingConfig(**{field: value})
    assert caught.value.field == field
    assert caught.value.value is value
    assert caught.value.expected
    assert str(caught.value).startswith(f"{field}: ")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_sizes", ()),
        ("hidden_sizes", (1,) * 32),
        ("hidden_sizes", (65_536,)),
        ("classes", 2),
        ("classes", 256),
        ("epochs", 100_000),
        ("batch_size", 1),
        ("batch_size", 65_536),
        ("learning_rate", 1e-30),
        ("learning_rate", 1e6),
        ("weight_decay", 0.0),
        ("momentum", 0.999),
        ("warm_up", 1.0),
        ("clip_norm", 1e6),
        ("layers", ()),
        ("layers", (Dense(1),) * 64),
        ("patience", 1),
        ("seed", 2**64 - 1),
        ("dtype", "float64"),
    ],
)
def test_the_ends_of_a_range_belong_to_it(field: str, value: Any) -> None:
    assert getattr(TrainingConfig(**{field: value}), field) == value


def test_message_names_field_value_and_expectation() -> None:
    with pytest.raises(InvalidValue) as caught:
        TrainingConfig(learning_rate=-1.0)
    assert (
        str(caught.value)
        == "learning_rate: -1.0 is not valid: expected a finite number greater than 0, at most 1e6"
    )


def test_numbers_of_other_types_become_plain_ones() -> None:
    config = TrainingConfig(
        hidden_sizes=[np.int64(5), 7],  # type: ignore[arg-type]  # lists come from JSON
        epochs=np.int32(3),  # type: ignore[arg-type]
        learning_rate=np.float32(0.5),  # type: ignore[arg-type]
        momentum=0,
    )
    assert config.hidden_sizes == (5, 7)
    assert [type(each) for each in (config.hidden_sizes[0], config.epochs)] == [int, int]
    assert [type(each) for each in (config.learning_rate, config.momentum)] == [float, float]


def test_goes_through_json_and_back() -> None:
    config = TrainingConfig(hidden_sizes=(100, 50), learning_rate=0.1, patience=3, seed=2**64 - 1)
    assert TrainingConfig(**json.loads(json.dumps(config.to_dict()))) == config
    varied = dataclasses.replace(
        config,
        layers=(Convolution(20, 5), MaxPool(), Dense(30), Dropout(0.5)),
        optimizer="adamw",
        schedule="cosine",
        augmentation=Augmentation(rotation=10),
    )
    assert TrainingConfig(**json.loads(json.dumps(varied.to_dict()))) == varied
    assert set(config.to_dict()) == {field.name for field in dataclasses.fields(TrainingConfig)}


def test_what_is_wrong_inside_a_layer_or_an_augmentation_is_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        TrainingConfig(layers=[{"kind": "dense", "neurons": 0}])  # type: ignore[arg-type]  # as JSON has it
    assert caught.value.field == "layers[0].neurons"
    with pytest.raises(InvalidValue) as caught:
        TrainingConfig(augmentation={"rotation": 181})  # type: ignore[arg-type]
    assert caught.value.field == "augmentation.rotation"


def test_momentum_is_plain_descents_alone() -> None:
    with pytest.raises(InvalidValue, match="0 with adamw") as caught:
        TrainingConfig(optimizer="adamw", momentum=0.5)
    assert caught.value.field == "momentum"


def test_hidden_sizes_are_the_shorthand_of_dense_layers() -> None:
    short, long = TrainingConfig(hidden_sizes=(5, 4)), TrainingConfig(layers=(Dense(5), Dense(4)))
    assert short.architecture((2, 3)) == long.architecture((2, 3))
    assert short.architecture((2, 3)).sizes == (6, 5, 4, 10)
