"""Results: what they say of themselves."""

import dataclasses
import inspect
from datetime import UTC, datetime

import numpy as np
import pytest

from mnist_client import results
from mnist_client.results import Epoch, EpochFinished, Predictions


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


@pytest.mark.parametrize("inputs", [None, np.arange(2 * 4, dtype=np.uint8).reshape(2, 2, 2)])
def test_predictions_are_a_sequence(inputs: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None) -> None:
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]], dtype=np.float32)
    predictions = Predictions(
        "models/m/versions/1",
        np.array([1, 0]),
        np.array([0.75, 0.5], dtype=np.float32),
        probabilities,
        inputs,
    )
    assert len(predictions) == 2
    first, second = predictions
    assert (first.digit, first.confidence) == (1, 0.75)
    assert (second.digit, second.confidence) == (0, 0.5)
    assert type(first.digit) is int
    assert type(first.confidence) is float
    np.testing.assert_array_equal(second.probabilities, [0.5, 0.5])
    if inputs is None:
        assert first.input is None
    else:
        np.testing.assert_array_equal(second.input, inputs[1])
    assert predictions[-1].digit == 0
    with pytest.raises(IndexError):
        predictions[2]


def test_every_result_is_frozen_and_has_slots() -> None:
    classes = [
        value
        for value in vars(results).values()
        if inspect.isclass(value) and value.__module__ == results.__name__
    ]
    assert len(classes) > 20
    for value in classes:
        assert dataclasses.is_dataclass(value)
        assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]  # typeshed leaves it out
        assert not hasattr(object.__new__(value), "__dict__"), value
