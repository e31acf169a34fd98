"""The server's command line: `mnist-server serve`."""

import contextlib
import ipaddress
import logging
import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType

import click

from mnist_proto import __version__

EXIT_UNEXPECTED = 1
EXIT_CONDITION = 8


@click.group(context_settings={"auto_envvar_prefix": "MNIST", "help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mnist-server")
def main() -> None:
    """A gRPC model server for a hand-written neural network that reads digits."""


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
def serve(
    host: str, port: int, data_dir: Path, metrics_port: int | None, metrics_host: str, fast_path: bool
) -> None:
    """Answer until SIGTERM or Ctrl-C, then drain and exit 0; a second signal stops at once.

    Prints one line, `Serving on HOST:PORT`, once it answers.

    \b
    Example:
      mnist-server serve --port 50051 --data-dir ./mnist-data --metrics-port 9100
    """
    # Read by OpenBLAS when NumPy is loaded: one thread a product leaves the cores to the requests.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from mnist_server.data_directory import DataDirectory  # imported here: `--help` needs no NumPy or gRPC
    from mnist_server.errors import ServerError, WrongState
    from mnist_server.logs import configure_logging
    from mnist_server.metrics import SLOT_BYTES, Metrics
    from mnist_server.serving import Server

    configure_logging()
    log = logging.getLogger("mnist_server")
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
    slot = bytearray(SLOT_BYTES)
    directory = DataDirectory(data_dir.resolve())
    page = None
    try:
        server = Server(directory, host, port, metrics=Metrics(slot), fast_path=fast_path)
        if metrics_port is not None:
            from mnist_server.exposition import Exposition
            from mnist_server.metrics_page import MetricsPage

            page = MetricsPage(metrics_host, metrics_port, Exposition([slot], directory.database()).render)
    except (ServerError, OSError, sqlite3.Error) as error:
        click.echo(f"mnist-server: {error}", err=True)
        sys.exit(EXIT_CONDITION if isinstance(error, WrongState) else EXIT_UNEXPECTED)
    if not _is_loopback(host):
        log.warning("listening beyond this machine without TLS: anyone who reaches it may use it")
    server.start()
    if page is not None:
        page.start()
    # Whoever started it may have closed the pipe that this line goes to; that is no reason to stop.
    with contextlib.suppress(BrokenPipeError):
        click.echo(f"Serving on {server.address}")
    os.read(asked, 1)
    server.stop()
    # Not by way of the interpreter's end, which waits for every thread of a call for ever. What is durable is
    # on the disk.
    logging.shutdown()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(0)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
