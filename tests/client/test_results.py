"""Results, and the other records that calls return: what they say of themselves."""

import dataclasses
import inspect

import numpy as np
import pytest

from mnist_client import history, hyperparameters, resources, results
from mnist_client.results import Predictions


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


def test_every_record_is_frozen_and_has_slots() -> None:
    classes = [
        value
        for module in (results, hyperparameters, history, resources)
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    assert len(classes) > 20
    for value in classes:
        assert dataclasses.is_dataclass(value)
        assert value.__dataclass_params__.frozen, value  # type: ignore[attr-defined]  # typeshed leaves it out
        assert not hasattr(object.__new__(value), "__dict__"), value
