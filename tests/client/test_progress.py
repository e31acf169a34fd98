import dataclasses
import math
from datetime import UTC, datetime

import pytest

from mnist_client.history import (
    Accepted,
    Cancelled,
    Continued,
    Draining,
    EpochFinished,
    Failed,
    Heartbeat,
    Paused,
    Progress,
    Resumed,
    Started,
    Succeeded,
)
from mnist_client.hyperparameters import Augmentation, Environment, Hyperparameters, ResolvedConfig
from mnist_client.progress import TrainingProgress, describe

JOB = "jobs/brave-otter"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = ResolvedConfig(
    hyperparameters=Hyperparameters(
        model="models/mnist",
        recipe="classic",
        base_model=None,
        class_names=(),
        hidden_layers=(30,),
        activation="sigmoid",
        output="sigmoid",
        loss="quadratic",
        initialization="normal",
        epochs=10,
        batch_size=10,
        learning_rate=3.0,
        weight_decay=0.0,
        momentum=0.0,
        patience=None,
        until_accuracy=None,
        time_budget=None,
        keep_best=False,
        validation_images=None,
        seed=42,
        dtype="float32",
        promote=False,
        request_id="",
        dataset="datasets/" + "ab" * 32,
    ),
    layer_sizes=(784, 30, 10),
    dataset="datasets/ab",
    train_images=60_000,
    validation_images=0,
    test_images=10_000,
    height=28,
    width=28,
    environment=Environment("0.1.0", "2.4.6", "openblas", "0.3.31", "SkylakeX", 1, "1.17.1"),
)
ACCEPTED = Accepted(job=JOB, sequence=1, time=NOW, config=CONFIG)
STARTED = Started(job=JOB, sequence=2, time=NOW)


def epoch(number: int, correct: int | None = 9000, seconds: float = 0.5, loss: float = 0.1) -> EpochFinished:
    return EpochFinished(
        job=JOB,
        sequence=3 + number,
        time=NOW,
        epoch=number,
        correct=correct,
        total=None if correct is None else 10_000,
        loss=loss,
        learning_rate=3.0,
        seconds=seconds,
        weights_hash="ab",
        validation_correct=None,
        validation_total=None,
    )


def inside(number: int, images: int) -> Progress:
    return Progress(job=JOB, sequence=2 + number, epoch=number, images=images, total_images=60_000, loss=0.2)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> TrainingProgress:
    return TrainingProgress(JOB, clock=clock)


def test_nothing_is_known_before_the_first_message(progress: TrainingProgress) -> None:
    assert progress.state == "QUEUED"
    assert progress.epochs_asked is None
    assert progress.epochs_done == 0
    assert progress.seconds_an_epoch is None
    assert progress.images_a_second is None
    assert progress.seconds_left is None
    assert progress.best is None
    assert progress.accuracies == []


def test_the_state_follows_the_events(progress: TrainingProgress) -> None:
    seen = []
    for message in (ACCEPTED, STARTED, epoch(0)):
        progress.update(message)
        seen.append(progress.state)
    assert seen == ["QUEUED", "RUNNING", "RUNNING"]


def test_a_paused_job_says_so_until_it_goes_on(progress: TrainingProgress) -> None:
    seen = []
    for message in (
        *(ACCEPTED, STARTED, epoch(0), inside(1, 100)),
        Paused(job=JOB, sequence=4, time=NOW, reason=None),
        Resumed(job=JOB, sequence=5, time=NOW, differences=()),
        Continued(job=JOB, sequence=6, time=NOW, epoch=1, skipped_checkpoints=(), differences=()),
        Paused(job=JOB, sequence=7, time=NOW, reason="numpy_version was 1, is 2"),
    ):
        progress.update(message)
        seen.append((progress.state, progress.note))
    assert seen[4:] == [
        ("PAUSED", "paused"),
        ("QUEUED", ""),
        ("RUNNING", "continued from epoch 1"),
        ("PAUSED", "numpy_version was 1, is 2"),
    ]
    assert progress.inside is None


@pytest.mark.parametrize(
    ("end", "state", "note"),
    [
        (
            Succeeded(
                job=JOB,
                sequence=9,
                time=NOW,
                model_version="models/mnist/versions/1",
                stop_reason="epochs",
                epoch=1,
            ),
            "SUCCEEDED",
            "",
        ),
        (Failed(job=JOB, sequence=9, time=NOW, reason="the disk is full"), "FAILED", "the disk is full"),
        (Cancelled(job=JOB, sequence=9, time=NOW), "CANCELLED", ""),
    ],
)
def test_an_end_is_an_end(
    progress: TrainingProgress, clock: Clock, end: Succeeded | Failed | Cancelled, state: str, note: str
) -> None:
    for message in (ACCEPTED, STARTED, epoch(0), inside(1, 100), end):
        progress.update(message)
    clock.now += 1000
    assert (progress.state, progress.note, progress.end) == (state, note, end)
    assert progress.seconds_left is None
    assert progress.silence is None


def test_speed_and_time_left_by_the_median_of_the_last_epochs(progress: TrainingProgress) -> None:
    progress.update(ACCEPTED)
    for number, seconds in enumerate([99.0, 0.4, 0.5, 0.5, 0.6, 7.0]):
        progress.update(epoch(number, seconds=seconds))
    assert progress.seconds_an_epoch == 0.5
    assert progress.images_a_second == 120_000
    assert progress.seconds_left == pytest.approx(4 * 0.5)
    progress.update(inside(6, 15_000))
    assert progress.share == 0.25
    assert progress.seconds_left == pytest.approx(3.75 * 0.5)


