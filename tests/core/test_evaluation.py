import math
from typing import Any

import numpy as np
import pytest

from mnist_core import Evaluation, InvalidValue, Mistake, Network, Split, evaluate
from mnist_core.loss import losses

# Three classes, six images; argmax, confidence:
#   0.6 0.3 0.1  label 0  ->  0 right, 0.6
#   0.2 0.7 0.1  label 0  ->  1 wrong, 0.7
#   0.1 0.8 0.1  label 1  ->  1 right, 0.8
#   0.5 0.5 0.0  label 1  ->  0 wrong (the first on a tie), 0.5
#   0.1 0.8 0.1  label 2  ->  1 wrong, 0.8
#   0.4 0.3 0.3  label 0  ->  0 right, 0.4
PROBABILITIES = np.array(
    [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.5, 0.0], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]]
)
LABELS = np.array([0, 0, 1, 1, 2, 0], np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_worked_by_hand_in_batches_of_any_size(batch: int) -> None:
    evaluation = Evaluation(3)
    for start in range(0, 6, batch):
        evaluation.add(PROBABILITIES[start : start + batch], LABELS[start : start + batch])
    assert (evaluation.correct, evaluation.total, evaluation.accuracy) == (3, 6, 0.5)
    np.testing.assert_array_equal(evaluation.confusion, [[2, 1, 0], [1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(evaluation.support, [3, 2, 1])
    np.testing.assert_allclose(evaluation.precision, [2 / 3, 1 / 3, 0])  # columns sum to 3, 3, 0
    np.testing.assert_allclose(evaluation.recall, [2 / 3, 1 / 2, 0])  # rows to 3, 2, 1
    np.testing.assert_allclose(evaluation.f1, [2 / 3, 2 / 5, 0])
    assert evaluation.loss == pytest.approx(-np.log([0.6, 0.2, 0.8, 0.5, 0.1, 0.4]).mean())
    # Bins of 1/15: 0.6 in the 9th alone, 0.7 in the 11th, 0.5 in the 8th, 0.4 in the 6th, and in the 12th
    # twice 0.8, one right: (|1 - 0.6| + |0 - 0.7| + |1 - 1.6| + |0 - 0.5| + |1 - 0.4|) / 6.
    assert evaluation.ece == pytest.approx((0.4 + 0.7 + 0.6 + 0.5 + 0.6) / 6)
    assert evaluation.mistakes == [Mistake(4, 2, 1, 0.8), Mistake(1, 0, 1, 0.7), Mistake(3, 1, 0, 0.5)]


def test_nothing_added_is_all_zeros() -> None:
    evaluation = Evaluation(2)
    assert (evaluation.total, evaluation.accuracy, evaluation.loss, evaluation.ece) == (0, 0, 0, 0)
    np.testing.assert_array_equal(evaluation.f1, [0, 0])


def test_the_twenty_surest_mistakes_are_kept_in_order() -> None:
    rng = np.random.default_rng(0)
    sure = rng.integers(51, 100, 300) / 100  # many ties
    probabilities = np.stack([sure, 1 - sure], axis=1)
    evaluation = Evaluation(2)
    for start in range(0, 300, 37):
        part = probabilities[start : start + 37]
        evaluation.add(part, np.ones(len(part), np.uint8))
    expected = sorted(range(300), key=lambda index: (-sure[index], index))[:20]
    assert [mistake.index for mistake in evaluation.mistakes] == expected
    assert [mistake.confidence for mistake in evaluation.mistakes] == [sure[index] for index in expected]
    assert {(mistake.label, mistake.predicted) for mistake in evaluation.mistakes} == {(1, 0)}


def test_equally_sure_mistakes_are_kept_in_the_order_they_came() -> None:
    sure = np.random.default_rng(0).choice([0.6, 0.75], 5000)
    evaluation = Evaluation(2)
    evaluation.add(np.stack([sure, 1 - sure], axis=1), np.ones(5000, np.uint8))
    assert [mistake.index for mistake in evaluation.mistakes] == np.flatnonzero(sure == 0.75)[:20].tolist()


def test_a_bin_takes_in_its_upper_edge() -> None:
    # (8/15, 9/15] holds both 0.55 and 0.6, one right and one wrong: |1 - 1.15| / 2.
    evaluation = Evaluation(2)
    evaluation.add(np.array([[0.55, 0.45], [0.6, 0.4]]), np.array([0, 1], np.uint8))
    assert evaluation.ece == pytest.approx(0.15 / 2)


def test_perfect_confidence_belongs_to_the_last_bin_and_is_calibrated() -> None:
    evaluation = Evaluation(2)
    evaluation.add(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1], np.uint8))
    assert evaluation.ece == 0
    assert evaluation.accuracy == 1


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
@pytest.mark.parametrize("loss", ["quadratic", "cross_entropy", None])
def test_images_are_judged_by_the_networks_own_loss(loss: Any, output: Any) -> None:
    rng = np.random.default_rng(4)
    network = Network.initialize((6, 5, 4), output=output, dtype="float64", rng=rng)
    images = rng.integers(0, 256, (1203, 2, 3), np.uint8)  # more than two of its chunks
    labels = rng.integers(0, 4, 1203).astype(np.uint8)
    evaluation = Evaluation(4, loss)
    evaluation.add_images(network, images[:1100], labels[:1100])
    evaluation.add_images(network, images[1100:], labels[1100:])
    targets = np.eye(4)[labels]
    if loss is None:
        expected = -np.log(network.predict(images)[np.arange(1203), labels])
    else:
        expected = losses(loss, output, network.forward(images), targets)
    assert evaluation.loss == pytest.approx(float(expected.mean()), rel=1e-12)
    assert evaluation.correct == evaluate(network, Split(images, labels))
    assert evaluation.total == 1203


def test_evaluate_counts_the_first_of_equals() -> None:
    network = Network((1, 3), "sigmoid", "sigmoid", np.zeros(6))
    images = np.zeros((1300, 1, 1), np.uint8)
    labels = np.tile([0, 1], 650).astype(np.uint8)
    assert evaluate(network, Split(images, labels)) == 650


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((2, 3)) / 3, np.array([0, 3], np.uint8), "labels: 3 is not valid: expected 0 to 2"),
        (np.ones((2, 3)) / 3, np.array([0], np.uint8), "labels: .*a label an image"),
        (np.ones((2, 4)) / 4, np.array([0, 1], np.uint8), r"probabilities: .*shape \(B, 3\)"),
        (np.ones(3), np.array([0], np.uint8), "probabilities: "),
    ],
)
def test_what_does_not_fit_is_refused_and_not_counted(
    probabilities: np.ndarray,
    labels: np.ndarray,
    message: str,
) -> None:
    evaluation = Evaluation(3)
    with pytest.raises(InvalidValue, match=message):
        evaluation.add(probabilities, labels)
    assert evaluation.total == 0
    network = Network((1, 3), "sigmoid", "sigmoid", np.zeros(6))
    with pytest.raises(InvalidValue, match=r"^labels: "):
        evaluation.add_images(network, np.zeros((2, 1), np.uint8), np.array([1, 7], np.uint8))
    assert evaluation.total == 0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Wilson's interval, as tables give it: 95 of 100, none and all of 10, and MNIST's classic run.
        (95, 100, 0.88825, 0.97846),
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (9531, 10_000, 0.94878, 0.95707),
    ],
)
def test_the_interval_is_wilsons(correct: int, total: int, low: float, high: float) -> None:
    evaluation = Evaluation(2)
    labels = np.zeros(total, np.uint8)
    labels[correct:] = 1
    evaluation.add(np.tile([0.9, 0.1], (total, 1)), labels)
    assert evaluation.interval == pytest.approx((low, high), abs=1e-5)
    # Its ends are where |accuracy - p| is z standard deviations of p.
    for end in evaluation.interval:
        if 1e-9 < end < 1 - 1e-9:
            deviations = abs(evaluation.accuracy - end) / math.sqrt(end * (1 - end) / total)
            assert deviations == pytest.approx(1.959964, abs=1e-5)


def test_before_the_first_image_any_accuracy_may_be() -> None:
    assert Evaluation(3).interval == (0.0, 1.0)


def test_mistakes_keep_their_images_and_no_others() -> None:
    rng = np.random.default_rng(0)
    network = Network((4, 3), "sigmoid", "softmax", rng.standard_normal(15))
    images = rng.integers(0, 256, (1200, 2, 2), np.uint8)
    evaluation = Evaluation(3)
    evaluation.add_images(network, images, rng.integers(0, 3, 1200).astype(np.uint8))
    wrong = [mistake for mistake in evaluation.mistakes if mistake.image is not None]
    assert len(wrong) == len(evaluation.mistakes) > 0
    for mistake in wrong:
        np.testing.assert_array_equal(mistake.image, images[mistake.index])
        assert mistake.image is not None
        assert mistake.image.base is None  # a copy: the batch is not kept for it
