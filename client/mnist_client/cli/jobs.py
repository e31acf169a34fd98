"""`jobs`: the training jobs that a server has, each from its first event to its end."""

from itertools import islice

import click

from mnist_client.cli.output import (
    TABLE,
    as_record,
    local_time,
    percent,
    write_fields,
    write_record,
    write_records,
    write_table,
)
from mnist_client.cli.parameters import JOB, MODEL, Settings, pass_settings, shared_options
from mnist_client.cli.watching import follow
from mnist_client.progress import describe
from mnist_client.resources import Job

STATES = ("QUEUED", "RUNNING", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED")
_FIELDS = (
    "name",
    "state",
    "model",
    "create_time",
    "start_time",
    "end_time",
    "last_sequence",
    "model_version",
    "reason",
    "last_epoch",
    "config",
)


@click.group()
@shared_options()
def jobs() -> None:
    """List, show, watch, pause, resume, cancel and delete training jobs.

    \b
    Example:
      mnist-client jobs list
    """


@jobs.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only jobs in this state, or in one of these where it is given several times.",
)
@click.option("--model", type=MODEL, metavar="MODEL", help="Only jobs that make versions of this model.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N of them. [default: all]")
@shared_options()
@pass_settings
def list_jobs(settings: Settings, states: tuple[str, ...], model: str | None, limit: int | None) -> None:
    """List the jobs, newest first.

    \b
    Example:
      mnist-client jobs list
      mnist-client jobs list --state RUNNING --state QUEUED --model mnist
      mnist-client jobs list --limit 20 -o jsonl
    """
    with settings.connect() as client:
        found = islice(client.jobs(states=states, model=model), limit)
        if settings.output == TABLE:
            rows = (
                (job.name, job.state, job.model, _epochs(job), _accuracy(job), local_time(job.create_time))
                for job in found
            )
            write_table(("JOB", "STATE", "MODEL", "EPOCHS", "ACCURACY", "ACCEPTED"), rows)
        else:
            write_records((as_record(job) for job in found), settings.output, _FIELDS)


@jobs.command()
@click.argument("job", type=JOB)
@shared_options()
@pass_settings
def show(settings: Settings, job: str) -> None:
    """Show one job as it is now.

    \b
    Example:
      mnist-client jobs show job-k2bbmgj2
    """
    with settings.connect() as client:
        _write(client.job(job).status(), settings.output)


@jobs.command()
@click.argument("job", type=JOB)
@click.option(
    "--after",
    type=click.IntRange(min=0),
    default=0,
    metavar="SEQUENCE",
    help="Show only events after this one. [default: 0, all]",
)
@shared_options()
@pass_settings
@click.pass_context
def watch(context: click.Context, settings: Settings, job: str, after: int) -> None:
    """Watch a job to its end, from its first event or from any later one.

    What is shown is as for train, and so are the forms of -o.

    \b
    Example:
      mnist-client jobs watch job-k2bbmgj2
      mnist-client jobs watch job-k2bbmgj2 --after 12 -o jsonl
    """
    with settings.connect() as client:
        context.exit(follow(client.job(job), settings, after))


@jobs.command()
@click.argument("job", type=JOB)
@shared_options()
@pass_settings
def cancel(settings: Settings, job: str) -> None:
    """End a job that waits, runs or is paused; it makes no model.

    \b
    Example:
      mnist-client jobs cancel job-k2bbmgj2
    """
    with settings.connect() as client:
        status = client.job(job).cancel()
    _tell(status, "is cancelled" if status.state == "CANCELLED" else "will end in a moment", settings.output)


@jobs.command()
@click.argument("job", type=JOB)
@shared_options()
@pass_settings
def pause(settings: Settings, job: str) -> None:
    """Put a running job aside, with a checkpoint; the next one in the queue begins.

    \b
    Example:
      mnist-client jobs pause job-k2bbmgj2
    """
    with settings.connect() as client:
        status = client.job(job).pause()
    _tell(status, "is paused" if status.state == "PAUSED" else "will pause in a moment", settings.output)


@jobs.command()
@click.argument("job", type=JOB)
@click.option(
    "--allow-inexact",
    is_flag=True,
    help="Go on even where libraries or the processor are not those it was accepted with: to other bits.",
)
@shared_options()
@pass_settings
def resume(settings: Settings, job: str, *, allow_inexact: bool) -> None:
    """Put a paused job back into the queue; it goes on after its last epoch, to the same bits.

    \b
    Example:
      mnist-client jobs resume job-k2bbmgj2
      mnist-client jobs resume job-k2bbmgj2 --allow-inexact
    """
    with settings.connect() as client:
        status = client.job(job).resume(allow_inexact=allow_inexact)
    _tell(status, "is in the queue", settings.output)


@jobs.command()
@click.argument("job", type=JOB)
@shared_options()
@pass_settings
def delete(settings: Settings, job: str) -> None:
    """Forget a job that has ended, with its history; the version it made stays.

    \b
    Example:
      mnist-client jobs delete job-k2bbmgj2
    """
    with settings.connect() as client:
        client.job(job).delete()
    if settings.output != TABLE:
        write_record({"name": job, "deleted": True}, settings.output)
    else:
        click.echo(f"{job} is deleted")


def _tell(job: Job, what: str, output: str) -> None:
    if output != TABLE:
        write_record(as_record(job), output)
    else:
        click.echo(f"{job.name} {what}")


def _write(job: Job, output: str) -> None:
    if output != TABLE:
        write_record(as_record(job), output)
        return
    write_fields(
        (
            ("Job", job.name),
            ("State", job.state),
            ("Reason", job.reason or None),
            ("Model", job.model_version or job.model),
            *(("Training" if index == 0 else "", line) for index, line in enumerate(describe(job.config))),
            ("Epochs", _epochs(job)),
            ("Accuracy", _accuracy(job)),
            ("Loss", f"{job.last_epoch.loss:.6g}" if job.last_epoch else None),
            ("Accepted", local_time(job.create_time)),
            ("Started", job.start_time and local_time(job.start_time)),
            ("Ended", job.end_time and local_time(job.end_time)),
            ("Last event", job.last_sequence),
            ("Data set", job.config.dataset),
        )
    )


def _epochs(job: Job) -> str:
    done = job.last_epoch.epoch + 1 if job.last_epoch else 0
    return f"{done}/{job.config.hyperparameters.epochs}"


def _accuracy(job: Job) -> str:
    return percent(job.last_epoch.accuracy if job.last_epoch else None)
