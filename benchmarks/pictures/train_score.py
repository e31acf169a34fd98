"""Teaches what tells digits from everything else, with the teaching half alone: `make digit-score`.

Writes core/mnist_core/digit_score.safetensors, and prints WEIGHTS and BIAS of core/mnist_core/digit_score.py.
"""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import click
import numpy as np
from benchmarks.pictures import halves, kinds, others
from numpy.typing import NDArray

from mnist_client.datasets import load_dataset
from mnist_core import (
    Augmentation,
    Dataset,
    Split,
    TrainingConfig,
    TrainingState,
    digit_score,
    save_model,
    train,
)
from mnist_core.layer import Convolution, Dense, Dropout, MaxPool
from mnist_core.pictures import Read, read
from mnist_core.training import EpochReport

# Pictures of each kind. Letters are the hardest to tell from digits.
OTHERS = {"blank": 600, "noise": 700, "scribble": 1000, "photograph": 1500, "letter": 4000, "clutter": 1500}
DIGITS = 250
RAW = 20_000  # digits of MNIST's training set, as they are
# One picture in so many is held back from the network, to weigh what it says of pictures it has not seen.
HELD_BACK = 3
# Each picture is repeated, so that nearly half of what is learnt from is no digit.
REPEATED = 3

CONFIG = TrainingConfig(
    layers=(Convolution(12, 5), MaxPool(), Convolution(24, 5), MaxPool(), Dense(48), Dropout(0.3)),
    classes=2,
    activation="relu",
    output="softmax",
    loss="cross_entropy",
    initialization="he",
    optimizer="adamw",
    learning_rate=0.003,
    schedule="cosine",
    warm_up=0.1,
    weight_decay=0.02,
    batch_size=128,
    epochs=10,
    augmentation=Augmentation(rotation=10, scale=0.12, shear=0.15, shift=1.0, elastic=20, thickness=0.15),
)


class Prepared(NamedTuple):
    """Pictures as the network sees them."""

    images: NDArray[np.uint8]  # (N, 28, 28)
    borders: list[float]  # how much of it is inked
    kinds: list[str]
    digits: NDArray[np.bool_]  # whether each is one

    def part(self, places: NDArray[np.intp]) -> "Prepared":
        """Returns some of them."""
        borders, names = [self.borders[place] for place in places], [self.kinds[place] for place in places]
        return Prepared(self.images[places], borders, names, self.digits[places])


def prepare(half: halves.Half, counts: dict[str, int], digits: int) -> Prepared:
    """Returns a half's pictures of no digit, so many of each kind, and its digits, so many of each kind."""
    asked = [(half.name, name, number) for name, count in counts.items() for number in range(count)]
    asked += [(half.name, name, number) for name in kinds.KINDS for number in range(digits)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        read_ones = list(pool.map(_read, asked, chunksize=20))
    images = np.stack([one.digit for one in read_ones])
    names = [name for _, name, _ in asked]
    are_digits = np.array([name in kinds.KINDS for name in names])
    return Prepared(images, [one.border for one in read_ones], names, are_digits)


def _read(asked: tuple[str, str, int]) -> Read:
    half, kind, number = asked
    make = kinds.picture if kind in kinds.KINDS else others.other
    return read(make(halves.HALVES[half], kind, number).encoded, again=False)


def learn(prepared: Prepared, raw: NDArray[np.uint8]) -> None:
    """Trains the network on prepared pictures and raw digits, and writes its file."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 28, 28)).astype(np.uint8)
    repeated = np.repeat(prepared.images, REPEATED, axis=0)
    images = np.concatenate([raw, noise, np.zeros((100, 28, 28), np.uint8), repeated])
    labels = np.concatenate(
        [np.ones(len(raw)), np.zeros(len(noise) + 100), np.repeat(prepared.digits, REPEATED)]
    ).astype(np.uint8)
    state = TrainingState.begin(CONFIG)
    for report in train(state, Dataset(Split(images, labels)), CONFIG):
        if isinstance(report, EpochReport):
            click.echo(f"Epoch {report.epoch}: loss {report.loss:.4f}, {report.seconds:.1f} s", err=True)
    made_by = {"made_by": "make digit-score", "pictures": json.dumps(OTHERS | {"digits": DIGITS})}
    save_model(digit_score.FILE, state.network, CONFIG, made_by, image=(28, 28))


def weigh(prepared: Prepared) -> NDArray[np.float64]:
    """Returns the weights of a logistic regression of what is known of pictures, the bias last.

    Newton's method, with a little weight decay; digits and others count the same in all, and each kind of
    others as much as another, as they are judged one by one.
    """
    known = digit_score.evidence(prepared.images, prepared.borders)
    scale = known.std(axis=0) + 1e-9
    inputs = np.column_stack([known / scale, np.ones(len(known))])
    truth = prepared.digits.astype(float)
    counts = {kind: prepared.kinds.count(kind) * len(OTHERS) for kind in OTHERS}
    each = np.array([0.5 / counts.get(kind, truth.sum()) for kind in prepared.kinds])
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        said = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (each * (said - truth)) + 1e-3 * weights
        curvature = (inputs * (each * said * (1 - said))[:, np.newaxis]).T @ inputs
        weights -= np.linalg.solve(curvature + 1e-3 * np.eye(len(weights)), gradient)
    return weights / np.append(scale, 1)


@click.command()
def main() -> None:
    """Teach, weigh, and write."""
    prepared = prepare(halves.TEACHING, OTHERS, DIGITS)
    raw = load_dataset(os.environ["MNIST_DATA"]).train.images[:RAW]
    places = np.arange(len(prepared.images))
    held_back = places % HELD_BACK == 0
    learn(prepared.part(places[~held_back]), raw)
    *weights, bias = weigh(prepared.part(places[held_back])).tolist()
    click.echo(f"WEIGHTS = ({', '.join(f'{weight:.4g}' for weight in weights)})")
    click.echo(f"BIAS = {bias:.4g}")


if __name__ == "__main__":
    main()