def test_the_first_epoch_is_judged_by_its_own_pace(progress: TrainingProgress, clock: Clock) -> None:
    progress.update(ACCEPTED)
    progress.update(STARTED)
    clock.now += 5  # the process starts: no part of the pace
    progress.update(inside(0, 6_000))
    assert progress.seconds_an_epoch is None
    clock.now += 2
    progress.update(inside(0, 18_000))
    assert progress.seconds_an_epoch == pytest.approx(2 / 12_000 * 60_000)
    assert progress.images_a_second == pytest.approx(6_000)
    assert progress.seconds_left == pytest.approx((10 - 0.3) * 10)


def test_the_best_is_the_first_of_the_most_accurate(progress: TrainingProgress) -> None:
    for number, correct in enumerate([9000, 9300, 9200, 9300]):
        progress.update(epoch(number, correct))
    assert progress.best is not None
    assert progress.best.epoch == 1


def test_without_a_test_there_is_a_loss_and_no_accuracy(progress: TrainingProgress) -> None:
    progress.update(epoch(0, None, loss=0.5))
    progress.update(epoch(1, None, loss=0.25))
    assert progress.best is None
    assert all(math.isnan(value) for value in progress.accuracies)
    assert progress.losses == [0.5, 0.25]


def test_a_watch_from_the_middle_leaves_what_it_has_not_seen_open(progress: TrainingProgress) -> None:
    progress.update(epoch(2, 9100))
    assert math.isnan(progress.accuracies[0])
    assert math.isnan(progress.accuracies[1])
    assert progress.accuracies[2] == 0.91
    assert progress.epochs_done == 3


def test_silence_is_more_than_a_heartbeat_explains(progress: TrainingProgress, clock: Clock) -> None:
    progress.update(STARTED)
    silences = []
    for seconds in (19, 11):
        clock.now += seconds
        silences.append(progress.silence)
    progress.update(Heartbeat(job=JOB, sequence=2))
    assert [*silences, progress.silence] == [None, 30, None]


def test_what_a_reader_should_know(progress: TrainingProgress) -> None:
    progress.update(epoch(0))
    progress.update(inside(1, 600))
    progress.update(Draining(job=JOB, sequence=3))
    assert "stopping" in progress.note
    progress.update(Continued(job=JOB, sequence=4, time=NOW, epoch=1, skipped_checkpoints=(), differences=()))
    assert progress.note == "continued from epoch 1"
    assert progress.share == 0.0
    progress.update(epoch(1))
    assert progress.note == ""


def test_description_of_the_classic_run() -> None:
    assert describe(CONFIG) == [
        "784-30-10 sigmoid, quadratic loss, mini-batches of 10, learning rate 3, seed 42",
        "60,000 images to learn from, 10,000 to test on",
    ]


def test_description_of_another_run() -> None:
    other = dataclasses.replace(
        CONFIG,
        hyperparameters=dataclasses.replace(
            CONFIG.hyperparameters,
            activation="relu",
            output="softmax",
            loss="cross_entropy",
            initialization="scaled",
            learning_rate=0.1,
            weight_decay=1e-4,
            momentum=0.9,
            dtype="float64",
        ),
        validation_images=5_000,
        test_images=0,
    )
    first, second = describe(other)
    assert first == (
        "784-30-10 relu and softmax, cross-entropy loss, mini-batches of 10, learning rate 0.1, "
        "weight decay 0.0001, momentum 0.9, scaled weights, float64, seed 42"
    )
    assert second == "60,000 images to learn from, 5,000 to validate on"


def test_description_of_a_convolutional_network() -> None:
    hyperparameters = dataclasses.replace(
        CONFIG.hyperparameters,
        hidden_layers=(),
        layers="20C5-P-150",
        activation="relu",
        output="softmax",
        loss="cross_entropy",
        optimizer="adamw",
        schedule="cosine",
        warm_up=0.1,
        clip_norm=2.5,
        augmentation=Augmentation(rotation=10),
    )
    config = dataclasses.replace(CONFIG, hyperparameters=hyperparameters, layer_sizes=(784, 2880, 150, 10))
    assert describe(config)[0] == (
        "784-20C5-P-150-10 relu and softmax, cross-entropy loss, mini-batches of 10, learning rate 3, adamw, "
        "cosine after warming up, gradients clipped to 2.5, images varied, seed 42"
    )


def test_description_of_a_recipe_begins_with_its_name() -> None:
    hyperparameters = dataclasses.replace(
        CONFIG.hyperparameters, recipe="best", base_model="models/mnist/versions/1"
    )
    assert describe(dataclasses.replace(CONFIG, hyperparameters=hyperparameters))[0].startswith(
        "recipe best, from models/mnist/versions/1, 784-30-10 sigmoid, "
    )


def test_description_without_hidden_layers_has_the_last_one_s_activation() -> None:
    hyperparameters = dataclasses.replace(CONFIG.hyperparameters, hidden_layers=(), output="softmax")
    linear = dataclasses.replace(CONFIG, hyperparameters=hyperparameters, layer_sizes=(784, 10))
    assert describe(linear)[0].startswith("784-10 softmax, ")
