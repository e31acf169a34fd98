"""A configuration: what is asked for is what goes out, and what cannot go out is named."""

import math
import uuid
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from mnist_client.configuration import job_name, list_jobs_request, model_name, positive, training_config
from mnist_client.errors import InvalidInput
from mnist_client.hyperparameters import Augmentation
from mnist_proto.v1 import training_pb2 as pb

NOTHING: dict[str, Any] = {
    "name": None,
    "recipe": None,
    "base_model": None,
    "class_names": None,
    "hidden": None,
    "layers": None,
    "augmentation": None,
    "promote": False,
    "request_id": None,
    "activation": None,
    "output": None,
    "loss": None,
    "initialization": None,
    "optimizer": None,
    "schedule": None,
    "dtype": None,
    "validation": None,
    "time_budget": None,
}


def make(**values: Any) -> pb.TrainingConfig:
    return training_config(**{**NOTHING, **values})


def test_what_is_not_asked_for_is_absent() -> None:
    config = make()
    assert [field.name for field, _ in config.ListFields()] == ["request_id"]


def test_every_call_is_a_job_of_its_own_unless_told_otherwise() -> None:
    first, second = make().request_id, make().request_id
    assert uuid.UUID(first) != uuid.UUID(second)
    assert make(request_id="mine").request_id == "mine"


def test_everything_can_be_asked_for() -> None:
    config = make(
        name="m",
        recipe="best",
        base_model="mnist@3",
        class_names=["cat", "dog"],
        hidden=[100, 50],
        promote=True,
        request_id="r",
        activation="relu",
        output="softmax",
        loss="cross_entropy",
        initialization="scaled",
        optimizer="adamw",
        schedule="cosine",
        warm_up=0.5,
        clip_norm=1.5,
        layers="20C5-P-D0.5",
        augmentation=Augmentation(shear=0.25),
        dtype="float64",
        validation=7,
        epochs=3,
        batch_size=4,
        learning_rate=0.5,
        weight_decay=0.25,
        momentum=0.125,
        patience=2,
        until_accuracy=0.75,
        time_budget=90.5,
        keep_best=True,
        seed=2**64 - 1,
    )
    assert config == pb.TrainingConfig(
        model="models/m",
        request_id="r",
        promote=True,
        hidden_layers=pb.HiddenLayers(sizes=[100, 50]),
        activation=pb.ACTIVATION_RELU,
        output=pb.OUTPUT_SOFTMAX,
        loss=pb.LOSS_CROSS_ENTROPY,
        initialization=pb.INITIALIZATION_SCALED,
        optimizer=pb.OPTIMIZER_ADAMW,
        schedule=pb.SCHEDULE_COSINE,
        warm_up=0.5,
        clip_norm=1.5,
        layers=[
            pb.Layer(convolution=pb.ConvolutionLayer(features=20, size=5)),
            pb.Layer(max_pool=pb.MaxPoolLayer()),
            pb.Layer(dropout=pb.DropoutLayer(rate=0.5)),
        ],
        augmentation=pb.Augmentation(
            rotation=0, scale=0, shear=0.25, shift=0, elastic=0, elastic_sigma=4, thickness=0
        ),
        epochs=3,
        batch_size=4,
        learning_rate=0.5,
        weight_decay=0.25,
        momentum=0.125,
        patience=2,
        until_accuracy=0.75,
        time_budget=Duration(seconds=90, nanos=500_000_000),
        keep_best=True,
        validation_images=7,
        seed=2**64 - 1,
        dtype=pb.DTYPE_FLOAT64,
        recipe="best",
        base_model="models/mnist/versions/3",
        class_names=["cat", "dog"],
    )
    absent = {field.name for field in config.DESCRIPTOR.fields} - {
        field.name for field, _ in config.ListFields()
    }
    assert absent == {"dataset"}  # which is in train's data


@pytest.mark.parametrize("field", ["epochs", "batch_size", "seed", "learning_rate", "weight_decay"])
def test_zero_is_a_value_and_not_absence(field: str) -> None:
    config = make(**{field: 0})
    assert config.HasField(field)  # type: ignore[arg-type]  # one of the message's


@pytest.mark.parametrize(
    ("hidden", "sizes"),
    [(30, [30]), ([30], [30]), ((100, 100), [100, 100]), (np.array([5, 6]), [5, 6]), ([], []), (0, [0])],
)
def test_hidden_layers_are_a_number_or_some(hidden: Any, sizes: list[int]) -> None:
    config = make(hidden=hidden)
    assert config.HasField("hidden_layers")
    assert list(config.hidden_layers.sizes) == sizes


