import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from google.protobuf.duration_pb2 import Duration

import mnist_core.configuration
from mnist_core import CLASSIC, RECIPES, InvalidValue, TrainingConfig
from mnist_core.augmentation import Augmentation
from mnist_core.layer import Convolution, Dense, Dropout, MaxPool
from mnist_proto.names import parse_model
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.configuration import (
    MAX_BATCH_NEURONS,
    budget_seconds,
    check_config,
    resolve,
    training_config,
)
from mnist_server.environment import environment
from mnist_server.limits import Limits

ENUMS = {
    "activation": pb.Activation,
    "output": pb.Output,
    "loss": pb.Loss,
    "initialization": pb.Initialization,
    "dtype": pb.Dtype,
    "optimizer": pb.Optimizer,
    "schedule": pb.Schedule,
}


def resolved(
    config: pb.TrainingConfig,
    *,
    train: int = 60_000,
    validation: int = 0,
    test: int = 10_000,
    height: int = 28,
    width: int = 28,
    limits: Limits | None = None,
) -> pb.ResolvedConfig:
    counts = {"train": train, "validation": validation, "test": test}
    limits = limits or Limits()
    return resolve(
        config,
        "jobs/job-1",
        dataset_hash="ab" * 32,
        counts=counts,
        height=height,
        width=width,
        limits=limits,
    )


def test_nothing_asked_for_is_the_classic_run() -> None:
    assert training_config(pb.TrainingConfig()) == TrainingConfig()
    found = resolved(pb.TrainingConfig(seed=5))
    assert found == pb.ResolvedConfig(
        config=pb.TrainingConfig(
            model="models/job-1",
            hidden_layers=pb.HiddenLayers(sizes=[30]),
            activation=pb.ACTIVATION_SIGMOID,
            output=pb.OUTPUT_SIGMOID,
            loss=pb.LOSS_QUADRATIC,
            initialization=pb.INITIALIZATION_NORMAL,
            epochs=30,
            batch_size=10,
            learning_rate=3.0,
            weight_decay=0.0,
            momentum=0.0,
            optimizer=pb.OPTIMIZER_SGD,
            schedule=pb.SCHEDULE_CONSTANT,
            warm_up=0.0,
            seed=5,
            dtype=pb.DTYPE_FLOAT32,
            dataset="datasets/" + "ab" * 32,
            keep_best=False,
        ),
        layer_sizes=[784, 30, 10],
        dataset="datasets/" + "ab" * 32,
        train_images=60_000,
        validation_images=0,
        test_images=10_000,
        height=28,
        width=28,
        environment=environment(1),
    )
    # Absent is not zero: these two stay absent.
    assert not found.config.HasField("patience")
    assert not found.config.HasField("validation_images")
    assert not found.config.HasField("until_accuracy")
    assert not found.config.HasField("time_budget")
    assert budget_seconds(found.config) == math.inf


EVERYTHING = pb.TrainingConfig(
    dataset="datasets/" + "ab" * 32,
    model="models/mine",
    request_id="r",
    promote=True,
    hidden_layers=pb.HiddenLayers(sizes=[100, 50]),
    activation=pb.ACTIVATION_TANH,
    output=pb.OUTPUT_SOFTMAX,
    loss=pb.LOSS_CROSS_ENTROPY,
    initialization=pb.INITIALIZATION_SCALED,
    epochs=7,
    batch_size=32,
    learning_rate=0.1,
    weight_decay=1e-4,
    momentum=0.9,
    optimizer=pb.OPTIMIZER_SGD,
    schedule=pb.SCHEDULE_COSINE,
    warm_up=0.1,
    clip_norm=2.0,
    augmentation=pb.Augmentation(rotation=10, shift=1.5, elastic=24, elastic_sigma=5),
    patience=3,
    time_budget=Duration(seconds=90, nanos=500_000_000),
    until_accuracy=0.99,
    keep_best=True,
    validation_images=10_000,
    seed=2**64 - 1,
    dtype=pb.DTYPE_FLOAT64,
    recipe=CLASSIC,
)


