"""The command line: each command is a few calls of the SDK, told to people or to programs."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from mnist_client.cli.completion import completion
from mnist_client.cli.datasets import datasets
from mnist_client.cli.evaluation import evaluate
from mnist_client.cli.exit_codes import ExitCode, exit_code, explain
from mnist_client.cli.jobs import jobs
from mnist_client.cli.models import models
from mnist_client.cli.parameters import shared_options
from mnist_client.cli.prediction import predict
from mnist_client.cli.server import health, info
from mnist_client.cli.training import train
from mnist_client.errors import MnistError
from mnist_proto import __version__


class Program(click.Group):
    """The root of the commands, and the one place where an error becomes lines and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Runs a command line and exits."""
        try:
            # Commands return None; a number is the code of a Context.exit.
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            sys.exit(code or ExitCode.DONE)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            sys.exit(ExitCode.INTERRUPTED)
        except Exception as error:
            if os.environ.get("MNIST_DEBUG"):
                traceback.print_exc()
            for line in _lines(error):
                click.echo(line, err=True)
            sys.exit(exit_code(error))


def _lines(error: Exception) -> list[str]:
    if isinstance(error, MnistError | TimeoutError):
        first, *rest = explain(error)
        return [f"Error: {first}", *rest]
    return [
        f"Unexpected error: {type(error).__name__}: {error}",
        "MNIST_DEBUG=1 in the environment shows where.",
    ]


@click.group(
    "mnist-client",
    cls=Program,
    context_settings={
        "auto_envvar_prefix": "MNIST",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="mnist-client", allow_from_autoenv=False)
@shared_options(from_environment=True)
def program() -> None:
    """Train, watch, evaluate and ask a digit network that a server hosts.

    Answers go to standard output, progress and messages to standard error. Every option can be given in the
    environment too: MNIST_SERVER and MNIST_OUTPUT for all commands, MNIST_TRAIN_EPOCHS for train --epochs.

    \b
    Exit codes:
      0  done                               5  not allowed
      1  unexpected, or the job failed      6  bad input
      2  the command line is not valid      7  not found
      3  the server cannot be reached       8  a condition was not met
      4  no answer in time                  130  interrupted

    \b
    Example:
      mnist-client train --name classic
      mnist-client evaluate --model classic --fail-under 0.94
      mnist-client predict --show digit.png
    """


for command in (train, evaluate, predict, jobs, models, datasets, info, health, completion):
    program.add_command(command)


def main() -> None:
    """Runs the command line of this process."""
    program(prog_name="mnist-client")
