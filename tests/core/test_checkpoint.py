import dataclasses
import json
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from mnist_core import (
    CheckpointError,
    Dataset,
    EpochReport,
    InvalidValue,
    Network,
    TrainingConfig,
    TrainingState,
    checkpoint,
    load_checkpoint,
    load_model,
    read_model,
    save_checkpoint,
    save_model,
    train,
)
from mnist_core.augmentation import Augmentation
from mnist_core.configuration import Output
from mnist_core.layer import Convolution, Dense, Dropout, MaxPool

TINY = TrainingConfig(hidden_sizes=(3,), classes=3, epochs=6, batch_size=5, seed=3)
PROVENANCE = {"dataset": "ab" * 32, "numpy": np.__version__, "note": "naïve"}


def advance(state: TrainingState, dataset: Dataset, config: TrainingConfig, until: int) -> list[EpochReport]:
    reports = []
    for report in train(state, dataset, config):
        if isinstance(report, EpochReport):
            reports.append(dataclasses.replace(report, seconds=0))
            if state.epoch == until:
                break
    return reports


CONFIGS = {
    "plain": TINY,
    "float64": dataclasses.replace(TINY, dtype="float64"),
    "momentum": dataclasses.replace(TINY, momentum=0.9, weight_decay=0.01, learning_rate=0.1),
    "early stopping": dataclasses.replace(TINY, patience=3, learning_rate=0.01),
    "target": dataclasses.replace(TINY, until_accuracy=1.0, keep_best=True, learning_rate=0.5),
    "softmax": dataclasses.replace(
        TINY, activation="relu", output="softmax", loss="cross_entropy", learning_rate=0.1, hidden_sizes=()
    ),
    "adamw": dataclasses.replace(
        TINY, optimizer="adamw", learning_rate=0.01, schedule="cosine", warm_up=0.2, clip_norm=0.1
    ),
    "convolution": dataclasses.replace(
        TINY,
        layers=(Convolution(2, 2), Dropout(0.2), Dense(4), Dropout(0.5)),
        optimizer="adamw",
        learning_rate=0.01,
        schedule="cosine",
        augmentation=Augmentation(rotation=20, elastic=5, elastic_sigma=1, thickness=0.5),
    ),
    "dropout": dataclasses.replace(TINY, layers=(Dense(4), Dropout(0.5))),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("epoch", [1, 2])
def test_going_on_from_a_checkpoint_gives_the_same_bits(
    synthetic: Dataset, tmp_path: Path, config: TrainingConfig, epoch: int
) -> None:
    undisturbed = TrainingState.begin(config, (3, 2))
    expected = advance(undisturbed, synthetic, config, config.epochs)
    state = TrainingState.begin(config, (3, 2))
    reports = advance(state, synthetic, config, epoch)
    save_checkpoint(tmp_path / "c", state, config, PROVENANCE)
    del state
    resumed, loaded, provenance = load_checkpoint(tmp_path / "c")
    assert (loaded, provenance, resumed.epoch) == (config, PROVENANCE, epoch)
    assert reports + advance(resumed, synthetic, config, config.epochs) == expected
    assert resumed.network.weights_hash() == undisturbed.network.weights_hash()
    assert resumed.rng.bit_generator.state == undisturbed.rng.bit_generator.state
    assert resumed.stop_reason(config) == undisturbed.stop_reason(config) is not None
    counts = [
        (each.best_correct, each.validation_total, each.epochs_without_improvement)
        for each in (resumed, undisturbed)
    ]
    made = [(network.weights_hash(), epoch) for network, epoch in (resumed.made(), undisturbed.made())]
    assert made[0] == made[1]
    assert (resumed.best_parameters is not None) == config.keep_best
    assert counts[0] == counts[1]
    if config.momentum:
        assert resumed.velocity is not None
        assert undisturbed.velocity is not None
        np.testing.assert_array_equal(resumed.velocity, undisturbed.velocity)
    if config.optimizer == "adamw":
        assert resumed.moments is not None
        assert undisturbed.moments is not None
        np.testing.assert_array_equal(resumed.moments, undisturbed.moments)
        assert (resumed.moments[1] > 0).any()


def test_a_model_is_read_back_frozen(synthetic: Dataset, tmp_path: Path) -> None:
    state = TrainingState.begin(TINY, 6)
    advance(state, synthetic, TINY, 1)
    save_model(tmp_path / "m", state.network, TINY, PROVENANCE)
    network, config, provenance = load_model(tmp_path / "m")
    assert (network.sizes, config, provenance) == ((6, 3, 3), TINY, PROVENANCE)
    assert network.weights_hash() == state.network.weights_hash()
    assert not network.parameters.flags.writeable
    images = synthetic.train.images
    np.testing.assert_array_equal(network.predict(images), state.network.predict(images))


def test_a_convolutional_model_is_read_back(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, layers=(Convolution(2, 3), MaxPool(), Dense(4), Dropout(0.5)))
    state = TrainingState.begin(config, (8, 6))
    save_model(tmp_path / "m", state.network, config, PROVENANCE)
    saved = read_model(tmp_path / "m")
    assert (saved.config, saved.height, saved.width) == (config, 8, 6)
    assert saved.network.architecture == state.network.architecture
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 6), np.uint8)
    np.testing.assert_array_equal(saved.network.predict(images), state.network.predict(images))


