import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core import (
    Dataset,
    Diverged,
    EpochReport,
    InvalidValue,
    Network,
    Progress,
    Split,
    TrainingConfig,
    TrainingState,
    evaluate,
    train,
)
from mnist_core import train as train_function
from mnist_core.descent import Descent
from mnist_core.lanes import Lanes

TINY = TrainingConfig(hidden_sizes=(4,), classes=3, epochs=4, batch_size=5)


def run(state: TrainingState, dataset: Dataset, config: TrainingConfig) -> list[EpochReport]:
    reports = [report for report in train(state, dataset, config) if isinstance(report, EpochReport)]
    return [dataclasses.replace(report, seconds=0) for report in reports]


def begin_and_run(dataset: Dataset, config: TrainingConfig) -> tuple[TrainingState, list[EpochReport]]:
    state = TrainingState.begin(config, dataset.train.inputs)
    return state, run(state, dataset, config)


def test_one_step_worked_by_hand() -> None:
    # A network [2, 1, 2], sigmoid and quadratic; one image (255, 0), x = (1, 0), of class 0, y = (1, 0).
    # Hidden: z = ln 3 * 1 + 5 * 0 + 0 = ln 3, a = 3/4.
    # Output: z = (4/3 ln 3, 0) * 3/4 = (ln 3, 0), a = (3/4, 1/2). Loss: (1/16 + 1/4) / 2 = 5/32.
    # BP1: δ = (a - y) a (1 - a) = (-1/4 * 3/16, 1/2 * 1/4) = (-3/64, 1/8).
    # BP2: δ = (4/3 ln 3 * -3/64 + 0 * 1/8) * 3/4 * 1/4 = -ln 3 / 16 * 3/16 = -3/256 ln 3.
    # BP3, BP4 with η = 64: w' = (4/3 ln 3, 0) - 64 * 3/4 δ = (4/3 ln 3 + 9/4, -6), b' = -64 δ = (3, -8),
    #                       w = (ln 3, 5) - 64 (δ, 0) = (7/4 ln 3, 5), b = 3/4 ln 3.
    ln3 = math.log(3)
    config = TrainingConfig(
        hidden_sizes=(1,), classes=2, epochs=1, batch_size=1, learning_rate=64, dtype="float64"
    )
    state = TrainingState.begin(config, image=2)
    state.network.parameters[:] = [ln3, 5, 0, 4 / 3 * ln3, 0, 0, 0]
    image = Split(np.array([[[255, 0]]], np.uint8), np.array([0], np.uint8))
    (report,) = run(state, Dataset(image), config)
    after = [7 / 4 * ln3, 5, 3 / 4 * ln3, 4 / 3 * ln3 + 9 / 4, -6, 3, -8]
    np.testing.assert_allclose(state.network.parameters, after, rtol=1e-14)
    assert report.loss == pytest.approx(5 / 32, rel=1e-14)


def textbook(
    network: Network, images: NDArray[np.uint8], labels: NDArray[Any], batches: list[Any], rate: float
) -> NDArray[np.float64]:
    """Nielsen's network.py: an example at a time, column vectors, weights (out, in), in float64."""
    weights = [layer.weights.T.astype(np.float64) for layer in network.layers]
    biases = [layer.biases.astype(np.float64)[:, None] for layer in network.layers]
    for batch in batches:
        nabla_w = [np.zeros(w.shape) for w in weights]
        nabla_b = [np.zeros(b.shape) for b in biases]
        for index in batch:
            x = images[index].reshape(-1, 1) / 255
            y = np.zeros((len(biases[-1]), 1))
            y[labels[index]] = 1
            activations = [x]
            for w, b in zip(weights, biases, strict=True):
                activations.append(1 / (1 + np.exp(-(w @ activations[-1] + b))))
            delta = (activations[-1] - y) * activations[-1] * (1 - activations[-1])
            for layer in range(len(weights) - 1, -1, -1):
                nabla_b[layer] += delta
                nabla_w[layer] += delta @ activations[layer].T
                a = activations[layer]
                delta = (weights[layer].T @ delta) * a * (1 - a)
        weights = [w - rate / len(batch) * n for w, n in zip(weights, nabla_w, strict=True)]
        biases = [b - rate / len(batch) * n for b, n in zip(biases, nabla_b, strict=True)]
    return np.concatenate([np.vstack([w.T, b.T]).ravel() for w, b in zip(weights, biases, strict=True)])


