"""History: what an epoch says of itself."""

from datetime import UTC, datetime

from mnist_client.history import Epoch, EpochFinished


def epoch(correct: int | None, total: int | None) -> EpochFinished:
    return EpochFinished(
        job="jobs/a",
        sequence=5,
        time=datetime.now(UTC),
        epoch=3,
        correct=correct,
        total=total,
        loss=0.1,
        learning_rate=3.0,
        seconds=1.5,
        weights_hash="ab",
        validation_correct=None,
        validation_total=None,
    )


def test_an_epoch_says_the_classic_line() -> None:
    tested = epoch(9321, 10_000)
    assert str(tested) == f"{tested}" == "Epoch 3 : 9321 / 10000"
    assert tested.accuracy == 0.9321
    assert isinstance(tested, Epoch)


def test_an_epoch_that_was_not_tested_says_so() -> None:
    assert str(epoch(None, None)) == "Epoch 3 complete"
    assert epoch(None, None).accuracy is None


def test_none_right_is_an_accuracy() -> None:
    assert str(epoch(0, 10)) == "Epoch 3 : 0 / 10"
    assert epoch(0, 10).accuracy == 0.0
