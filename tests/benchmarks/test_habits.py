import numpy as np
import pytest
from benchmarks.model_card import FILE
from benchmarks.pictures import habits, strokes

from mnist_core import read_model
from mnist_core.pictures.normalization import normalize


@pytest.mark.parametrize("digit", range(10))
def test_the_pretrained_model_knows_every_habit_and_displays(digit: int) -> None:
    network = read_model(FILE).network
    random = np.random.default_rng((7, digit))
    ways = [habit(random) for habit in habits.HABITS[digit] for _ in range(20)]
    ways += [habits.display(digit, random) for _ in range(20)]
    images = np.stack([normalize(strokes.draw([way], 120, 0.1, random)) for way in ways])
    named = network.predict(images).argmax(axis=1)
    assert (named == digit).mean() >= 0.95


def test_no_two_are_alike_and_the_same_seed_writes_the_same() -> None:
    first, second = (habits.way(0, np.random.default_rng(seed)) for seed in (1, 2))
    assert first != second
    assert habits.way(0, np.random.default_rng(1)) == first
