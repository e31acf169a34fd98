"""The benchmark of pictures: how often a model is right on pictures that people make; `make bench-pictures`.

Needs MNIST, and the photographs and fonts of .venv-pictures. Writes pictures.json and pictures.md into
benchmarks/results, and sheets of mistakes where they are wanted.
"""

import io
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.pictures import all_digits, camera, contact, halves, kinds, strokes
from benchmarks.pictures.halves import Half
from benchmarks.pictures.kinds import LARGE, Picture
from benchmarks.pictures.others import OTHERS, other
from benchmarks.pictures.report import markdown
from benchmarks.pictures.steps import STEPS
from benchmarks.training.machine import commit, machine
from numpy.typing import NDArray
from PIL import Image, ImageChops

from mnist_core import Network, load_model
from mnist_core.digit_score import IS_DIGIT, digit_scores
from mnist_core.pictures import Read, mean_of_views, read, views
from mnist_core.pictures.normalization import normalize

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
SURE = 0.9  # the confidence from which an answer counts as given
FIVE_VIEWS = "+ five views of it: all of it"
_TOGETHER = 64
_ASKED = 500
_WRITTEN = 100  # times each way
_MISTAKES = 80  # on a sheet


@click.command()
@click.option("--model", type=click.Path(exists=True, path_type=Path), required=True, help="A model's file.")
@click.option("--half", type=click.Choice(list(halves.HALVES)), default="judging", show_default=True)
@click.option("--each", type=click.IntRange(1), default=100, show_default=True, help="Pictures of each kind.")
@click.option("--sheets", type=click.Path(path_type=Path), help="A folder for sheets of mistakes.")
@click.option("--dry", is_flag=True, help="Write no results.")
def main(model: Path, half: str, each: int, sheets: Path | None, dry: bool) -> None:
    """Make the pictures of one half, prepare them step by step, ask a model, and write what came of it."""
    began = time.monotonic()
    network, _, provenance = load_model(model)
    steps: dict[str, Any] = {}
    counted: list[Picture] = []
    seen: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in STEPS}
    scores: list[float] = []
    prepared: list[bool] = []
    mistakes: list[tuple[bytes, NDArray[np.uint8], str]] = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for batch in pool.map(_made, *zip(*_portions(halves.HALVES[half], each), strict=True)):
            for picture, images, one in batch:
                scores.append(one.score)
                prepared.append(one.prepared)
                counted.append(picture._replace(encoded=b""))  # some megabytes each
                for name, image in zip(STEPS, images, strict=True):
                    seen[name].append(image)
                if sheets and len(mistakes) < _MISTAKES:
                    answer = int(_ask(network, [images[-1]])[0].argmax())
                    if answer != picture.label:
                        caption = f"{picture.kind} {picture.label}->{answer} {picture.source}"
                        mistakes.append((picture.encoded, images[-1], caption))
    said = {name: _ask(network, images) for name, images in seen.items()}
    last = list(STEPS)[-1]
    means = mean_of_views(_ask(network, list(views(np.stack(seen[last])))))
    said[FIVE_VIEWS] = np.where(np.array(prepared)[:, np.newaxis], means, said[last])
    for name, probabilities in said.items():
        steps[name] = figures(probabilities, counted)
        right, large, sure = (steps[name][part] for part in ("accuracy", "large", "sure"))
        shares = (right, large["accuracy"], sure["share"], sure["accuracy"])
        click.echo(f"{name:36}" + "".join(f"{share:8.2%}" for share in shares))
    of_pages = all_digits.measure(network, half, each)
    click.echo(f"pages wholly right {of_pages['whole']:.2%}, digits {of_pages['found_and_right']:.2%}")
    saying_no = no_digits(half, 2 * each, scores)
    for kind, found in saying_no["kinds"].items():
        click.echo(f"{kind:36}{found['auroc']:8.4f}{found['auroc_mnist']:8.4f}{found['called_digits']:8.2%}")
    results = {
        "command": "make bench-pictures",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(REPOSITORY),
        "machine": machine(),
        "minutes": (time.monotonic() - began) / 60,
        "model": {"file": model.name, **provenance},
        "half": half,
        "each": each,
        "steps": steps,
        "saying_no": saying_no,
        "pages": of_pages,
        "ways": ways(network, halves.HALVES[half]),
        "seconds": costs(half, network),
    }
    if sheets:
        sheets.mkdir(parents=True, exist_ok=True)
        contact.sheet(mistakes).save(sheets / f"mistakes-{half}.png")
    if not dry:
        (RESULTS / "pictures.json").write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "pictures.md").write_text(markdown(results))


def figures(probabilities: NDArray[np.float32], pictures: list[Picture]) -> dict[str, Any]:
    """Returns how often the answers (N, 10) are right: of all, of large ones, when sure, by kind."""
    right = probabilities.argmax(axis=1) == np.array([picture.label for picture in pictures])
    sure = probabilities.max(axis=1) >= SURE
    large = np.array([picture.pixels >= LARGE for picture in pictures])
    return {
        "accuracy": float(right.mean()),
        "pictures": len(pictures),
        "large": {"accuracy": _mean(right[large]), "pictures": int(large.sum())},
        "sure": {"share": float(sure.mean()), "accuracy": _mean(right[sure])},
        "kinds": _by([picture.kind for picture in pictures], right),
        "sources": _by([picture.source for picture in pictures], right),
    }


