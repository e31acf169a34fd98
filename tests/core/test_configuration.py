import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from mnist_core import InvalidValue, TrainingConfig


def test_defaults_are_the_classic_run() -> None:
    config = TrainingConfig()
    assert config.hidden_sizes == (30,)
    assert (config.epochs, config.batch_size, config.learning_rate) == (30, 10, 3.0)
    assert (config.activation, config.output, config.loss) == ("sigmoid", "sigmoid", "quadratic")
    assert (config.initialization, config.dtype, config.patience) == ("normal", "float32", None)
    assert (config.weight_decay, config.momentum) == (0, 0)


BAD_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, -1.0, "1", None, True, [1], 1e300, 10**400]
BAD_COUNTS: list[Any] = [0, -1, 1.5, 1.0, math.nan, "3", True, [1], 2**63, 10**400]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("learning_rate", value) for value in [*BAD_NUMBERS, 0.0]],
        *[("weight_decay", value) for value in BAD_NUMBERS],
        *[("momentum", value) for value in [*BAD_NUMBERS, 1.0]],
        *[("epochs", value) for value in [*BAD_COUNTS, None, 100_001]],
        *[("batch_size", value) for value in [*BAD_COUNTS, None, 65_537]],
        *[("classes", value) for value in [*BAD_COUNTS, None, 1, 257]],
        *[("threads", value) for value in [*BAD_COUNTS, None, 1025]],
        *[("patience", value) for value in BAD_COUNTS],
        *[("seed", value) for value in (-1, 2**64, 0.0, "0", None, True)],
        *[("hidden_sizes", value) for value in (None, 30, "30", (0,), (-1,), (30.0,), (True,), (65_537,))],
        ("hidden_sizes", (30, 0)),
        ("hidden_sizes", (1,) * 33),
        *[
            (field, value)
            for field in ("activation", "output", "loss", "initialization", "dtype")
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
    assert set(config.to_dict()) == {field.name for field in dataclasses.fields(TrainingConfig)}
