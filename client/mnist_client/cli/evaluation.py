"""`evaluate`: judges a model by images whose labels are known."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.output import TABLE, as_record, percent, write_fields, write_record, write_table
from mnist_client.cli.parameters import MODEL, Settings, pass_settings, read_data, shared_options
from mnist_client.data_errors import DataError
from mnist_client.evaluation_pictures import confusion_picture, contact_sheet
from mnist_client.results import Evaluation, Mistake
from mnist_client.terminal import draw_image, greys

if TYPE_CHECKING:
    from PIL import Image

_MISTAKES_SHOWN = 5
_MISTAKES_DRAWN = 8
_CLASSES_ACROSS = 20
_CONFUSIONS_SHOWN = 20
_GAP = 3

_PNG = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--data",
    metavar="SPEC",
    default="mnist",
    show_default=True,
    help="What to judge by: its test split, or, without one, its training images. As for train.",
)
@click.option(
    "--split",
    type=click.Choice(["train", "validation", "test"]),
    help="The split to judge by. [default: test, or, without one, train]",
)
@click.option(
    "--model", type=MODEL, metavar="MODEL", help="NAME, NAME@VERSION or NAME@ALIAS. [default: mnist]"
)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 1),
    metavar="A",
    help="Exit 8 where the accuracy, 0 to 1, is below A.",
)
@click.option("--show", is_flag=True, help="Draw the most confident mistakes.")
@click.option("--confusion-png", type=_PNG, metavar="FILE", help="Write the confusion matrix as a picture.")
@click.option(
    "--mistakes-png", type=_PNG, metavar="FILE", help="Write the most confident mistakes as a picture."
)
@shared_options()
@pass_settings
@click.pass_context
def evaluate(
    context: click.Context,
    settings: Settings,
    data: str,
    split: str | None,
    model: str | None,
    fail_under: float | None,
    show: bool,
    confusion_png: Path | None,
    mistakes_png: Path | None,
) -> None:
    """Judge a model by images whose labels are known, any number of them.

    Tells accuracy with its 95 % confidence interval, loss, calibration, each digit's own figures, and where
    the model goes wrong. With -o json: model, correct, total, accuracy, accuracy_low, accuracy_high, loss,
    confusion_matrix (rows are digits, columns what they were taken for), per_class (precision, recall, f1,
    support), ece (expected calibration error), mistakes, class_names, and split, of a data set that the
    server has.

    \b
    Example:
      mnist-client evaluate --model mnist@2
      mnist-client evaluate --data ./my-digits --fail-under 0.95 -o json
      mnist-client evaluate --show --confusion-png confusion.png --mistakes-png mistakes.png
    """
    if show and settings.output != TABLE:
        raise click.UsageError(f"--show draws for people: expected -o table, not {settings.output}.")
    with settings.connect() as client:
        evaluation = client.evaluate(
            read_data(data), model=model, split=split, return_images=show or mistakes_png is not None
        )
    for path, draw in ((confusion_png, confusion_picture), (mistakes_png, contact_sheet)):
        if path is not None:
            _save(draw(evaluation), path)
    if settings.output == TABLE:
        _write(evaluation, show=show)
    else:
        write_record(_record(evaluation), settings.output)
    if fail_under is not None and evaluation.accuracy < fail_under:
        click.echo(
            f"Accuracy {evaluation.accuracy:.4f} is below {fail_under:g} (--fail-under).",
            err=True,
        )
        context.exit(ExitCode.CONDITION)


def _save(picture: "Image.Image", path: Path) -> None:
    try:
        picture.save(path, format="png")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error
    click.echo(f"Written: {path}", err=True)


def _record(evaluation: Evaluation) -> dict[str, object]:
    """All but the images of mistakes, which are for pictures."""
    record = as_record(evaluation)
    record["mistakes"] = [
        {name: getattr(mistake, name) for name in ("index", "label", "predicted", "confidence")}
        for mistake in evaluation.mistakes
    ]
    return record


def _write(evaluation: Evaluation, *, show: bool) -> None:
    names = evaluation.names
    interval = f"{percent(evaluation.accuracy_low)} to {percent(evaluation.accuracy_high)}"
    write_fields(
        (
            ("Model", evaluation.model),
            ("Accuracy", f"{percent(evaluation.accuracy)}  ({evaluation.correct} / {evaluation.total})"),
            ("95 % interval", interval),
            ("Loss", f"{evaluation.loss:.6g}"),
            ("Calibration error", f"{evaluation.ece:.4f}"),
            ("Split", evaluation.split),
        )
    )
    click.echo()
    rows = (
        (
            name,
            f"{metrics.precision:.4f}",
            f"{metrics.recall:.4f}",
            f"{metrics.f1:.4f}",
            str(metrics.support),
        )
        for name, metrics in zip(names, evaluation.per_class, strict=True)
    )
    write_table(("DIGIT", "PRECISION", "RECALL", "F1", "IMAGES"), rows)
    _write_confusion(evaluation.confusion_matrix, names)
    if evaluation.mistakes:
        click.echo("\nMost confident mistakes")
        write_table(
            ("IMAGE", "DIGIT", "TAKEN FOR", "CONFIDENCE"),
            (
                (
                    str(mistake.index),
                    names[mistake.label],
                    names[mistake.predicted],
                    percent(mistake.confidence, 1),
                )
                for mistake in evaluation.mistakes[:_MISTAKES_SHOWN]
            ),
        )
    if show:
        for line in _drawn(evaluation.mistakes[:_MISTAKES_DRAWN], names):
            click.echo(line, color=True)


def _write_confusion(matrix: NDArray[np.int64], names: Sequence[str]) -> None:
    """The whole matrix; of many classes, for which no terminal is wide enough, what is confused most."""
    if len(matrix) <= _CLASSES_ACROSS:
        click.echo("\nConfusion: a row a digit, a column what it was taken for")
        write_table(
            ("", *names),
            (
                (name, *(str(count) if count else "." for count in row))
                for name, row in zip(names, matrix.tolist(), strict=True)
            ),
        )
        return
    beside = matrix - np.diag(matrix.diagonal())
    most = np.argsort(-beside, axis=None, kind="stable")[:_CONFUSIONS_SHOWN]
    pairs = zip(*(places.tolist() for places in np.unravel_index(most, beside.shape)), strict=True)
    click.echo("\nConfused most")
    write_table(
        ("CLASS", "TAKEN FOR", "IMAGES"),
        (
            (names[label], names[said], str(beside[label, said]))
            for label, said in pairs
            if beside[label, said]
        ),
    )


def _drawn(mistakes: Sequence[Mistake], names: Sequence[str]) -> Iterator[str]:
    """The images of mistakes, as many beside each other as there is room for, each with a line below it."""
    shown = greys(sys.stdout)
    room = shutil.get_terminal_size().columns
    left = iter([mistake for mistake in mistakes if mistake.image is not None])
    longest = max((len(_caption(each, names)) for each in mistakes), default=0)
    while (first := next(left, None)) is not None:
        assert first.image is not None
        width = max(first.image.shape[1], longest)
        row = [first, *islice(left, max((room - 1) // (width + _GAP), 1) - 1)]
        pad = " " * (width - first.image.shape[1])
        drawings = [draw_image(each.image, shown) for each in row if each.image is not None]
        yield ""
        for lines in zip(*drawings, strict=True):
            yield (" " * _GAP).join(f"{line}{pad}" for line in lines).rstrip()
        yield (" " * _GAP).join(_caption(each, names).ljust(width) for each in row).rstrip()


def _caption(mistake: Mistake, names: Sequence[str]) -> str:
    what = f"{names[mistake.label]} taken for {names[mistake.predicted]}"
    return f"{what}, {percent(mistake.confidence, 1)}"