def test_what_is_asked_for_is_what_is_resolved() -> None:
    found = resolved(EVERYTHING)
    assert found.config == EVERYTHING
    assert list(found.layer_sizes) == [784, 100, 50, 10]
    assert (found.train_images, found.validation_images, found.test_images) == (50_000, 10_000, 10_000)
    assert training_config(found.config) == TrainingConfig(
        hidden_sizes=(100, 50),
        activation="tanh",
        output="softmax",
        loss="cross_entropy",
        initialization="scaled",
        epochs=7,
        batch_size=32,
        learning_rate=0.1,
        weight_decay=1e-4,
        momentum=0.9,
        schedule="cosine",
        warm_up=0.1,
        clip_norm=2.0,
        augmentation=Augmentation(rotation=10, shift=1.5, elastic=24, elastic_sigma=5),
        patience=3,
        until_accuracy=0.99,
        keep_best=True,
        seed=2**64 - 1,
        dtype="float64",
    )
    assert budget_seconds(found.config) == 90.5


CONVOLUTIONAL = pb.TrainingConfig(
    layers=[
        pb.Layer(convolution=pb.ConvolutionLayer(features=20, size=5)),
        pb.Layer(max_pool=pb.MaxPoolLayer()),
        pb.Layer(convolution=pb.ConvolutionLayer(features=40, size=5)),
        pb.Layer(max_pool=pb.MaxPoolLayer()),
        pb.Layer(dense=pb.DenseLayer(neurons=150)),
        pb.Layer(dropout=pb.DropoutLayer(rate=0.5)),
    ],
    optimizer=pb.OPTIMIZER_ADAMW,
    learning_rate=0.003,
    batch_size=128,
    seed=1,
)


