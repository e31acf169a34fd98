import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mnist_core import CheckpointError, InvalidValue, Network, TrainingConfig, read_model, save_model
from mnist_core.self_check import TOLERANCE, self_check, self_check_answers, self_check_images

CONFIG = TrainingConfig(hidden_sizes=(3,), classes=3)


def network(seed: int = 0, output: str = "sigmoid") -> Network:
    rng = np.random.default_rng(seed)
    return Network.initialize((6, 3, 3), output=output, rng=rng)  # type: ignore[arg-type]  # a word of two


def test_the_images_are_the_same_for_ever() -> None:
    images = self_check_images(784)
    assert images.shape == (4, 784)
    assert images.dtype == np.uint8
    assert (images[0].max(), images[1].min()) == (0, 255)
    assert images[3].max() < 32
    digest = hashlib.sha256(images.tobytes()).hexdigest()
    assert digest == "f6dafc81af9acac12c5e013bc12940ea50ac7ee1dc26d0e8a81b4ef45acbf7c0"
    for inputs in (1, 2, 100_000):
        assert self_check_images(inputs).shape == (4, inputs)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_a_network_passes_its_own_and_no_other(output: str) -> None:
    answers = self_check_answers(network(output=output))
    assert np.shape(answers) == (4, 3)
    self_check(network(output=output), json.loads(json.dumps(answers)))
    with pytest.raises(InvalidValue, match=r"^self_check: .*an answer off by .*expected at most 1e-05"):
        self_check(network(1, output), answers)


@pytest.mark.parametrize("image", range(4))
@pytest.mark.parametrize("digit", range(3))
def test_every_answer_counts_to_the_tolerance(image: int, digit: int) -> None:
    for sign in (1, -1):
        answers = self_check_answers(network())
        answers[image][digit] += sign * 0.9 * TOLERANCE
        self_check(network(), answers)
        answers[image][digit] += sign * 0.2 * TOLERANCE
        with pytest.raises(InvalidValue, match="self_check"):
            self_check(network(), answers)


@pytest.mark.parametrize(
    "answers",
    [
        None,
        {},
        [],
        0.5,
        "text",
        [[0.3] * 3] * 3,
        [[0.3] * 4] * 4,
        [[0.3] * 3, [0.3]],
        [[float("nan")] * 3] * 4,
        [[float("inf")] * 3] * 4,
        [[None] * 3] * 4,
        [["x"] * 3] * 4,
    ],
)
def test_what_are_no_answers_is_refused(answers: object) -> None:
    with pytest.raises((InvalidValue, TypeError, ValueError)):
        self_check(network(), answers)


def test_a_network_whose_answers_are_no_numbers_is_not_saved(tmp_path: Path) -> None:
    broken = network(output="softmax")
    broken.parameters[:] = 3e38  # finite; what comes of them is not
    with pytest.raises(InvalidValue, match="finite probabilities"):
        save_model(tmp_path / "m", broken, CONFIG, {})
    assert not list(tmp_path.iterdir())


def test_a_file_keeps_what_was_answered_and_is_refused_when_it_is_answered_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "m", network(), CONFIG, {}, image=(2, 3))
    saved = read_model(tmp_path / "m")
    assert (saved.height, saved.width) == (2, 3)
    assert saved.network.weights_hash() == network().weights_hash()
    predict = Network.predict
    monkeypatch.setattr(Network, "predict", lambda self, images: predict(self, images)[:, ::-1])
    with pytest.raises(CheckpointError, match=r"self_check: .*an answer off by"):
        read_model(tmp_path / "m")
