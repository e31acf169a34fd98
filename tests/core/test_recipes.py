from mnist_core import CLASSIC, RECIPES, Dataset, EpochReport, TrainingConfig, TrainingState, train


def test_the_recipe_where_none_is_named_is_the_book_s() -> None:
    assert RECIPES[CLASSIC] == TrainingConfig()


def test_quick_learns_quickly(mnist_5k: Dataset) -> None:
    config = RECIPES["quick"]
    state = TrainingState.begin(config)
    reports = [report for report in train(state, mnist_5k, config) if isinstance(report, EpochReport)]
    assert (reports[-1].correct or 0) >= 890