def test_numpy_numbers_are_numbers() -> None:
    config = make(epochs=np.int64(3), learning_rate=np.float32(0.5), seed=np.uint64(9))
    assert (config.epochs, config.learning_rate, config.seed) == (3, 0.5, 9)


def test_words_are_those_of_the_wire() -> None:
    for field in ("activation", "output", "loss", "initialization", "optimizer", "schedule", "dtype"):
        enum = pb.TrainingConfig.DESCRIPTOR.fields_by_name[field].enum_type
        assert enum is not None
        for value in enum.values:
            if value.number:
                word = value.name.removeprefix(f"{field.upper()}_").lower()
                assert getattr(make(**{field: word}), field) == value.number


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation": "swish"}, "activation: 'swish' is not valid: expected one of sigmoid, tanh, relu"),
        ({"loss": ""}, "loss: '' is not valid: expected one of quadratic, cross_entropy"),
        ({"dtype": "unspecified"}, "dtype: 'unspecified' is not valid: expected one of float32, float64"),
        ({"epochs": "3"}, "epochs: '3' is not valid: expected a whole number below 2^31"),
        ({"epochs": 2.5}, "epochs: 2.5 is not valid: expected a whole number below 2^31"),
        ({"epochs": 2**31}, "epochs: 2147483648 is not valid: expected a whole number below 2^31"),
        ({"seed": -1}, "seed: -1 is not valid: expected a whole number from 0 to 2^64 - 1"),
        ({"learning_rate": "fast"}, "learning_rate: 'fast' is not valid: expected a number"),
        ({"validation": 0.5}, "validation: 0.5 is not valid: expected a whole number below 2^31"),
        ({"hidden": "30"}, "hidden: '30' is not valid: expected a number of neurons, or one for each"),
        ({"hidden": [-3]}, r"hidden: [-3] is not valid"),
        ({"hidden": [2**31]}, "hidden: [2147483648] is not valid"),
        ({"hidden": 2.5}, "hidden: 2.5 is not valid"),
        ({"name": "My Model"}, "name: 'My Model' is not valid: expected NAME"),
    ],
)
def test_what_cannot_be_written_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        make(**values)
    assert str(raised.value).startswith(message)
    [field] = values
    assert raised.value.violations[0][0] == field
    assert raised.value.server is None


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_what_makes_no_sense_is_for_the_server_to_say(number: float) -> None:
    rate = make(learning_rate=number).learning_rate
    assert rate == number or math.isnan(rate)


def test_names_may_be_short() -> None:
    assert model_name("model", "m@3") == "models/m/versions/3"
    assert model_name("model", "models/m/aliases/a") == "models/m/aliases/a"
    assert job_name("job-1") == job_name("jobs/job-1") == "jobs/job-1"


@pytest.mark.parametrize("name", ["", "UPPER", "jobs/", "jobs/a/b", 3])
def test_a_jobs_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^name: .* is not valid: expected jobs/"):
        job_name(name)


@pytest.mark.parametrize("number", [0, -1, math.inf, math.nan])
def test_positive_numbers_are_finite_and_positive(number: float) -> None:
    assert positive("timeout", 0.5) == 0.5
    with pytest.raises(InvalidInput, match=rf"^timeout: {number} is not valid: expected more than 0$"):
        positive("timeout", number)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, 1e300, "soon"])
def test_a_time_budget_that_no_duration_can_hold_is_named(seconds: Any) -> None:
    with pytest.raises(InvalidInput, match=r"time_budget: .* seconds"):
        make(time_budget=seconds)


def test_jobs_are_asked_for_by_state_and_model() -> None:
    assert list_jobs_request((), None) == pb.ListTrainingJobsRequest()
    assert list_jobs_request("RUNNING", "m") == pb.ListTrainingJobsRequest(
        states=[pb.JOB_STATE_RUNNING], model="models/m"
    )
    assert list(list_jobs_request(["QUEUED", "PAUSED"], None).states) == [1, 6]
    for wrong in ("running", "UNSPECIFIED", "ENDED", ""):
        with pytest.raises(InvalidInput, match=r"states: .* some of QUEUED, RUNNING, "):
            list_jobs_request([wrong], None)
