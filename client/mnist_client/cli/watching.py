"""Watching: a training job shown while it runs, live on a terminal, as lines or as records elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import click

from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.output import CSV, JSON, JSONL, Record, as_record, to_csv, to_json, write_record
from mnist_client.cli.parameters import Settings
from mnist_client.errors import MnistError, NotFound
from mnist_client.history import (
    Accepted,
    Cancelled,
    Continued,
    Draining,
    EpochFinished,
    Event,
    Failed,
    Notice,
    Paused,
    Resumed,
    Started,
    Succeeded,
)
from mnist_client.progress import TrainingProgress, describe
from mnist_client.terminal import is_terminal, is_unicode
from mnist_client.training_job import TrainingJob

_KINDS: dict[type[Event], str] = {
    Accepted: "accepted",
    Started: "started",
    EpochFinished: "epoch_finished",
    Continued: "continued",
    Succeeded: "succeeded",
    Failed: "failed",
    Cancelled: "cancelled",
    Paused: "paused",
    Resumed: "resumed",
}
EPOCH_FIELDS = (
    "sequence",
    "job",
    "event",
    "time",
    "epoch",
    "correct",
    "total",
    "loss",
    "learning_rate",
    "seconds",
    "weights_hash",
    "validation_correct",
    "validation_total",
)
_STOPPED = {
    "early_stopping": " (stopped early: no improvement)",
    "time_budget": " (stopped early: the time budget is used up)",
    "target_accuracy": " (stopped early: it is as accurate as it was to be)",
}
_DRAINING = "The server is stopping; waiting for it to come back"
View = Callable[[Event | Notice], None]


def event_record(event: Event) -> Record:
    """Returns an event as programs read it: `sequence`, `job`, `event`, `time`, then what the event says.

    An epoch that was not tested has null for `correct` and `total`.
    """
    head = {"sequence": event.sequence, "job": event.job, "event": _KINDS[type(event)], "time": event.time}
    return head | {key: value for key, value in as_record(event).items() if key not in head}


def come_back(job: str, settings: Settings) -> str:
    """Returns what someone who leaves a job needs: how to watch it again, and how to end it."""
    # Where the environment names the server, it will again.
    named = settings.server and settings.server != os.environ.get("MNIST_SERVER")
    server = f" --server {settings.server}" if named else ""
    return (
        f"Come back to it with: mnist-client jobs watch {job}{server}\n"
        f"End it with:          mnist-client jobs cancel {job}{server}"
    )


def follow(job: TrainingJob, settings: Settings, after_sequence: int = 0) -> ExitCode:
    """Shows a job from the event after a sequence to its end, and returns what to exit with.

    Ctrl-C ends the showing and not the job, and so does an error; both say how to come back.
    """
    progress = TrainingProgress(job.name)
    try:
        with _view(progress, settings.output) as show:
            for message in job.watch(after_sequence, notices=True):
                progress.update(message)
                show(message)
        if settings.output == JSON:
            epochs = [event_record(epoch) for epoch in progress.epochs]
            write_record({**as_record(job.status()), "epochs": epochs}, JSON)
        return _conclude(job, progress)
    except KeyboardInterrupt:
        click.echo(f"\n{job.name} goes on without you.\n{come_back(job.name, settings)}", err=True)
        return ExitCode.INTERRUPTED
    except NotFound:
        raise
    except MnistError:
        click.echo(f"This watch broke off; {job.name} may go on.\n{come_back(job.name, settings)}", err=True)
        raise


def _conclude(job: TrainingJob, progress: TrainingProgress) -> ExitCode:
    """Says how a job ended."""
    end = progress.end
    if end is None:  # it had ended before the sequence that the watch began after
        status = job.status()
        ended, version, reason = status.state, status.model_version, status.reason
    else:
        ended = type(end).__name__.upper()
        version = end.model_version if isinstance(end, Succeeded) else None
        reason = end.reason if isinstance(end, Failed) else None
    if ended == "FAILED":
        click.echo(f"Error: {job.name} failed: {reason}", err=True)
        return ExitCode.UNEXPECTED
    if ended == "CANCELLED":
        click.echo(f"{job.name} was cancelled; it made no model.", err=True)
        return ExitCode.CONDITION
    why = _STOPPED.get(end.stop_reason, "") if isinstance(end, Succeeded) else ""
    click.echo(f"Made {version}{why}", err=True)
    if isinstance(end, Succeeded) and progress.epochs and end.epoch != progress.epochs[-1].epoch:
        click.echo(f"It is of epoch {end.epoch}, the best on the validation images", err=True)
    return ExitCode.DONE


@contextmanager
def _view(progress: TrainingProgress, output: str) -> Iterator[View]:
    """What shows messages as they come: a live view where there is a terminal, else lines or records."""
    if output in (JSONL, CSV):
        yield _records(output)
        return
    terminal = is_terminal(sys.stdout) and is_terminal(sys.stderr) and is_unicode(sys.stderr)
    if terminal and find_spec("rich") is not None:
        from rich.console import Console  # only here: rich is optional, and slow to import

        from mnist_client.live import TrainingView

        with TrainingView(progress).live(Console(stderr=True)):
            yield lambda message: None
    else:
        yield _lines(epochs_on_stderr=output == JSON)


def _records(output: str) -> View:
    """JSON lines: every event. CSV: every epoch."""
    if output == CSV:
        click.echo(to_csv(EPOCH_FIELDS))

    def show(message: Event | Notice) -> None:
        if isinstance(message, EpochFinished) and output == CSV:
            record = event_record(message)
            click.echo(to_csv([record[field] for field in EPOCH_FIELDS]))
        elif isinstance(message, Event) and output == JSONL:
            click.echo(to_json(event_record(message)))
        elif isinstance(message, Draining):
            click.echo(_DRAINING, err=True)

    return show


def _continued(message: Continued) -> Iterator[str]:
    for skipped in message.skipped_checkpoints:
        yield f"Skipped a checkpoint: {skipped}"
    for difference in message.differences:
        yield f"Not to the same bits: {difference}"
    yield f"Continued from epoch {message.epoch}"


def _lines(*, epochs_on_stderr: bool) -> View:
    """The classic line an epoch, and beside them, on standard error, what else there is to say."""

    def show(message: Event | Notice) -> None:
        match message:
            case EpochFinished():
                click.echo(str(message), err=epochs_on_stderr)
            case Accepted():
                click.echo(f"{message.job}: " + "; ".join(describe(message.config)), err=True)
            case Continued():
                for line in _continued(message):
                    click.echo(line, err=True)
            case Paused():
                click.echo(f"Paused: {message.reason}" if message.reason else "Paused", err=True)
                click.echo(f"Have it go on with: mnist-client jobs resume {message.job}", err=True)
            case Resumed():
                click.echo("Resumed; it waits for its turn", err=True)
            case Draining():
                click.echo(_DRAINING, err=True)

    return show