@pytest.mark.parametrize("temperature", [1.0, 1 / 3])
def test_a_temperature_is_read_back_and_the_network_is_as_it_was(tmp_path: Path, temperature: float) -> None:
    config = dataclasses.replace(TINY, output="softmax")
    state = TrainingState.begin(config, 6)
    save_model(tmp_path / "m", state.network, config, PROVENANCE, temperature=temperature)
    saved = read_model(tmp_path / "m")
    assert saved.temperature == temperature
    assert saved.network.weights_hash() == state.network.weights_hash()


@pytest.mark.parametrize(
    ("output", "temperature"), [("softmax", 0.1), ("softmax", 5.1), ("softmax", math.nan), ("sigmoid", 2.0)]
)
def test_a_temperature_that_cannot_be_is_refused(tmp_path: Path, output: Output, temperature: float) -> None:
    config = dataclasses.replace(TINY, output=output)
    network = TrainingState.begin(config, 6).network
    save_model(tmp_path / "m", network, config, PROVENANCE, temperature=temperature)
    assert "temperature: " in refused(tmp_path / "m", (tmp_path / "m").read_bytes())


def test_files_are_safetensors_that_anyone_can_read(tmp_path: Path) -> None:
    state = TrainingState.begin(TINY, 6)
    save_checkpoint(tmp_path / "c", state, TINY, PROVENANCE)
    tensors = safetensors.numpy.load_file(tmp_path / "c")
    np.testing.assert_array_equal(tensors["parameters"], state.network.parameters)
    with safetensors.safe_open(tmp_path / "c", framework="np") as file:
        texts = file.metadata()
    assert json.loads(texts["config"])["seed"] == 3
    assert json.loads(texts["provenance"]) == PROVENANCE


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    config = TrainingConfig(hidden_sizes=(), classes=2)
    network = TrainingState.begin(config, 2).network
    save_model(tmp_path / "whole", network, config, {"dataset": "ab"})
    return (tmp_path / "whole").read_bytes()


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.why}"
    return caught.value.why


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80, 0xFF])
def test_a_flip_of_any_byte_is_found(tmp_path: Path, model: bytes, flip: int) -> None:
    for index in range(len(model)):
        damaged = bytearray(model)
        damaged[index] ^= flip
        refused(tmp_path / "m", bytes(damaged))


def test_a_file_cut_or_grown_anywhere_is_found(tmp_path: Path, model: bytes) -> None:
    for length in range(len(model)):
        refused(tmp_path / "m", model[:length])
    for more in (b"\0", b"\0" * 100):
        refused(tmp_path / "m", model + more)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 100,
        (2**60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        safetensors.numpy.save({"parameters": np.zeros(6, np.float32)}),
        safetensors.numpy.save({"parameters": np.zeros(6, np.float16)}, {"format": "mnist-grpc model 1"}),
        safetensors.numpy.save({}, {"format": "mnist-grpc model 1"}),
        pickle.dumps({"parameters": [1.0]}),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path / "m", data)


def test_a_checkpoint_is_no_model_and_a_model_no_checkpoint(tmp_path: Path) -> None:
    state = TrainingState.begin(TINY, 6)
    save_checkpoint(tmp_path / "c", state, TINY, {})
    save_model(tmp_path / "m", state.network, TINY, {})
    with pytest.raises(CheckpointError, match="'mnist-grpc checkpoint 1', not 'mnist-grpc model 1'"):
        load_model(tmp_path / "c")
    with pytest.raises(CheckpointError, match="'mnist-grpc model 1', not"):
        load_checkpoint(tmp_path / "m")


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_model(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="directory"):
        load_checkpoint(tmp_path)


