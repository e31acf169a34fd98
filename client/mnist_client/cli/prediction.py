"""`predict`: names the digits in image files, and draws what the network saw of them."""

import dataclasses
import glob
import io
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from numpy.typing import NDArray

from mnist_client.cli.exit_codes import ExitCode, exit_code, explain
from mnist_client.cli.output import TABLE, Record, percent, write_records
from mnist_client.cli.parameters import MODEL, Settings, pass_settings, shared_options
from mnist_client.client import Client
from mnist_client.data_errors import DataError, reading
from mnist_client.errors import InvalidInput
from mnist_client.image_folder import image_files
from mnist_client.images import find_images
from mnist_client.results import Prediction
from mnist_client.terminal import Greys, draw_bar, draw_image, greys, is_unicode

# Enough to make a call's cost small beside its images, few enough that answers come soon.
_BATCH = 64
_MOST_BAR_CELLS = 30
_MOST_COLUMNS = 120
_BESIDE_THE_BAR = 17  # blanks, the digit and its percentage

Image = bytes | NDArray[np.uint8]
Source = tuple[str, Image]
Answer = tuple[Source, str, Prediction]  # what it is about, the exact model version, what it said
Complain = Callable[[str, Exception], None]


class _Asked(NamedTuple):
    """What is asked of every image."""

    inputs: bool
    score: bool
    all_digits: bool


@click.command()
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "--model", type=MODEL, metavar="MODEL", help="NAME, NAME@VERSION or NAME@ALIAS. [default: mnist]"
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Tell the K most probable digits.")
@click.option("--show", is_flag=True, help="Draw what the network saw, beside the probabilities.")
@click.option("--score", is_flag=True, help="Tell how much each looks like a digit at all, 0 to 1.")
@click.option("--all", "all_digits", is_flag=True, help="Find every digit on each picture, in reading order.")
@shared_options()
@pass_settings
@click.pass_context
def predict(
    context: click.Context,
    settings: Settings,
    images: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    show: bool,
    score: bool,
    all_digits: bool,
) -> None:
    """Name the digits in images.

    An IMAGE is a file, a glob, a folder, - for standard input, a .npy or an IDX file. A picture may be of any
    size, dark on light or light on dark. One that cannot be read is told on standard error, the others are
    answered, and the exit code is that of the first that could not. With -o jsonl it is an object an image:
    source, digit, name (what the class is called, else its number), confidence, probabilities, model, with
    --top-k also top_k, with --score also score and is_digit (a score of 0.5 or more; a digit is named all the
    same).

    With --all it is an object a digit, with its box too: top, left, height and width, in pixels of the
    picture as it is seen. Digits that touch are found as one. --show draws each picture with its boxes.

    \b
    Example:
      mnist-client predict digit.png
      mnist-client predict --show --top-k 3 scans/
      mnist-client predict 'scans/*.png' -o jsonl
      mnist-client predict --all --score meter.jpg
    """
    if show and settings.output != TABLE:
        raise click.UsageError(f"--show draws for people: expected -o table, not {settings.output}.")
    complaints: list[ExitCode] = []

    def complain(source: str, error: Exception) -> None:
        first, *rest = explain(error)
        # What the SDK calls the first of its images is what the reader calls by name.
        first = first.removeprefix("images[0]: ").removeprefix(f"{source}: ")
        click.echo("\n".join([f"Error: {source}: {first}", *rest]), err=True)
        complaints.append(exit_code(error))

    with settings.connect() as client:
        asked = _Asked(show and not all_digits, score, all_digits)
        answers = _answers(client, _sources(images, complain), complain, model=model, asked=asked)
        if settings.output == TABLE:
            for name, group in groupby(answers, key=lambda answer: answer[0][0]):
                told = list(group)
                image, predictions = told[0][0][1], [prediction for _, _, prediction in told]
                if show and all_digits and isinstance(image, bytes):
                    for line in _boxes(image, predictions):
                        click.echo(line, color=True)
                for prediction in predictions:
                    _write(name, prediction, top_k, show and not all_digits)
        else:
            fields = [
                "source",
                "digit",
                "name",
                "confidence",
                "probabilities",
                "model",
                *(["top_k"] if top_k else []),
                *(["score", "is_digit"] if score else []),
                *(["box"] if all_digits else []),
            ]
            write_records((_record(*answer, top_k) for answer in answers), settings.output, fields)
    if complaints:
        context.exit(complaints[0])


def _sources(arguments: Iterable[str], complain: Complain) -> Iterator[Source]:
    """The images of every argument, each with its name; a file that cannot be read ends alone."""
    for argument in arguments:
        try:
            with reading(argument):
                names = _files(argument)
        except DataError as error:
            complain(argument, error)
            continue
        for name in names:
            try:
                yield from find_images([name])
            except DataError as error:
                complain(name, error)