def test_layers_of_all_kinds_are_resolved() -> None:
    found = resolved(CONVOLUTIONAL)
    assert found.config.layers == CONVOLUTIONAL.layers
    assert not found.config.HasField("hidden_layers")
    assert list(found.layer_sizes) == [784, 2880, 640, 150, 10]
    assert training_config(found.config) == TrainingConfig(
        layers=(Convolution(20, 5), MaxPool(), Convolution(40, 5), MaxPool(), Dense(150), Dropout(0.5)),
        optimizer="adamw",
        learning_rate=0.003,
        batch_size=128,
        seed=1,
    )


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ([pb.Layer()], "config.layers[0]"),
        ([pb.Layer(dense=pb.DenseLayer())], "config.layers[0].neurons"),
        ([pb.Layer(convolution=pb.ConvolutionLayer(features=2, size=99))], "config.layers[0].size"),
        ([pb.Layer(dense=pb.DenseLayer(neurons=3))] * 65, "config.layers"),
        ([pb.Layer(max_pool=pb.MaxPoolLayer())], "config.layers[0]"),
        (
            [pb.Layer(dense=pb.DenseLayer(neurons=3)), pb.Layer(dropout=pb.DropoutLayer(rate=1.5))],
            "config.layers[1].rate",
        ),
    ],
)
def test_layers_that_are_none_are_refused_before_any_image(layers: list[pb.Layer], field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        check_config(pb.TrainingConfig(layers=layers))
    assert caught.value.field == field


def test_layers_are_given_in_one_way() -> None:
    both = pb.TrainingConfig(hidden_layers=pb.HiddenLayers(sizes=[30]), layers=CONVOLUTIONAL.layers)
    with pytest.raises(InvalidValue, match="none beside hidden_layers") as caught:
        check_config(both)
    assert caught.value.field == "config.layers"


def test_layers_that_do_not_fit_the_images_or_the_server_are_refused() -> None:
    with pytest.raises(InvalidValue, match="4 x 4 come in, 6 x 6 are needed") as caught:
        resolved(CONVOLUTIONAL, height=12, width=12)
    assert caught.value.field == "config.layers[2].size"
    with pytest.raises(InvalidValue, match="at most 118219 parameters, not 118220") as caught:
        resolved(CONVOLUTIONAL, limits=Limits(max_parameters=118_219))
    assert caught.value.field == "config.layers"


def test_what_augmentation_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_config(pb.TrainingConfig(augmentation=pb.Augmentation(rotation=181)))
    assert caught.value.field == "config.augmentation.rotation"


@pytest.mark.parametrize("config", [pb.TrainingConfig(), EVERYTHING, CONVOLUTIONAL])
def test_resolving_what_was_resolved_changes_nothing(config: pb.TrainingConfig) -> None:
    once = resolved(config)
    assert resolved(once.config) == once


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_a_recipe_is_resolved_whole_and_what_is_present_goes_before_it(recipe: str) -> None:
    known = RECIPES[recipe]
    asked = pb.TrainingConfig(recipe=recipe, seed=known.seed)
    assert training_config(asked) == known
    found = resolved(asked)
    assert found.config.recipe == recipe
    # The recipe may change with the code: what was resolved says all by itself.
    alone = pb.TrainingConfig()
    alone.CopyFrom(found.config)
    alone.ClearField("recipe")
    assert training_config(alone) == known

    asked.epochs, asked.hidden_layers.sizes[:] = 2, [5]
    assert training_config(asked) == replace(known, epochs=2, hidden_sizes=(5,), layers=None)


def test_an_unknown_recipe_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_config(pb.TrainingConfig(recipe="Quick"))
    assert caught.value.field == "config.recipe"
    assert caught.value.expected == f"one of {', '.join(RECIPES)}"


def test_present_and_zero_is_a_value() -> None:
    zeros = pb.TrainingConfig(weight_decay=0.0, momentum=0.0, seed=0, hidden_layers=pb.HiddenLayers())
    found = resolved(zeros)
    assert found.config.seed == 0
    assert list(found.layer_sizes) == [784, 10]
    assert found.config.HasField("hidden_layers")
    assert training_config(found.config).hidden_sizes == ()


@pytest.mark.parametrize("name", ENUMS)
def test_every_word_of_the_contract_is_one_of_the_networks_and_the_other_way_round(name: str) -> None:
    enum: Any = ENUMS[name]
    words = set()
    for number in enum.values():
        config = pb.TrainingConfig()
        setattr(config, name, number)
        word = getattr(training_config(config), name)
        if number:
            words.add(word)
            assert getattr(resolved(config).config, name) == number
        else:
            assert word == getattr(TrainingConfig(), name)
    assert words == set(get_args(getattr(mnist_core.configuration, name.capitalize())))


@pytest.mark.parametrize("name", ENUMS)
def test_a_number_that_is_no_word_is_refused(name: str) -> None:
    enum: Any = ENUMS[name]
    config = pb.TrainingConfig()
    setattr(config, name, 99)
    known = ", ".join(word for word, number in enum.items() if number)
    with pytest.raises(InvalidValue) as raised:
        check_config(config)
    assert str(raised.value) == f"config.{name}: 99 is not valid: expected one of {known}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", -1),
        ("epochs", 100_001),
        ("batch_size", 0),
        ("batch_size", -(2**31)),
        ("batch_size", 2**31 - 1),
        ("until_accuracy", 0.0),
        ("until_accuracy", 1.001),
        ("until_accuracy", math.nan),
        ("learning_rate", 0.0),
        ("learning_rate", -3.0),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -1e-9),
        ("weight_decay", math.nan),
        ("weight_decay", -math.inf),
        ("momentum", -0.1),
        ("momentum", 1.0),
        ("momentum", math.nan),
        ("warm_up", -0.1),
        ("warm_up", 1.1),
        ("clip_norm", 0.0),
        ("clip_norm", math.inf),
        ("patience", 0),
        ("patience", -1),
        ("validation_images", 0),
        ("validation_images", -5),
        ("model", "mnist"),
        ("model", "models/mnist/versions/1"),
        ("model", "models/mnist/aliases/default"),
        ("model", "models/Mnist"),
        ("request_id", "r" * 129),
    ],
)
def test_a_value_out_of_its_range_is_refused_before_any_image(field: str, value: Any) -> None:
    with pytest.raises(InvalidValue) as raised:
        check_config(pb.TrainingConfig(**{field: value}))
    assert raised.value.field == f"config.{field}"
    assert raised.value.value == value or value != value
    assert str(raised.value).startswith(f"config.{field}: ")
    assert "is not valid: expected " in str(raised.value)


@pytest.mark.parametrize("budget", [Duration(), Duration(seconds=-1), Duration(nanos=-1)])
def test_a_time_budget_is_more_than_nothing(budget: Duration) -> None:
    with pytest.raises(InvalidValue, match=r"^config\.time_budget: .* expected more than 0 s$"):
        check_config(pb.TrainingConfig(time_budget=budget))
    check_config(pb.TrainingConfig(time_budget=Duration(nanos=1)))


