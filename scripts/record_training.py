"""Records docs/training.svg: the live view of a real training run, as a terminal shows it at its end.

Starts a server of its own on a free port, trains the classic network on MNIST, or on mnist-5k where it cannot
be had, and stops the server again. The picture's size does not depend on the run.

    python scripts/record_training.py [docs/training.svg]
"""

import io
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console  # type: ignore[attr-defined]  # save_svg points there

from mnist_client import Client
from mnist_client.datasets import DataError, Dataset, load_dataset
from mnist_client.live import TrainingView
from mnist_client.progress import TrainingProgress

WIDTH, HEIGHT = 100, 30
SEED = 1
START_SECONDS, STOP_SECONDS = 30, 15
# A picture in a README fetches nothing: rich's own format names a font on a CDN.
SVG_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace(
    "Fira Code, monospace", "Fira Code, DejaVu Sans Mono, Menlo, Consolas, monospace"
)


@contextmanager
def server() -> Iterator[str]:
    """A server on a free port, and its address."""
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).with_name("mnist-server"))
        command = [program, "serve", "--port", "0", "--data-dir", folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            late = threading.Timer(START_SECONDS, process.kill)
            late.start()
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                late.cancel()
                if not line.startswith("Serving on "):
                    raise RuntimeError(f"the server said {line!r}; expected 'Serving on HOST:PORT'")
                yield line.split()[-1]
            finally:
                late.cancel()
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()


def data() -> Dataset:
    """MNIST, or its sample of 5,000 where it cannot be had."""
    try:
        return load_dataset("mnist")
    except DataError as error:
        sys.stderr.write(f"{error}\nRecording on mnist-5k instead.\n")
        return load_dataset("mnist-5k")


def main() -> None:
    """Trains, and writes the last picture of the live view."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/training.svg")
    with server() as address, Client(address) as client:
        job = client.train(data(), name="mnist", seed=SEED)
        progress = TrainingProgress(job.name)
        for message in job.watch(notices=True):
            progress.update(message)
        made = job.result()
    console = Console(
        file=io.StringIO(),
        record=True,
        force_terminal=True,
        color_system="truecolor",
        width=WIDTH,
        height=HEIGHT,
        legacy_windows=False,
    )
    console.print(TrainingView(progress))
    console.print(f"Made {made.model_version}", highlight=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="mnist-client train --name mnist", code_format=SVG_FORMAT)
    sys.stderr.write(f"Wrote {path}\n")


if __name__ == "__main__":
    main()