def _files(argument: str) -> list[str]:
    """The files of a folder or a glob, one by one; any other argument, and one that names nothing, itself."""
    path = Path(argument)
    if path.is_dir():
        return [str(file) for file in image_files(path)] or [argument]
    if argument == "-" or path.exists():
        return [argument]
    found = glob.glob(argument, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
    return sorted(name for name in found if Path(name).is_file()) or [argument]


def _answers(
    client: Client, sources: Iterator[Source], complain: Complain, *, model: str | None, asked: _Asked
) -> Iterator[Answer]:
    """The answers, in the order of the images, as they come; one that is refused is refused alone."""
    while batch := list(islice(sources, _BATCH)):
        try:
            parts = [_ask(client, batch, model, asked)]
        except InvalidInput:
            parts = [_alone(client, one, complain, model, asked) for one in batch]
        for part in parts:
            for answer in part:
                model = answer[1]  # the version that answered first answers all
                yield answer


def _ask(client: Client, batch: Sequence[Source], model: str | None, asked: _Asked) -> list[Answer]:
    predictions = client.predict(
        [image for _, image in batch],
        model=model,
        return_inputs=asked.inputs,
        score=asked.score,
        all_digits=asked.all_digits,
    )
    on = range(len(batch)) if predictions.images is None else predictions.images.tolist()
    return [
        (batch[place], predictions.model, prediction)
        for place, prediction in zip(on, predictions, strict=True)
    ]


def _alone(client: Client, one: Source, complain: Complain, model: str | None, asked: _Asked) -> list[Answer]:
    try:
        return _ask(client, [one], model, asked)
    except InvalidInput as error:
        complain(one[0], error)
        return []


def _ranked(prediction: Prediction, count: int) -> list[tuple[int, float]]:
    """The most probable digits and their probabilities; of two alike, the lower digit first."""
    order = np.argsort(-prediction.probabilities, kind="stable")[:count]
    return [(int(digit), float(prediction.probabilities[digit])) for digit in order]


def _name(prediction: Prediction, digit: int) -> str:
    return prediction.class_names[digit] if prediction.class_names else str(digit)


def _record(source: Source, model: str, prediction: Prediction, top_k: int | None) -> Record:
    record: dict[str, object] = {
        "source": source[0],
        "digit": prediction.digit,
        "name": prediction.name,
        "confidence": np.float32(prediction.confidence),
        "probabilities": prediction.probabilities,
        "model": model,
    }
    if top_k is not None:
        record["top_k"] = [
            {"digit": digit, "name": _name(prediction, digit), "probability": np.float32(share)}
            for digit, share in _ranked(prediction, top_k)
        ]
    if prediction.score is not None:
        record["score"] = np.float32(prediction.score)
        record["is_digit"] = prediction.is_digit
    if prediction.box is not None:
        record["box"] = dataclasses.asdict(prediction.box)
    return record


def _write(source: str, prediction: Prediction, top_k: int | None, show: bool) -> None:
    ranked = _ranked(prediction, top_k or 1)
    told = ((_name(prediction, digit), share) for digit, share in ranked)
    line = f"{source}: " + ", ".join(f"{name} ({percent(share, 1)})" for name, share in told)
    if prediction.score is not None:
        line += f", score {prediction.score:.2f}" + ("" if prediction.is_digit else ": no digit")
    if prediction.box is not None:
        box = prediction.box
        line += f", {box.width} x {box.height} pixels at {box.left}, {box.top}"
    click.echo(line)
    if show and prediction.input is not None:
        for line in _picture(prediction, prediction.input):
            click.echo(line, color=True)
        click.echo()


def _boxes(encoded: bytes, predictions: Sequence[Prediction]) -> Iterator[str]:
    """A picture, as wide as the terminal, with a box around each digit that was found."""
    from PIL import Image, ImageDraw, ImageOps

    with Image.open(io.BytesIO(encoded)) as file:
        grey = ImageOps.exif_transpose(file).convert("L")
    if np.median(np.asarray(grey)) > 127:
        grey = ImageOps.invert(grey)  # a terminal shows paper black
    columns = min(shutil.get_terminal_size().columns - 2, _MOST_COLUMNS)
    scale = columns / grey.width
    small = grey.resize((columns, max(round(grey.height * scale), 1)), Image.Resampling.BOX)
    draw = ImageDraw.Draw(small)
    for prediction in predictions:
        if prediction.box is not None:
            top, left, height, width = (round(side * scale) for side in dataclasses.astuple(prediction.box))
            draw.rectangle((left - 1, top - 1, left + width, top + height), outline=255)
    for line in draw_image(np.asarray(small), greys(sys.stdout)):
        yield f"  {line}".rstrip()


def _picture(prediction: Prediction, image: NDArray[np.uint8]) -> Iterator[str]:
    """The digit that the network saw, and at its right a bar for each class."""
    shown = greys(sys.stdout)
    drawn = draw_image(image, shown)
    blocks = shown is not Greys.CHARACTERS or is_unicode(sys.stdout)
    room = shutil.get_terminal_size().columns - image.shape[1] - _BESIDE_THE_BAR
    cells = max(min(room, _MOST_BAR_CELLS), 1)
    bars = []
    width = max((len(name) for name in prediction.class_names), default=1)
    for digit, share in enumerate(prediction.probabilities.tolist()):
        bar = draw_bar(share, cells, blocks=blocks)
        text = f"{_name(prediction, digit):<{width}} {percent(share, 1):>7} {bar}"
        best = digit == prediction.digit and shown is not Greys.CHARACTERS
        bars.append(f"\x1b[1;32m{text}\x1b[0m" if best else text)
    above = max((len(drawn) - len(bars)) // 2, 0)
    bars = [""] * above + bars
    blank = " " * image.shape[1]
    for row in range(max(len(drawn), len(bars))):
        left = drawn[row] if row < len(drawn) else blank
        right = bars[row] if row < len(bars) else ""
        yield f"  {left}   {right}".rstrip()
