"""The server's command line: `mnist-server serve`."""

import contextlib
import ipaddress
import logging
import os
import re
import resource
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mnist_proto import __version__

EXIT_UNEXPECTED = 1
EXIT_CONDITION = 8
# Files open at a time: an upload of three splits has six, and there may be hundreds. A common limit is 1,024.
_MAX_FILES = 65_536
_MAX_WORKERS = 256
_MAX_JOBS = 64


class _Workers(click.ParamType[int]):
    """A number of processes, or `auto`: one a core that this process may run on."""

    name = f"auto|1-{_MAX_WORKERS}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "auto":
            from mnist_server.worker_process import cores

            return min(cores(), _MAX_WORKERS)
        return int(click.IntRange(1, _MAX_WORKERS).convert(value, param, ctx))


@click.group(context_settings={"auto_envvar_prefix": "MNIST", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mnist-server")
def main() -> None:
    """A gRPC model server for a hand-written neural network that reads digits."""


class _Size(click.ParamType[int]):
    """A number of bytes, or of KiB, MiB, GiB or TiB: 500M, 20G."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,14})([KMGT]?)", value.upper())
        if match is None:
            self.fail(f"{value!r} is not valid: expected bytes, or a number with K, M, G or T", param, ctx)
        power = " KMGT".index(match[2] or " ")
        size: int = int(match[1]) << 10 * power
        return size


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    default=50051,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 picks one.",
)
@click.option(
    "--data-dir",
    default="mnist-data",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything durable lies: jobs, models, data sets. Made if it is not there.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=_Workers(),
    help="Processes that answer, each of its own connections on the one port; auto: as many as cores.",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(1, _MAX_JOBS),
    help="Jobs that train at a time, each in a process of its own; the others wait for their turn.",
)
@click.option(
    "--dataset-quota",
    default="20G",
    show_default=True,
    type=_Size(),
    help="What all data sets together may take on the disk: bytes, or a number with K, M, G or T.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    help="Port of the page for Prometheus, http://METRICS_HOST:PORT/metrics; 0 picks one, which the log says."
    " Without it there is none.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="Address of that page. It names jobs and models to whoever reaches it.",
)
@click.option(
    "--fast-path/--no-fast-path",
    default=True,
    show_default=True,
    envvar="MNIST_FAST_PATH",
    show_envvar=True,
    help="Answer predictions that are ready together with one forward pass, in gRPC's own thread. Without it"
    " each is a call as any other: three to four times the work when many ask at once.",
)
@click.option(
    "--pretrained/--no-pretrained",
    default=True,
    show_default=True,
    envvar="MNIST_PRETRAINED",
    show_envvar=True,
    help="Where the data directory has never had a model, begin with the one that comes with the package, as"
    " version 1 of mnist.",
)
def serve(
    host: str,
    port: int,
    data_dir: Path,
    workers: int,
    jobs: int,
    dataset_quota: int,
    metrics_port: int | None,
    metrics_host: str,
    fast_path: bool,
    pretrained: bool,
) -> None:
    """Answer until SIGTERM or Ctrl-C, then drain and exit 0; a second signal stops at once.

    Prints one line, `Serving on HOST:PORT`, once all workers answer. One that dies is replaced. A job trains
    in a process of its own, whatever the workers.

    \b
    Example:
      mnist-server serve --port 50051 --data-dir ./mnist-data --workers 2 --jobs 2 --metrics-port 9100
    """
    asked = _signals()
    _raise_file_limit()
    # The workers load gRPC and NumPy while this process does its own work; it needs neither. So these modules
    # are imported here, the heavier ones after the start.
    from mnist_server.slots import Slots
    from mnist_server.worker_process import WorkerProcess

    slots = Slots(workers)
    processes = [WorkerProcess(index, slots) for index in range(workers)]

    from mnist_server.data_directory import DataDirectory
    from mnist_server.errors import ServerError, WrongState
    from mnist_server.logs import configure_logging
    from mnist_server.supervisor import Supervisor, WorkersFailed

    configure_logging()
    supervisor = Supervisor(processes, slots)
    directory = DataDirectory(data_dir.resolve())

    def serving() -> None:
        # Whoever started it may have closed the pipe that this line goes to; that is no reason to stop.
        with contextlib.suppress(BrokenPipeError):
            click.echo(f"Serving on {supervisor.address}")

    try:
        supervisor.open(
            directory,
            host,
            port,
            jobs=jobs,
            dataset_quota=dataset_quota,
            fast_path=fast_path,
            pretrained=pretrained,
        )
        if metrics_port is not None:
            from mnist_server.exposition import Exposition
            from mnist_server.metrics_page import MetricsPage

            exposition = Exposition(slots.counters, directory.database())
            MetricsPage(metrics_host, metrics_port, exposition.render).start()
        if not _is_loopback(host):
            message = "listening beyond this machine without TLS: anyone who reaches it may use it"
            logging.getLogger("mnist_server").warning(message)
        supervisor.run(asked, serving)
    except (ServerError, WorkersFailed, OSError, sqlite3.Error) as error:
        supervisor.kill()
        click.echo(f"mnist-server: {error}", err=True)
        sys.exit(EXIT_CONDITION if isinstance(error, WrongState) else EXIT_UNEXPECTED)
    supervisor.stop()
    # Not by way of the interpreter's end, which waits for threads. What is durable is on the disk.
    logging.shutdown()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(0)


def _signals() -> int:
    """Has SIGTERM and Ctrl-C write to a pipe, whose end it returns; a second one ends the process at once."""
    # A pipe, not an Event: a handler that waits for a lock which the thread under it holds waits for ever.
    asked, ask = os.pipe()
    signals: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if signals:
            os._exit(128 + number)
        signals.append(number)
        os.write(ask, b"!")

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return asked


def _raise_file_limit() -> None:
    """Raises how many files may be open, here and in all processes that are started from here."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