@pytest.mark.parametrize("hidden", [(30,), (20, 15), ()])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_100_mini_batches_agree_with_the_textbook(
    mnist_5k: Dataset, dtype: Any, tolerance: float, hidden: tuple[int, ...]
) -> None:
    # In one seed of ten or so, saturated neurons make float32's rounding grow to 1e-4 in these 100 steps, in
    # the plainest NumPy too; not in this one.
    images, labels = mnist_5k.train.images[:995], mnist_5k.train.labels[:995]
    config = TrainingConfig(hidden_sizes=hidden, epochs=1, dtype=dtype, seed=0)
    state = TrainingState.begin(config)
    order = copy.deepcopy(state.rng).permutation(995)
    batches = [order[start : start + 10] for start in range(0, 995, 10)]
    assert len(batches) == 100
    assert len(batches[-1]) == 5
    expected = textbook(state.network, images, labels, batches, config.learning_rate)
    before = state.network.parameters.copy()
    run(state, Dataset(Split(images, labels)), config)
    assert np.abs(state.network.parameters - before).max() > 0.1
    assert np.abs(state.network.parameters - expected).max() <= tolerance


def test_momentum_carries_the_last_step_on(synthetic: Dataset) -> None:
    # One mini-batch an epoch: the gradients are those that plain training has at the same parameters.
    config = dataclasses.replace(
        TINY, batch_size=23, epochs=1, learning_rate=0.5, momentum=0.9, dtype="float64", weight_decay=0.01
    )
    plain = dataclasses.replace(config, momentum=0.0)
    state = TrainingState.begin(config, 6)
    velocity = np.zeros_like(state.network.parameters)
    for epoch in range(3):
        twin = TrainingState(copy.deepcopy(state.network), None, copy.deepcopy(state.rng))
        before = state.network.parameters.copy()
        run(twin, synthetic, plain)
        step = twin.network.parameters - before  # -η ∇
        velocity = 0.9 * velocity + step
        run(state, synthetic, dataclasses.replace(config, epochs=epoch + 1))
        np.testing.assert_allclose(state.network.parameters, before + velocity, rtol=1e-12, atol=1e-14)


def test_weight_decay_shrinks_weights_and_not_biases(synthetic: Dataset) -> None:
    # One step from the same parameters: the difference is η λ w for weights, nothing for biases.
    config = dataclasses.replace(TINY, batch_size=23, epochs=1, dtype="float64")
    initial = TrainingState.begin(config, 6).network
    plain, _ = begin_and_run(synthetic, config)
    decayed, _ = begin_and_run(synthetic, dataclasses.replace(config, weight_decay=0.1))
    for start, one, other in zip(initial.layers, plain.network.layers, decayed.network.layers, strict=True):
        np.testing.assert_allclose(one.weights - other.weights, 3.0 * 0.1 * start.weights, rtol=1e-12)
        np.testing.assert_array_equal(one.biases, other.biases)


def test_the_same_seed_gives_the_same_bits(synthetic: Dataset) -> None:
    first, reports = begin_and_run(synthetic, TINY)
    second, again = begin_and_run(synthetic, TINY)
    other, _ = begin_and_run(synthetic, dataclasses.replace(TINY, seed=1))
    assert first.network.weights_hash() == second.network.weights_hash() != other.network.weights_hash()
    assert reports == again


def test_every_epoch_has_an_order_of_its_own() -> None:
    # With learning all but off, the loss as trained is a sum over the same examples in another order; the
    # state of the generator shows that an order was drawn.
    config = dataclasses.replace(TINY, epochs=2)
    state = TrainingState.begin(config, 6)
    orders = copy.deepcopy(state.rng)
    first, second = orders.permutation(23), orders.permutation(23)
    assert not np.array_equal(first, second)
    rng = np.random.default_rng(0)
    split = Split(rng.integers(0, 256, (23, 2, 3), np.uint8), rng.integers(0, 3, 23).astype(np.uint8))
    run(state, Dataset(split), config)
    assert state.rng.bit_generator.state == orders.bit_generator.state


def test_reports_say_what_was_measured(synthetic: Dataset) -> None:
    state, reports = begin_and_run(synthetic, TINY)
    assert synthetic.test is not None
    assert synthetic.validation is not None
    assert [report.epoch for report in reports] == [0, 1, 2, 3]
    assert [report.stop_reason for report in reports] == [None, None, None, "epochs"]
    last = reports[-1]
    assert (last.correct, last.total) == (evaluate(state.network, synthetic.test), 9)
    assert (last.validation_correct, last.validation_total) == (
        evaluate(state.network, synthetic.validation),
        8,
    )
    assert last.learning_rate == 3.0
    assert reports[-1].loss < reports[0].loss
    assert state.epoch == 4
    assert list(train(state, synthetic, TINY)) == []


def test_without_a_test_split_the_validation_split_is_reported(synthetic: Dataset) -> None:
    _, reports = begin_and_run(Dataset(synthetic.train, validation=synthetic.validation), TINY)
    assert (reports[0].correct, reports[0].total) == (reports[0].validation_correct, 8)
    _, reports = begin_and_run(Dataset(synthetic.train), TINY)
    assert {(report.correct, report.total, report.validation_correct) for report in reports} == {
        (None, None, None)
    }
    _, reports = begin_and_run(Dataset(synthetic.train, test=synthetic.test), TINY)
    assert (reports[0].total, reports[0].validation_total) == (9, None)


