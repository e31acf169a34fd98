import copy
import dataclasses
from typing import Any

import numpy as np
import pytest

from mnist_core import (
    Augmentation,
    Convolution,
    Dense,
    Dropout,
    MaxPool,
    Split,
    TrainingConfig,
    TrainingState,
    augment,
)
from mnist_core.descent import Descent
from mnist_core.lanes import Lanes
from mnist_core.minibatch import MiniBatch

LAYERS = (Convolution(3, 3), MaxPool(), Dense(6))
CONFIG = TrainingConfig(
    layers=LAYERS, classes=3, activation="relu", output="softmax", loss="cross_entropy", initialization="he",
    epochs=3, batch_size=75, learning_rate=0.5, dtype="float64", seed=8,
)  # fmt: skip


@pytest.fixture
def split() -> Split:
    rng = np.random.default_rng(61)
    return Split(rng.integers(0, 256, (160, 8, 9), np.uint8), rng.integers(0, 3, 160).astype(np.uint8))


def descend(config: TrainingConfig, split: Split, epochs: int = 1) -> TrainingState:
    state = TrainingState.begin(config, (8, 9))
    descent = Descent(state.network, state.velocity, state.moments, split, config, Lanes())
    for epoch in range(epochs):
        order = descent.begin(epoch, state.rng)
        for start in range(0, len(order), descent.slice_examples):
            descent.learn(order[start : start + descent.slice_examples])
    return state


def test_halves_and_parts_make_the_step_of_the_whole_mini_batch(split: Split) -> None:
    # 75 images: 38 and 37, by 32 and 6, 32 and 5; the last mini-batch, of 10, by 5 and 5.
    found = descend(CONFIG, split)
    state = TrainingState.begin(CONFIG, (8, 9))
    order = state.rng.permutation(160)
    rows, targets = split.images.reshape(160, -1), np.eye(3)[split.labels]
    for part in (order[:75], order[75:150], order[150:]):
        gradient = np.zeros_like(state.network.parameters)
        batch = MiniBatch(
            state.network, "cross_entropy", len(part), gradient, scale=1 / len(part), keep=1, in_numpy=True
        )
        outputs = np.empty((len(part), 3))
        batch.forward(rows[part], outputs)
        batch.backward(outputs, targets[part])
        state.network.parameters -= 0.5 * gradient
    np.testing.assert_allclose(found.network.parameters, state.network.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 2, 33, 64, 160, 1000])
def test_any_mini_batch_learns(split: Split, batch_size: int) -> None:
    config = dataclasses.replace(CONFIG, batch_size=batch_size, learning_rate=0.01)
    state = descend(config, split)
    before = TrainingState.begin(config, (8, 9)).network.parameters
    assert np.isfinite(state.network.parameters).all()
    assert (np.abs(state.network.parameters - before) > 0).mean() > 0.9


def test_a_gradient_found_whole_is_the_step_that_is_part_of_the_product(split: Split) -> None:
    # An unreachable clip_norm sends a dense network the other way.
    plain = dataclasses.replace(
        CONFIG, layers=(Dense(6),), momentum=0.5, weight_decay=0.01, learning_rate=0.1
    )
    for config in (plain, dataclasses.replace(plain, momentum=0.0)):
        one = descend(config, split, epochs=2)
        other = descend(dataclasses.replace(config, clip_norm=1e6), split, epochs=2)
        np.testing.assert_allclose(other.network.parameters, one.network.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("layers", [LAYERS, (Dense(6),)])
@pytest.mark.parametrize(
    "varied",
    [{"augmentation": Augmentation(rotation=30)}, {"layers": None}, {}],
    ids=["augmented", "dropout", "plain"],
)
def test_the_same_seed_gives_the_same_bits_and_another_others(
    split: Split, layers: Any, varied: dict[str, Any]
) -> None:
    config = dataclasses.replace(CONFIG, layers=layers, learning_rate=0.05)
    if "layers" in varied:
        varied = {"layers": (*layers, Dropout(0.5))}
    config = dataclasses.replace(config, **varied)
    first, again = descend(config, split, epochs=2), descend(config, split, epochs=2)
    assert first.network.weights_hash() == again.network.weights_hash()
    assert first.rng.bit_generator.state == again.rng.bit_generator.state
    other = descend(dataclasses.replace(config, seed=9), split, epochs=2)
    assert other.network.weights_hash() != first.network.weights_hash()


def test_what_is_learnt_from_are_the_varied_images(split: Split) -> None:
    # One mini-batch an epoch, of dense layers, by hand: each lane varies its half with a stream of its own.
    config = dataclasses.replace(
        CONFIG, layers=(Dense(6),), batch_size=160, augmentation=Augmentation(rotation=30, shift=2)
    )
    found = descend(config, split)
    state = TrainingState.begin(config, (8, 9))
    rng = copy.deepcopy(state.rng)
    order = rng.permutation(160)
    seeds = np.random.SeedSequence(int(rng.integers(2**63))).spawn(2)
    assert config.augmentation is not None
    varied = np.concatenate(
        [
            augment(split.images[half], config.augmentation, np.random.Generator(np.random.PCG64(seed)))
            for half, seed in zip((order[:80], order[80:]), seeds, strict=True)
        ]
    )
    assert not np.array_equal(varied, split.images[order])
    plain = dataclasses.replace(config, augmentation=None)
    descent = Descent(state.network, None, None, Split(varied, split.labels[order]), plain, Lanes())
    descent.learn(np.arange(160))
    np.testing.assert_allclose(found.network.parameters, state.network.parameters, rtol=1e-9, atol=1e-12)


def test_the_rate_of_every_step_is_the_schedules(split: Split) -> None:
    config = dataclasses.replace(CONFIG, batch_size=40, schedule="cosine", warm_up=0.25)  # 12 steps, 3 rising
    state = TrainingState.begin(config, (8, 9))
    descent = Descent(state.network, None, None, split, config, Lanes())
    rates = []
    for epoch in range(3):
        order = descent.begin(epoch, state.rng)
        for start in range(0, 160, 40):
            descent.learn(order[start : start + 40])
            rates.append(descent.learning_rate)
    assert rates[:4] == [0.5 / 3, 2 * 0.5 / 3, 0.5, 0.5]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_hundreds_of_images_are_varied_together() -> None:
    config = TrainingConfig(
        batch_size=128, augmentation=Augmentation(shift=1), layers=(Dense(3000), Dense(3000))
    )
    split = Split(np.zeros((3000, 28, 28), np.uint8), np.zeros(3000, np.uint8))
    descent = Descent(TrainingState.begin(config).network, None, None, split, config, Lanes())
    assert descent.slice_examples == 512
