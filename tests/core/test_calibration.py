import numpy as np
import pytest

from mnist_core import Dataset, Evaluation, Network, Split, TrainingConfig, TrainingState, train
from mnist_core.calibration import LEAST, MOST, calibrated, fit_temperature


def overconfident(seed: int = 0) -> tuple[Network, Split]:
    """A network whose z are three times what labels were drawn by."""
    rng = np.random.default_rng(seed)
    network = Network.initialize((16, 5), output="softmax", initialization="scaled", rng=rng)
    images = rng.integers(0, 256, (4000, 4, 4), np.uint8)
    honest = network.predict(images)
    labels = (honest.cumsum(axis=1) < rng.random((len(images), 1))).sum(axis=1).clip(0, 4)
    network.parameters *= 3
    return network, Split(images, labels.astype(np.uint8))


def mean_loss(network: Network, split: Split) -> float:
    probabilities = network.predict(split.images)[np.arange(len(split)), split.labels]
    return float(-np.log(probabilities.astype(float)).mean())


def test_the_temperature_undoes_what_was_overdone() -> None:
    network, split = overconfident()
    temperature = fit_temperature(network, split)
    assert temperature == pytest.approx(3, rel=0.1)


def test_no_other_temperature_makes_the_labels_more_probable() -> None:
    network, split = overconfident(1)
    temperature = fit_temperature(network, split)
    best = mean_loss(calibrated(network, temperature), split)
    for other in (1, temperature * 0.95, temperature * 1.05):
        assert best < mean_loss(calibrated(network, other), split)


def test_calibration_error_falls_on_images_that_it_was_not_fitted_on(mnist_5k: Dataset) -> None:
    learnt = Split(mnist_5k.train.images[:1000], mnist_5k.train.labels[:1000])
    held_back = Split(mnist_5k.train.images[1000:], mnist_5k.train.labels[1000:])
    config = TrainingConfig(
        hidden_sizes=(50,), activation="relu", output="softmax", loss="cross_entropy",
        initialization="scaled", learning_rate=0.3, epochs=40,
    )  # fmt: skip
    state = TrainingState.begin(config)
    for _ in train(state, Dataset(learnt), config):
        pass
    temperature = fit_temperature(state.network, held_back)
    assert temperature > 1.2  # it has learnt its few images by heart
    test = mnist_5k.test
    assert test is not None
    before, after = Evaluation(10), Evaluation(10)
    before.add_images(state.network, test.images, test.labels)
    after.add_images(calibrated(state.network, temperature), test.images, test.labels)
    assert np.array_equal(after.confusion, before.confusion)
    assert after.ece < before.ece / 2


def test_probabilities_are_the_softmax_of_what_was_divided() -> None:
    network, split = overconfident()
    z = np.log(network.predict(split.images).astype(float)) / 2.5
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    cooled = calibrated(network, 2.5)
    assert cooled.predict(split.images) == pytest.approx(expected, abs=1e-5)
    assert not cooled.parameters.flags.writeable
    assert cooled.weights_hash() != network.weights_hash()


def test_a_temperature_of_one_is_the_network_itself() -> None:
    network, _ = overconfident()
    assert calibrated(network, 1.0) is network


def test_sigmoid_outputs_have_no_temperature() -> None:
    network, split = overconfident()
    assert fit_temperature(Network(network.sizes, "sigmoid", "sigmoid", network.parameters), split) == 1


def test_without_a_mistake_there_is_nothing_to_fit() -> None:
    network, split = overconfident()
    right = Split(split.images, network.predict(split.images).argmax(axis=1).astype(np.uint8))
    assert fit_temperature(network, right) == 1


@pytest.mark.parametrize(("factor", "expected"), [(1e-4, LEAST), (1e4, MOST)])
def test_it_stays_within_bounds_and_finite(factor: float, expected: float) -> None:
    network, split = overconfident()
    network.parameters *= np.float32(factor)
    assert fit_temperature(network, split) == pytest.approx(expected)
