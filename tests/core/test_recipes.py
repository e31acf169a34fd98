import dataclasses

import pytest

from mnist_core import CLASSIC, RECIPES, Dataset, EpochReport, TrainingConfig, TrainingState, train


def test_the_recipe_where_none_is_named_is_the_book_s() -> None:
    assert RECIPES[CLASSIC] == TrainingConfig()


def test_the_best_one_is_small() -> None:
    assert RECIPES["best"].architecture((28, 28)).parameters <= 120_000


@pytest.mark.parametrize(
    ("recipe", "epochs", "correct"), [("quick", None, 910), ("mlp", None, 920), ("best", 3, 930)]
)
def test_recipes_learn(recipe: str, epochs: int | None, correct: int, mnist_5k: Dataset) -> None:
    config = RECIPES[recipe]
    config = dataclasses.replace(config, epochs=epochs or config.epochs)
    state = TrainingState.begin(config)
    reports = [report for report in train(state, mnist_5k, config) if isinstance(report, EpochReport)]
    assert len(reports) == config.epochs
    assert (reports[-1].correct or 0) >= correct