@pytest.mark.parametrize("sizes", [[0], [-1], [30, 0], [2**31 - 1], [1] * 33, [1] * 100_000])
def test_absurd_layers_are_refused_before_any_image(sizes: list[int]) -> None:
    with pytest.raises(InvalidValue, match=r"^config\.hidden_layers\.sizes: ") as raised:
        check_config(pb.TrainingConfig(hidden_layers=pb.HiddenLayers(sizes=sizes)))
    assert len(str(raised.value)) < 500


def test_a_request_id_may_have_128_characters() -> None:
    check_config(pb.TrainingConfig(request_id="é" * 128, model="models/" + "m" * 63))


@pytest.mark.parametrize(
    ("config", "images", "message"),
    [
        (
            pb.TrainingConfig(validation_images=100),
            {"train": 100},
            "config.validation_images: 100 is not valid: expected less than 100",
        ),
        (
            pb.TrainingConfig(validation_images=10),
            {"train": 100, "validation": 1},
            "config.validation_images: 10 is not valid: "
            "expected absent, since batches were sent as VALIDATION",
        ),
        (
            pb.TrainingConfig(patience=2),
            {"train": 100},
            "config.patience: 2 is not valid: expected absent, since there is no validation split",
        ),
        (
            pb.TrainingConfig(until_accuracy=0.5),
            {},
            "config.until_accuracy: 0.5 is not valid: expected absent, since there is no validation split",
        ),
        (
            pb.TrainingConfig(keep_best=True),
            {},
            "config.keep_best: True is not valid: expected absent, since there is no validation split",
        ),
    ],
)
def test_what_does_not_fit_the_images_is_refused(
    config: pb.TrainingConfig, images: dict[str, int], message: str
) -> None:
    with pytest.raises(InvalidValue) as raised:
        resolved(config, **images)  # type: ignore[arg-type]  # all of them numbers of images
    assert str(raised.value) == message


def test_patience_reads_the_validation_split_however_it_came() -> None:
    assert resolved(pb.TrainingConfig(patience=2), validation=5).validation_images == 5
    found = resolved(pb.TrainingConfig(patience=2, validation_images=59_999))
    assert (found.train_images, found.validation_images) == (1, 59_999)


def test_a_network_has_so_many_parameters_and_no_more() -> None:
    parameters = 785 * 30 + 31 * 10
    config = pb.TrainingConfig()
    resolved(config, limits=Limits(max_parameters=parameters))
    with pytest.raises(InvalidValue) as raised:
        resolved(config, limits=Limits(max_parameters=parameters - 1))
    assert str(raised.value) == (
        f"config.hidden_layers.sizes: [30] is not valid: expected a network of at most {parameters - 1} "
        f"parameters, not {parameters}"
    )


def test_a_mini_batch_does_not_use_up_the_machines_memory() -> None:
    wide = pb.TrainingConfig(hidden_layers=pb.HiddenLayers(sizes=[25_000]), batch_size=60_000)
    with pytest.raises(InvalidValue) as raised:
        resolved(wide)
    most = MAX_BATCH_NEURONS // (784 + 25_000 + 10)
    assert str(raised.value) == (
        "config.batch_size: 60000 is not valid: "
        f"expected at most {most} with 25794 neurons, inputs among them"
    )
    wide.batch_size = most
    resolved(wide)
    wide.batch_size = 60_000
    resolved(wide, train=most)  # a mini-batch has no more images than there are
    resolved(pb.TrainingConfig(batch_size=60_000))  # the classic network, all images at once


def test_a_seed_is_drawn_where_none_is_given() -> None:
    seeds = {resolved(pb.TrainingConfig()).config.seed for _ in range(20)}
    assert len(seeds) == 20


def test_resolving_leaves_its_arguments_alone() -> None:
    config, counts = pb.TrainingConfig(validation_images=1), {"train": 5, "validation": 0, "test": 0}
    resolve(config, "jobs/job-1", dataset_hash="ab", counts=counts, height=2, width=2, limits=Limits())
    assert config == pb.TrainingConfig(validation_images=1)
    assert counts == {"train": 5, "validation": 0, "test": 0}


def test_a_model_without_a_name_is_named_after_its_job(
    make_config: Callable[..., pb.ResolvedConfig],
) -> None:
    assert parse_model(make_config("jobs/job-23456789").config.model).model == "job-23456789"
