import io
import math
from datetime import UTC, datetime

import pytest

pytest.importorskip("rich", reason="the live view is rich's")

from rich.console import Console

from mnist_client.history import Accepted, EpochFinished, Failed, Progress, Started, Succeeded
from mnist_client.hyperparameters import Environment, Hyperparameters, ResolvedConfig
from mnist_client.live import TrainingView, duration
from mnist_client.progress import TrainingProgress

JOB = "jobs/brave-otter"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BRAILLE = range(0x2801, 0x2900)


def accepted(epochs: int = 30) -> Accepted:
    asked = Hyperparameters(
        model="models/mnist",
        recipe="classic",
        base_model=None,
        class_names=(),
        hidden_layers=(30,),
        activation="sigmoid",
        output="sigmoid",
        loss="quadratic",
        initialization="normal",
        epochs=epochs,
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
    )
    config = ResolvedConfig(
        hyperparameters=asked,
        layer_sizes=(784, 30, 10),
        dataset="datasets/ab",
        train_images=60_000,
        validation_images=0,
        test_images=10_000,
        height=28,
        width=28,
        environment=Environment("0.1.0", "2.4.6", "openblas", "0.3.31", "SkylakeX", 1, "1.17.1"),
    )
    return Accepted(job=JOB, sequence=1, time=NOW, config=config)


def epoch(number: int, correct: int | None, loss: float, validation: int | None = None) -> EpochFinished:
    return EpochFinished(
        job=JOB,
        sequence=3 + number,
        time=NOW,
        epoch=number,
        correct=correct,
        total=None if correct is None else 10_000,
        loss=loss,
        learning_rate=3.0,
        seconds=0.5,
        weights_hash="ab",
        validation_correct=validation,
        validation_total=None if validation is None else 1_000,
    )


@pytest.fixture
def progress() -> TrainingProgress:
    """A job in the middle of its 17th epoch of 30."""
    progress = TrainingProgress(JOB)
    progress.update(accepted())
    progress.update(Started(job=JOB, sequence=2, time=NOW))
    for number in range(16):
        progress.update(epoch(number, 9500 - 500 // (number + 1), 0.03 + 0.05 / (number + 1)))
    progress.update(Progress(job=JOB, sequence=18, epoch=16, images=30_000, total_images=60_000, loss=0.03))
    return progress


def shown(progress: TrainingProgress, width: int = 100, height: int = 30) -> list[str]:
    """The lines that a console of a size shows, without colours."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(TrainingView(progress))
    return capture.get().splitlines()


def test_the_view_tells_all_there_is(progress: TrainingProgress) -> None:
    text = "\n".join(shown(progress))
    for part in (
        "jobs/brave-otter → models/mnist",
        "784-30-10 sigmoid",
        "seed 42",
        "60,000 images to learn from, 10,000 to test on",
        "Epoch 16 ",
        "50 %",
        "16 / 30",
        "Epoch 15 : 9469 / 10000",
        "94.69 %",
        "120,000 images/s",
        "0.5 s an epoch",
        "7 s left",  # 13.5 epochs
        "running",
    ):
        assert part in text
    assert "best 94.69 % in epoch 15" in text


def test_graphs_are_labelled_with_the_greatest_and_the_least(progress: TrainingProgress) -> None:
    lines = shown(progress)
    top = next(index for index, line in enumerate(lines) if "Accuracy" in line)
    rows = [line for line in lines if any(ord(character) in BRAILLE for character in line)]
    assert "Training loss" in lines[top]
    assert "94.69 %" in lines[top + 1]
    assert "0.08" in lines[top + 1]
    assert "90.00 %" in rows[-1]
    assert "0.03313" in rows[-1]


@pytest.mark.parametrize("width", [20, 35, 36, 50, 63, 64, 80, 200])
@pytest.mark.parametrize("height", [5, 14, 20, 24, 60])
def test_it_fits_any_terminal(progress: TrainingProgress, width: int, height: int) -> None:
    lines = shown(progress, width, height)
    assert all(len(line) <= width for line in lines)
    curves = any(ord(character) in BRAILLE for line in lines for character in line)
    if curves:  # nothing scrolls away for the sake of a curve
        assert len(lines) < height
    if width < 36 or height <= 14:
        assert not curves
    if width >= 36 and height == 60:
        assert curves
    assert any("Epoch 16" in line for line in lines)


def test_a_low_terminal_has_what_moves(progress: TrainingProgress) -> None:
    assert any("seed 42" in line for line in shown(progress, height=12))
    low = shown(progress, height=9)
    assert not any("seed 42" in line for line in low)
    assert "Epoch 16" in low[1]


def test_a_narrow_terminal_has_one_graph(progress: TrainingProgress) -> None:
    text = "\n".join(shown(progress, width=60, height=40))
    assert "Accuracy" in text
    assert "Training loss" not in text


def test_without_a_test_the_graph_is_the_loss() -> None:
    progress = TrainingProgress(JOB)
    for number in range(3):
        progress.update(epoch(number, None, 0.5 / (number + 1)))
    text = "\n".join(shown(progress, width=60, height=40))
    assert "Epoch 2 complete" in text
    assert "Training loss" in text
    assert "Accuracy" not in text
    assert "best" not in text


def test_a_validation_split_is_told() -> None:
    progress = TrainingProgress(JOB)
    progress.update(epoch(0, 9000, 0.1, validation=912))
    assert "validation 91.20 %" in "\n".join(shown(progress))


def test_a_validation_split_breaks_no_line_of_a_small_terminal(progress: TrainingProgress) -> None:
    progress.update(epoch(16, 9512, 0.03, validation=912))
    told = [line.strip("│ ") for line in shown(progress, width=80, height=24)]
    assert "Epoch 16 : 9512 / 10000  95.12 %  best 95.12 % in epoch 16" in told
    assert "validation 91.20 %" in told


def test_a_network_that_diverged_is_no_crash() -> None:
    progress = TrainingProgress(JOB)
    progress.update(epoch(0, 980, math.nan))
    assert "no finite value" in "\n".join(shown(progress))


def test_waiting_and_failing_are_said(progress: TrainingProgress) -> None:
    waiting = TrainingProgress(JOB)
    waiting.update(accepted())
    text = "\n".join(shown(waiting))
    assert "waiting for its turn" in text
    assert "queued" in text
    assert not any(ord(character) in BRAILLE for character in text)
    progress.update(Failed(job=JOB, sequence=20, time=NOW, reason="the disk is full"))
    text = "\n".join(shown(progress))
    assert "the disk is full" in text
    assert "failed" in text
    assert "left" not in text


def test_the_end_has_no_running_epoch() -> None:
    progress = TrainingProgress(JOB)
    progress.update(accepted(epochs=2))
    progress.update(epoch(0, 9000, 0.1))
    progress.update(epoch(1, 9100, 0.09))
    progress.update(
        Succeeded(
            job=JOB,
            sequence=5,
            time=NOW,
            model_version="models/mnist/versions/1",
            stop_reason="epochs",
            epoch=1,
        )
    )
    text = "\n".join(shown(progress))
    assert "2 / 2" in text
    assert "succeeded" in text
    assert "Epoch 2" not in text


def test_a_console_keeps_it_up_to_date(progress: TrainingProgress) -> None:
    console = Console(file=io.StringIO(), width=80, height=30, force_terminal=True, color_system=None)
    with console.capture() as capture, TrainingView(progress).live(console):
        progress.update(epoch(16, 9999, 0.01))
    assert "Epoch 16 : 9999 / 10000" in capture.get()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3725, "1 h 02 min"),
    ],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
