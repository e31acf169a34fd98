"""`evaluate`: judges a model by images whose labels are known."""

import click

from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.output import TABLE, as_record, percent, write_fields, write_record, write_table
from mnist_client.cli.parameters import MODEL, Settings, pass_settings, shared_options
from mnist_client.datasets import load_dataset
from mnist_client.results import Evaluation

_MISTAKES_SHOWN = 5


@click.command()
@click.option(
    "--data",
    metavar="SPEC",
    default="mnist",
    show_default=True,
    help="What to judge by: its test split, or, without one, its training images. As for train.",
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
@shared_options()
@pass_settings
@click.pass_context
def evaluate(
    context: click.Context, settings: Settings, data: str, model: str | None, fail_under: float | None
) -> None:
    """Judge a model by images whose labels are known.

    Tells accuracy, loss, calibration, each digit's own figures, and where the model goes wrong. With
    -o json: model, correct, total, accuracy, loss, confusion_matrix (rows are digits, columns what they were
    taken for), per_class (precision, recall, f1, support), ece (expected calibration error) and mistakes.

    \b
    Example:
      mnist-client evaluate --model mnist@2
      mnist-client evaluate --data ./my-digits --fail-under 0.95 -o json
    """
    dataset = load_dataset(data, report=lambda line: click.echo(line, err=True))
    with settings.connect() as client:
        evaluation = client.evaluate(dataset, model=model)
    if settings.output == TABLE:
        _write(evaluation)
    else:
        write_record(as_record(evaluation), settings.output)
    if fail_under is not None and evaluation.accuracy < fail_under:
        click.echo(
            f"Accuracy {evaluation.accuracy:.4f} is below {fail_under:g} (--fail-under).",
            err=True,
        )
        context.exit(ExitCode.CONDITION)


def _write(evaluation: Evaluation) -> None:
    write_fields(
        (
            ("Model", evaluation.model),
            ("Accuracy", f"{percent(evaluation.accuracy)}  ({evaluation.correct} / {evaluation.total})"),
            ("Loss", f"{evaluation.loss:.6g}"),
            ("Calibration error", f"{evaluation.ece:.4f}"),
        )
    )
    click.echo()
    rows = (
        (
            str(digit),
            f"{metrics.precision:.4f}",
            f"{metrics.recall:.4f}",
            f"{metrics.f1:.4f}",
            str(metrics.support),
        )
        for digit, metrics in enumerate(evaluation.per_class)
    )
    write_table(("DIGIT", "PRECISION", "RECALL", "F1", "IMAGES"), rows)
    click.echo("\nConfusion: a row a digit, a column what it was taken for")
    counts = evaluation.confusion_matrix.tolist()
    write_table(
        ("", *(str(digit) for digit in range(len(counts)))),
        ((str(digit), *(str(count) if count else "." for count in row)) for digit, row in enumerate(counts)),
    )
    if evaluation.mistakes:
        click.echo("\nMost confident mistakes")
        write_table(
            ("IMAGE", "DIGIT", "TAKEN FOR", "CONFIDENCE"),
            (
                (
                    str(mistake.index),
                    str(mistake.label),
                    str(mistake.predicted),
                    percent(mistake.confidence, 1),
                )
                for mistake in evaluation.mistakes[:_MISTAKES_SHOWN]
            ),
        )
