"""The demo: a server is started, learns MNIST while you watch, is judged, names digits, and is stopped.

Run by `make demo`. Every command is printed before it runs, so that you can do the same. Nothing stays
behind: what is written is in a temporary folder, and the server ends with this program, however that ends.
"""

import os
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from PIL import Image

from mnist_client.datasets import DataNotFound, Dataset, DataUnreachable, load_dataset

REPOSITORY = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
START_SECONDS, STOP_SECONDS, COMMAND_SECONDS = 30, 10, 240
DIGITS = 5
# With the classic settings some seeds stall below 90 %; this one does not. Leave it out and see.
SEED = 1


def main() -> None:
    """Runs the demo."""
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    before = checkout()
    with tempfile.TemporaryDirectory(prefix="mnist-demo-") as folder:
        data, digits = find_data()
        with serving(Path(folder)) as address:
            os.environ["MNIST_SERVER"] = address
            show(f"export MNIST_SERVER={address}")
            client("train", "--name", "classic", "--seed", str(SEED), *data)
            client("evaluate", "--model", "classic", *data)
            pictures = write_pictures(digits, Path(folder) / "pictures")
            # Without a model's name, by the one that comes with the server.
            client("predict", "--show", str(pictures))
    if (after := checkout()) != before:
        sys.exit(f"The checkout was to stay as it was, and is not:\n{after}")
    click.echo(f"\nDone in {time.monotonic() - began:.0f} s. Nothing is left running.")


def find_data() -> tuple[list[str], Dataset]:
    """Returns the options that name the data set, and the data set: MNIST if it can be had."""
    click.echo("Looking for MNIST, and downloading it if it is nowhere on this machine ...")
    try:
        return [], load_dataset("mnist")
    except (DataNotFound, DataUnreachable) as error:
        click.secho(f"\nMNIST cannot be had here: {error}", fg="yellow")
        click.secho(
            "So this is not MNIST but mnist-5k, a sample of 5,000 of its images. ", bold=True, nl=False
        )
        click.echo("4,000 are learnt from and 1,000 tested on: expect a lower accuracy.")
        return ["--data", "mnist-5k"], load_dataset("mnist-5k")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server on a free port; its address. Stopped by SIGTERM, it is to exit 0."""
    command = ["mnist-server", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    show(f"{shlex.join(command)} &")
    log = folder / "server.log"
    with log.open("wb") as errors:
        # In a process group of its own: Ctrl-C is for what stands in the foreground.
        server = subprocess.Popen(
            [PROGRAMS / command[0], *command[1:]], stdout=subprocess.PIPE, stderr=errors, process_group=0
        )
    try:
        yield address_of(server)
        show(f"kill -TERM {server.pid}")
        server.terminate()
        code = server.wait(STOP_SECONDS)
        if code:
            sys.exit(f"The server was to exit 0, and exited {code}.")
        click.echo("The server has stopped and exited 0.")
    except BaseException as error:
        stop(server)
        if not isinstance(error, KeyboardInterrupt):
            click.echo("The server's log ends so:", err=True)
            click.echo("\n".join(log.read_text().splitlines()[-20:]), err=True)
        raise


def address_of(server: subprocess.Popen[bytes]) -> str:
    """Returns what the server says that it serves on."""
    assert server.stdout is not None
    ready, _, _ = select.select([server.stdout], [], [], START_SECONDS)
    line = server.stdout.readline().decode().strip() if ready else ""
    if not line.startswith("Serving on "):
        sys.exit("The server did not start.")
    click.echo(line)
    return line.removeprefix("Serving on ")


def client(*arguments: str) -> None:
    """Runs the client on this terminal; ends this program if that fails."""
    command = ["mnist-client", *arguments]
    show(shlex.join(command))
    process = subprocess.Popen([PROGRAMS / command[0], *command[1:]])
    try:
        code = process.wait(COMMAND_SECONDS)
    except KeyboardInterrupt:  # the terminal has told the client too
        stop(process, patience=STOP_SECONDS)
        raise
    except BaseException:
        stop(process)
        raise
    if code:
        sys.exit(f"{command[0]} {command[1]} exited {code}.")


def write_pictures(digits: Dataset, folder: Path) -> Path:
    """Writes test digits as people have them, PNG files: the first as MNIST has it, the others dark on light,
    larger and off centre."""
    folder.mkdir()
    split = digits.test or digits.train
    for place, (image, label) in enumerate(zip(split.images[:DIGITS], split.labels[:DIGITS], strict=True)):
        picture = Image.fromarray(image)
        if place:
            paper = Image.new("L", (400, 300), 255)
            ink = picture.resize((200, 200), Image.Resampling.BICUBIC).point(lambda grey: 255 - grey)
            paper.paste(ink, (30 * place, 20 * place))
            picture = paper
        picture.save(folder / f"test-{place}-is-a-{label}.png")
    click.echo(f"\nWrote the first {DIGITS} test digits as pictures into {folder}")
    return folder


def show(command: str) -> None:
    """Prints a command before it runs."""
    click.secho(f"\n$ {command}", bold=True)


def stop(process: subprocess.Popen[bytes], patience: float = 0.0) -> None:
    """Ends a process, by force if it does not end by itself or when asked. Ctrl-C does not interrupt this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for ask, seconds in ((None, patience), (process.terminate, STOP_SECONDS), (process.kill, STOP_SECONDS)):
        if ask is not None:
            ask()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


def leave(number: int, _: FrameType | None) -> None:
    """Ends this program by way of every `finally`."""
    sys.exit(128 + number)


def checkout() -> str:
    """Returns what git finds changed in the checkout; nothing where there is no git."""
    command = ["git", "-C", str(REPOSITORY), "--no-optional-locks", "status", "--porcelain"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        click.echo("\nInterrupted. Nothing is left running.", err=True)
        sys.exit(130)