def test_seconds_leave_out_what_the_caller_did(synthetic: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0  # a look at the clock costs a second
        return now

    monkeypatch.setattr("mnist_core.training.time.perf_counter", clock)
    seconds = []
    for report in train(TrainingState.begin(TINY, 6), synthetic, TINY):
        now += 1000  # and the caller a quarter of an hour
        if isinstance(report, EpochReport):
            seconds.append(report.seconds)
    assert seconds == [2.0] * 4  # one for the only slice, one for what is after it


def test_progress_comes_often_and_changes_nothing(
    synthetic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, reports = begin_and_run(synthetic, TINY)
    for module in ("descent", "training"):
        monkeypatch.setattr(f"mnist_core.{module}.SLICE_WORK", 1.0)  # a mini-batch a slice
    state = TrainingState.begin(TINY, 6)
    first_epoch = []
    for report in train(state, synthetic, TINY):
        first_epoch.append(report)
        if isinstance(report, EpochReport):
            break
    progress = [report for report in first_epoch if isinstance(report, Progress)]
    assert [report.examples for report in progress[:5]] == [5, 10, 15, 20, 23]
    assert {report.total_examples for report in progress} == {23}
    assert len(progress) == 5 + 7 + 8  # then between the images that are judged
    assert progress[4].loss == pytest.approx(reports[0].loss, rel=1e-12)
    run(state, synthetic, TINY)
    assert state.network.weights_hash() == whole.network.weights_hash()


@pytest.mark.parametrize(
    ("sizes", "least", "most"), [((784, 30, 10), 2000, 20_000), ((784, 512, 512, 10), 128, 512)]
)
def test_a_slice_is_some_milliseconds_of_work(sizes: tuple[int, ...], least: int, most: int) -> None:
    config = TrainingConfig(hidden_sizes=sizes[1:-1], batch_size=128)
    split = Split(np.zeros((30_000, 28, 28), np.uint8), np.zeros(30_000, np.uint8))
    descent = Descent(TrainingState.begin(config).network, None, None, split, config, Lanes())
    assert least <= descent.slice_examples <= most
    assert descent.slice_examples % 128 == 0


def test_an_epoch_may_be_left_in_the_middle(synthetic: Dataset) -> None:
    state = TrainingState.begin(TINY, 6)
    reports = train(state, synthetic, TINY)
    assert isinstance(next(reports), Progress)
    del reports
    assert state.epoch == 0


def test_early_stopping_reads_the_validation_split_only(
    synthetic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert synthetic.validation is not None
    figures = iter([3, 5, 5, 6, 6, 4, 6, 7])  # best at epoch 3, then three without a better one
    validation = synthetic.validation.images

    def judge(network: Network, split: Split) -> int:
        return next(figures) if np.shares_memory(split.images, validation) else 9 - split.labels[0]

    monkeypatch.setattr("mnist_core.training.evaluate", judge)
    state, reports = begin_and_run(synthetic, dataclasses.replace(TINY, epochs=50, patience=3))
    assert [report.validation_correct for report in reports] == [3, 5, 5, 6, 6, 4, 6]
    assert [report.stop_reason for report in reports] == [None] * 6 + ["early_stopping"]
    assert (state.best_correct, state.epochs_without_improvement, state.epoch) == (6, 3, 7)


def test_a_target_is_reached_on_the_validation_split_only(
    synthetic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert synthetic.validation is not None
    total = len(synthetic.validation)
    figures = iter([1, 3, 2, 4, 5])
    validation = synthetic.validation.images

    def judge(network: Network, split: Split) -> int:
        return next(figures) if np.shares_memory(split.images, validation) else len(split)

    monkeypatch.setattr("mnist_core.training.evaluate", judge)
    state, reports = begin_and_run(synthetic, dataclasses.replace(TINY, epochs=50, until_accuracy=4 / total))
    assert [report.validation_correct for report in reports] == [1, 3, 2, 4]
    assert [report.stop_reason for report in reports] == [None] * 3 + ["target_accuracy"]
    assert state.stop_reason(dataclasses.replace(TINY, epochs=5, until_accuracy=4.001 / total)) is None


def test_keep_best_makes_the_network_of_the_first_best_epoch(
    synthetic: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert synthetic.validation is not None
    figures = [1, 3, 5, 5, 2, 4]
    following = iter(figures * 3)
    validation = synthetic.validation.images

    def judge(network: Network, split: Split) -> int:
        return next(following) if np.shares_memory(split.images, validation) else 0

    monkeypatch.setattr("mnist_core.training.evaluate", judge)
    best, _ = begin_and_run(synthetic, dataclasses.replace(TINY, epochs=3))
    last, _ = begin_and_run(synthetic, dataclasses.replace(TINY, epochs=6))
    following = iter(figures)
    kept, _ = begin_and_run(synthetic, dataclasses.replace(TINY, epochs=6, keep_best=True))
    network, epoch = kept.made()
    assert (network.weights_hash(), epoch) == (best.network.weights_hash(), 2)
    assert kept.network.weights_hash() == last.network.weights_hash() != network.weights_hash()
    assert last.made() == (last.network, 5)


def test_without_patience_nothing_stops_early(synthetic: Dataset) -> None:
    config = dataclasses.replace(TINY, epochs=6, learning_rate=1e-12)
    state, reports = begin_and_run(synthetic, config)
    assert state.epochs_without_improvement == 5
    assert reports[-1].stop_reason == "epochs"


def test_divergence_is_an_error_of_its_own_and_warns_of_nothing(synthetic: Dataset) -> None:
    config = dataclasses.replace(
        TINY, hidden_sizes=(8, 8), activation="relu", output="softmax", loss="cross_entropy", epochs=50
    )
    with pytest.raises(Diverged, match="diverged in epoch") as caught:
        begin_and_run(synthetic, dataclasses.replace(config, learning_rate=1e6, momentum=0.99))
    assert 0 <= caught.value.epoch < 50


def test_a_batch_larger_than_the_data_is_all_of_it(synthetic: Dataset) -> None:
    one, _ = begin_and_run(synthetic, dataclasses.replace(TINY, batch_size=23))
    other, _ = begin_and_run(synthetic, dataclasses.replace(TINY, batch_size=65_536))
    assert one.network.weights_hash() == other.network.weights_hash()


@pytest.mark.parametrize(
    ("state", "trained", "field"),
    [
        ({}, {"hidden_sizes": (5,)}, "network.sizes"),
        ({}, {"dtype": "float64"}, "network.dtype"),
        ({}, {"momentum": 0.5}, "momentum"),
        ({"momentum": 0.5}, {"momentum": 0.0}, "momentum"),
        ({"classes": 2}, {"classes": 2}, "train.labels"),
        ({"activation": "tanh"}, {"activation": "relu"}, "network.activation"),
        ({"output": "softmax"}, {"output": "sigmoid"}, "network.output"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(
    synthetic: Dataset, state: dict[str, Any], trained: dict[str, Any], field: str
) -> None:
    begun = TrainingState.begin(dataclasses.replace(TINY, **state), 6)
    with pytest.raises(InvalidValue) as caught:
        train(begun, synthetic, dataclasses.replace(TINY, **trained))
    assert caught.value.field == field


@pytest.mark.parametrize("asked", [{"patience": 1}, {"until_accuracy": 0.5}, {"keep_best": True}])
def test_what_reads_the_validation_split_needs_one(synthetic: Dataset, asked: dict[str, Any]) -> None:
    config = dataclasses.replace(TINY, **asked)
    [(name, value)] = asked.items()
    with pytest.raises(InvalidValue, match=rf"^{name}: {value} .*no validation split"):
        train(TrainingState.begin(config, 6), Dataset(synthetic.train, test=synthetic.test), config)


def test_labels_of_every_split_are_checked(synthetic: Dataset) -> None:
    assert synthetic.test is not None
    wrong = Split(synthetic.test.images, np.full(9, 3, np.uint8))
    for dataset, field in (
        (Dataset(synthetic.train, test=wrong), "test.labels"),
        (Dataset(synthetic.train, validation=wrong), "validation.labels"),
    ):
        with pytest.raises(InvalidValue, match=f"^{field}: 3 .* 0 to 2"):
            train(TrainingState.begin(TINY, 6), dataset, TINY)


@pytest.mark.parametrize(
    "config",
    [
        TrainingConfig(epochs=6),
        TrainingConfig(
            epochs=4, activation="relu", output="softmax", loss="cross_entropy", initialization="scaled",
            learning_rate=0.1, momentum=0.5, weight_decay=1e-4,
        ),
        TrainingConfig(epochs=4, activation="tanh", loss="cross_entropy", learning_rate=0.3, dtype="float64"),
    ],
    ids=["classic", "relu softmax momentum", "tanh float64"],
)  # fmt: skip
def test_learns_real_digits(mnist_5k: Dataset, config: TrainingConfig) -> None:
    _, reports = begin_and_run(mnist_5k, config)
    assert reports[-1].correct is not None
    assert reports[-1].correct >= 820


def test_learns_mnist(mnist: Dataset) -> None:
    _, reports = begin_and_run(mnist, TrainingConfig(epochs=3))
    assert reports[-1].correct is not None
    assert reports[-1].correct >= 9200
    assert reports[-1].total == 10_000


def test_is_the_packages_own() -> None:
    assert train_function is train