def test_a_file_too_large_is_refused_before_it_is_read(
    tmp_path: Path, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse = tmp_path / "sparse"
    sparse.touch()
    os.truncate(sparse, 2**40)
    with pytest.raises(CheckpointError, match="1099511627776 bytes, more than"):
        load_model(sparse)
    monkeypatch.setattr(checkpoint, "_MAX_FILE_BYTES", len(model) - 1)
    assert "bytes, more than" in refused(tmp_path / "m", model)


def test_text_beyond_bounds_is_neither_written_nor_read(tmp_path: Path, model: bytes) -> None:
    network = TrainingState.begin(TINY, 6).network
    save_model(tmp_path / "m", network, TINY, {"note": "x" * 1_000_000})
    assert load_model(tmp_path / "m")[2] == {"note": "x" * 1_000_000}
    with pytest.raises(InvalidValue, match=r"^provenance: "):
        save_model(tmp_path / "larger", network, TINY, {"note": "x" * 1_048_576})
    assert not (tmp_path / "larger").exists()
    large = safetensors.numpy.save({}, {"format": "mnist-grpc model 1", "note": "x" * 1_048_576})
    assert "its header has 104" in refused(tmp_path / "m", large)


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({"config": "{}", "inputs": "785"}, {}),
        ({"config": "[]"}, {}),
        ({"config": '{"epochs": 0}'}, {}),
        ({"config": '{"surprise": 1}'}, {}),
        ({"config": "{" * 50_000}, {}),
        ({"inputs": "1" * 4000}, {}),
        ({"inputs": "-6"}, {}),
        ({"inputs": "six"}, {}),
        ({"provenance": "[]"}, {}),
        ({"provenance": '{"a": 1}'}, {}),
        ({"rng": "{}"}, {}),
        ({"rng": "7"}, {}),
        (
            {
                "rng": '{"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}, "has_uint32": 0, '
                '"uinteger": 0}'
            },
            {},
        ),
        ({"rng": '{"bit_generator": "MT19937", "state": {}}'}, {}),
        ({"state": '{"epoch": -1}'}, {}),
        ({"state": '{"epoch": "one"}'}, {}),
        ({"state": '{"epoch": 1, "network": 2}'}, {}),
        ({"state": "[1]"}, {}),
        ({}, {"parameters": np.full(33, np.nan, np.float32)}),
        ({}, {"parameters": np.zeros(34, np.float32)}),
        ({}, {"parameters": np.zeros(33, np.float64)}),
        ({}, {"parameters": np.zeros((3, 11), np.float32)}),
        ({}, {"velocity": np.zeros(5, np.float32)}),
        ({}, {"velocity": np.zeros(33, np.float64)}),
    ],
)
def test_a_whole_file_that_lies_is_refused(
    tmp_path: Path, changes: dict[str, str], tensors: dict[str, Any]
) -> None:
    config = dataclasses.replace(TINY, momentum=0.5)
    state = TrainingState.begin(config, 6)
    assert state.velocity is not None
    path = tmp_path / "c"
    save_checkpoint(path, state, config, {})
    good_tensors, good_texts = checkpoint._read(path, "mnist-grpc checkpoint 1")
    good_texts.pop("format")
    checkpoint._write(path, "mnist-grpc checkpoint 1", good_tensors, good_texts)
    load_checkpoint(path)  # the hostile writer's way of writing is a right one
    checkpoint._write(path, "mnist-grpc checkpoint 1", good_tensors | tensors, good_texts | changes)
    with pytest.raises(CheckpointError, match="does not describe"):
        load_checkpoint(path)


@pytest.mark.parametrize("text", ["config", "rng", "state", "inputs", "provenance", "parameters"])
def test_a_whole_file_that_lacks_something_is_refused(tmp_path: Path, text: str) -> None:
    state = TrainingState.begin(TINY, 6)
    path = tmp_path / "c"
    save_checkpoint(path, state, TINY, {})
    tensors, texts = checkpoint._read(path, "mnist-grpc checkpoint 1")
    texts.pop("format")
    (tensors if text == "parameters" else texts).pop(text)
    checkpoint._write(path, "mnist-grpc checkpoint 1", tensors, texts)
    with pytest.raises(CheckpointError, match="does not describe"):
        load_checkpoint(path)


def test_saving_again_replaces_and_a_failure_keeps_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    state = TrainingState.begin(TINY, 6)
    save_checkpoint(path, state, TINY, {"number": "1"})
    state.epoch = 1
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        save_checkpoint(path, state, TINY, {"number": "2"})
    monkeypatch.undo()
    assert load_checkpoint(path)[2] == {"number": "1"}
    save_checkpoint(path, state, TINY, {"number": "3"})
    assert load_checkpoint(path)[0].epoch == 1
    assert [each.name for each in tmp_path.iterdir()] == ["c"]


def test_networks_of_any_configuration_have_their_sizes_back(tmp_path: Path) -> None:
    config = TrainingConfig(hidden_sizes=(4, 5), classes=7, activation="tanh", output="softmax")
    network = Network.initialize(
        (6, 4, 5, 7), activation="tanh", output="softmax", rng=np.random.default_rng(0)
    )
    save_model(tmp_path / "m", network, config, {})
    loaded = load_model(tmp_path / "m")[0]
    assert (loaded.sizes, loaded.activation, loaded.output) == ((6, 4, 5, 7), "tanh", "softmax")