def ways(network: Network, half: Half) -> dict[str, list[float]]:
    """Returns, of each digit, how often each of a half's ways of writing it is named rightly, clean."""
    found: dict[str, list[float]] = {}
    for digit, choices in enumerate(strokes.WAYS):
        found[str(digit)] = []
        for place in range(len(choices))[half.ways]:
            random = np.random.default_rng((half.seed, 300, digit, place))
            inks = (strokes.write(digit, 120, 0.1, random, slice(place, place + 1)) for _ in range(_WRITTEN))
            images = np.stack([normalize(ink.astype(np.float32)) for ink in inks])
            named = mean_of_views(network.predict(views(images))).argmax(axis=1)
            found[str(digit)].append(float((named == digit).mean()))
    return found


def no_digits(half: str, each: int, digits_scores: list[float]) -> dict[str, Any]:
    """Returns how well these scores of digits, and MNIST's, tell them from so many others of each kind."""
    digits = np.array(digits_scores, np.float32)
    mnist = digit_scores(halves.mnist(halves.HALVES[half])[0])
    found = {}
    for kind in OTHERS:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            scored = pool.map(_scored, [(half, kind, number) for number in range(each)], chunksize=10)
            others = np.array(list(scored), np.float32)
        found[kind] = {
            "pictures": len(others),
            "auroc": auroc(digits, others),
            "auroc_mnist": auroc(mnist, others),
            "called_digits": float((others >= IS_DIGIT).mean()),
        }
    return {
        "digits": len(digits),
        "mnist": len(mnist),
        "called_digits": float((digits >= IS_DIGIT).mean()),
        "mnist_called_digits": float((mnist >= IS_DIGIT).mean()),
        "kinds": found,
    }


def _scored(asked: tuple[str, str, int]) -> float:
    half, kind, number = asked
    return read(other(halves.HALVES[half], kind, number).encoded).score


def costs(half: str, network: Network) -> dict[str, float]:
    """Returns how long it takes one core to prepare a picture, from its bytes to 28 x 28, in seconds.

    And how long to ask a network about it once, and about five views.
    """
    digit = Image.fromarray(halves.mnist(halves.HALVES[half])[0][0])
    shifted = ImageChops.offset(digit, 2, 1)
    large = _six_megapixels(kinds.picture(halves.HALVES[half], "photo", 3).encoded)
    no_digits = (other(halves.HALVES[half], "photograph", number).encoded for number in count())
    large_ones = (camera.encode(_six_megapixels(encoded), "JPEG", quality=90) for encoded in no_digits)
    pictures = {
        "28 x 28, PNG, in MNIST's form": camera.encode(digit, "PNG"),
        "28 x 28, PNG, not in MNIST's form": camera.encode(shifted, "PNG"),
        "3000 x 2000, photograph, JPEG": camera.encode(large, "JPEG", quality=90),
        "3000 x 2000, photograph, PNG": camera.encode(large.convert("L"), "PNG"),
        "3000 x 2000, photograph of no digit, JPEG, looked at again": next(
            encoded for encoded in large_ones if read(encoded, again=False).score < 0.1
        ),
    }
    prepared = read(pictures["28 x 28, PNG, not in MNIST's form"]).digit[np.newaxis]
    asked: dict[str, Callable[[], object]] = {
        name: partial(read, encoded) for name, encoded in pictures.items()
    }
    asked["the network's answer, asked about it once"] = lambda: network.predict(prepared)
    asked["asked about five views of it"] = lambda: mean_of_views(network.predict(views(prepared)))
    return {name: _median_seconds(work) for name, work in asked.items()}


def _six_megapixels(encoded: bytes) -> Image.Image:
    with Image.open(io.BytesIO(encoded)) as file:
        return file.convert("RGB").resize((3000, 2000), Image.Resampling.BICUBIC)


def _median_seconds(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(9):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def auroc(digits: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Returns how often a digit's score is above another's: the area under the ROC curve."""
    higher = (digits[:, np.newaxis] > others).mean() + 0.5 * (digits[:, np.newaxis] == others).mean()
    return float(higher)


def _by(names: Iterable[str], right: NDArray[np.bool_]) -> dict[str, float]:
    array = np.array(list(names))
    return {name: float(right[array == name].mean()) for name in dict.fromkeys(array.tolist())}


def _mean(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if right.size else float("nan")


def _portions(half: Half, each: int) -> list[tuple[str, str, range]]:
    return [
        (half.name, kind, range(start, min(start + _TOGETHER, each)))
        for kind in kinds.KINDS
        for start in range(0, each, _TOGETHER)
    ]


def _made(half: str, kind: str, numbers: range) -> list[tuple[Picture, list[NDArray[np.uint8]], Read]]:
    pictures = [kinds.picture(halves.HALVES[half], kind, number) for number in numbers]
    return [
        (picture, [step(picture.encoded) for step in STEPS.values()], read(picture.encoded))
        for picture in pictures
    ]


def _ask(network: Network, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    parts = [np.stack(images[start : start + _ASKED]) for start in range(0, len(images), _ASKED)]
    return np.concatenate([network.predict(part) for part in parts]).astype(np.float32, copy=False)


if __name__ == "__main__":
    main()
