"""`train`: sends a data set and how to learn from it, and shows the job that comes of it."""

from typing import Any

import click

from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.output import TABLE, write_record
from mnist_client.cli.parameters import (
    AUGMENTATION,
    LAYERS,
    MODEL,
    NAMES,
    SIZES,
    Settings,
    pass_settings,
    read_data,
    shared_options,
)
from mnist_client.cli.watching import come_back, event_record, follow
from mnist_client.client import Client
from mnist_client.history import Accepted
from mnist_client.progress import describe
from mnist_client.training_job import TrainingJob


@click.command()
@click.option(
    "--data",
    metavar="SPEC",
    default="mnist",
    show_default=True,
    help="What to learn from: mnist, mnist-5k, a folder of IDX files, a folder of images in one subfolder a "
    "label, an .npz or a CSV file, or datasets/{sha256}, which the server has.",
)
@click.option(
    "--name", type=MODEL, metavar="MODEL", help="Model to make a version of. [default: named after the job]"
)
@click.option(
    "--from",
    "base_model",
    type=MODEL,
    metavar="MODEL",
    help="Begin with what NAME, NAME@VERSION or NAME@ALIAS has learnt; images and labels may be others. "
    "What is not given is then as in its own training, unless there is a recipe.",
)
@click.option(
    "--class-names",
    type=NAMES,
    metavar="NAMES",
    help="What the labels stand for, from 0 on: cat,dog. [default: what the data says, or the numbers]",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="What to take hyperparameters from that are not given: classic, quick, mlp, mlp-augmented or best. "
    "[default: classic]",
)
@click.option(
    "--hidden",
    type=SIZES,
    metavar="SIZES",
    help="Neurons of the hidden layers: 30, or 100,100, or none. [default: 30]",
)
@click.option(
    "--layers",
    type=LAYERS,
    metavar="LAYERS",
    help="Instead of --hidden, hidden layers of all kinds: 20C5-P-40C5-P-150-D0.5 is 20 features by kernels "
    "of 5 x 5, pooling, 40 more, pooling, 150 neurons, and dropout of half of them.",
)
@click.option("--epochs", type=int, help="Times each image is learnt from. [default: 30]")
@click.option("--batch-size", type=int, help="Images a mini-batch. [default: 10]")
@click.option("--learning-rate", type=float, help="Step along a mini-batch's mean gradient. [default: 3.0]")
@click.option(
    "--activation",
    type=click.Choice(["sigmoid", "tanh", "relu"]),
    help="Of the hidden layers. [default: sigmoid]",
)
@click.option(
    "--output-layer",
    type=click.Choice(["sigmoid", "softmax"]),
    help="Activation of the last layer. [default: sigmoid]",
)
@click.option("--loss", type=click.Choice(["quadratic", "cross_entropy"]), help="[default: quadratic]")
@click.option(
    "--initialization",
    type=click.Choice(["normal", "scaled", "he"]),
    help="Weights from the standard normal; scaled by the root of a layer's inputs; or by that of half of "
    "them, with biases of 0. [default: normal]",
)
@click.option("--weight-decay", type=float, help="L2 penalty on the weights. [default: 0]")
@click.option("--momentum", type=float, help="Share of the last step that is carried on. [default: 0]")
@click.option(
    "--optimizer", type=click.Choice(["sgd", "adamw"]), help="What makes steps of gradients. [default: sgd]"
)
@click.option(
    "--schedule",
    type=click.Choice(["constant", "cosine"]),
    help="Of the learning rate: as it is, or falling to 0. [default: constant]",
)
@click.option(
    "--warm-up", type=float, metavar="SHARE", help="Of all steps, for which the rate rises. [default: 0]"
)
@click.option("--clip-norm", type=float, help="Shorten gradients that are longer. [default: none]")
@click.option(
    "--augmentation",
    type=AUGMENTATION,
    metavar="NAME=NUMBER,...",
    help="Vary images before they are learnt from, by rotation (degrees), scale, shear, shift (pixels), "
    "elastic, elastic_sigma and thickness. [default: none]",
)
@click.option(
    "--validation", type=int, metavar="N", help="Hold back the last N training images for validation."
)
@click.option(
    "--patience", type=int, metavar="N", help="Stop after N epochs without a better validation accuracy."
)
@click.option(
    "--until-accuracy",
    type=float,
    metavar="A",
    help="Stop after an epoch with this validation accuracy, 0 to 1.",
)
@click.option(
    "--max-minutes",
    type=float,
    metavar="M",
    help="Stop after the epoch with which it has learnt and tested for M minutes.",
)
@click.option(
    "--keep-best",
    is_flag=True,
    default=None,
    help="Keep the weights of the epoch with the best validation accuracy, not those of the last.",
)
@click.option(
    "--seed",
    type=int,
    help="Fixes the initial weights and the order of the images. [default: drawn by the server]",
)
@click.option("--dtype", type=click.Choice(["float32", "float64"]), help="[default: float32]")
@click.option("--promote", is_flag=True, help="Give the new version the alias default.")
@click.option("--detach", is_flag=True, help="Return once the job is accepted.")
@shared_options()
@pass_settings
@click.pass_context
def train(
    context: click.Context,
    settings: Settings,
    /,
    data: str,
    detach: bool,
    output_layer: str | None,
    max_minutes: float | None,
    **options: Any,
) -> None:
    """Train a network and watch it learn.

    Without options this is the classic run: 784-30-10 sigmoid neurons, quadratic loss, mini-batches of 10,
    learning rate 3.0, 30 epochs. On a terminal it is a live view, elsewhere a line an epoch. Ctrl-C leaves
    the job running.

    With -o jsonl it is an object an event: sequence, job, event (accepted, started, epoch_finished,
    continued, paused, resumed, succeeded, failed or cancelled) and time, and of an epoch its number, correct
    and total (null where there is nothing to test on), loss, learning_rate, seconds, weights_hash,
    validation_correct and validation_total. With -o csv it is a row an epoch, with -o json the job at its end
    with all its epochs.

    \b
    Example:
      mnist-client train --name classic
      mnist-client train --recipe quick --seed 1
      mnist-client train --data ./letters --name letters --from mnist --epochs 5
      mnist-client train --hidden 100 --output-layer softmax --loss cross_entropy --learning-rate 0.1
      mnist-client train --layers 20C5-P-40C5-P-150 --optimizer adamw --learning-rate 0.003 --epochs 3
      mnist-client train --data mnist-5k --epochs 5 --seed 1 -o jsonl
    """
    with settings.connect() as client:
        try:
            budget = None if max_minutes is None else 60 * max_minutes
            job = _start(client, data, output=output_layer, time_budget=budget, **options)
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted before the server had accepted the job: nothing is left behind.", err=True
            )
            context.exit(ExitCode.INTERRUPTED)
        if detach:
            _show_accepted(job, settings)
        else:
            context.exit(follow(job, settings))


def _start(client: Client, data: str, **options: Any) -> TrainingJob:
    return client.train(read_data(data), **options)


def _show_accepted(job: TrainingJob, settings: Settings) -> None:
    event = next(event for event in job.watch() if isinstance(event, Accepted))
    if settings.output == TABLE:
        click.echo(f"{job.name} accepted: {'; '.join(describe(event.config))}")
        click.echo(come_back(job.name, settings), err=True)
    else:
        write_record(event_record(event), settings.output)
