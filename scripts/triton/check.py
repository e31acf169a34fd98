"""Triton's own clients against this server: tritonclient and perf_analyzer, unmodified.

Run by `make check-triton`. A server is started, a network trained on mnist-5k, and then asked by the newest
tritonclient, in all its forms (conversation.py), and by perf_analyzer, with its defaults. What they print is
kept in benchmarks/results/triton_clients.md. Ends with 1 if one of them is not content.
"""

import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mnist_client.datasets import load_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent
TRITON = REPOSITORY / ".venv-triton"
PERF_ANALYZER = TRITON / "perf" / "perf_analyzer"
REPORT = REPOSITORY / "benchmarks" / "results" / "triton_clients.md"
START_SECONDS, RUN_SECONDS, STOP_SECONDS = 30, 120, 10
IMAGES = 200

# A second a window, and whatever comes out of some of them: this asks whether it works, not how fast.
BRIEF = ["--measurement-interval", "1000", "--stability-percentage", "999", "--max-trials", "10"]
RUNS = {
    "Its defaults: one image a request, random bytes, which as UINT8 are pixels": [],
    "Eight requests in flight": ["--concurrency-range", "8"],
    "A hundred images a request": ["-b", "100"],
    "Zeros": ["--input-data", "zero", "--concurrency-range", "8"],
    "Over ModelStreamInfer": ["--streaming", "--async", "--concurrency-range", "8"],
}


def main() -> None:
    """Runs everything and writes the report."""
    with tempfile.TemporaryDirectory(prefix="mnist-triton-") as folder, serving(Path(folder)) as address:
        client = [str(PROGRAMS / "mnist-client"), "--server", address]
        run([*client, "train", "--data", "mnist-5k", "--epochs", "3", "--seed", "1", "--name", "mnist"])
        images = Path(folder) / "images.npz"
        test = load_dataset("mnist-5k").test
        assert test is not None
        np.savez(images, images=test.images[:IMAGES], labels=test.labels[:IMAGES])
        python = str(TRITON / "bin" / "python")
        orders = [run([python, str(HERE / "messages.py"), first]) for first in ("ours", "theirs")]
        conversation = run([python, str(HERE / "conversation.py"), address, str(images)])
        performance = [(title, *perf_analyzer(address, options)) for title, options in RUNS.items()]
    REPORT.write_text(report("".join(orders), conversation, performance))
    sys.stdout.write(f"Written to {REPORT.relative_to(REPOSITORY)}\n")


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server on a free port; its address."""
    command = [str(PROGRAMS / "mnist-server"), "serve", "--port", "0", "--data-dir", str(folder / "data")]
    command.append("--no-pretrained")
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait(STOP_SECONDS)


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Runs a program to its end, shows what it printed, and returns it. Exits if the program failed."""
    # Loopback is not to be asked of a proxy.
    without = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    ended = subprocess.run(
        command,
        env=without | {"PYTHONPATH": str(REPOSITORY / "proto")} | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    sys.stdout.write(ended.stdout)
    sys.stdout.flush()
    if ended.returncode:
        sys.exit(f"{shlex.join(command)} ended with {ended.returncode}")
    return ended.stdout


def perf_analyzer(address: str, options: list[str]) -> tuple[str, str]:
    """Returns the command as one would write it, and what perf_analyzer printed."""
    arguments = ["-m", "mnist", "-i", "grpc", *options]
    shown = shlex.join(["perf_analyzer", "-u", "HOST:PORT", *arguments])
    if not PERF_ANALYZER.exists():
        return shown, "perf_analyzer was not run: it could not be had on this machine (see the Makefile).\n"
    libraries = {"LD_LIBRARY_PATH": str(PERF_ANALYZER.parent)}
    printed = run([str(PERF_ANALYZER), "-u", address, *arguments, *BRIEF], libraries)
    if not re.search(r"Successful request count: [1-9]", printed):
        sys.exit("perf_analyzer had no answers, or read none in the statistics")
    return shown, printed


def report(orders: str, conversation: str, performance: list[tuple[str, str, str]]) -> str:
    """Returns the report, in Markdown."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("mnist-grpc", "grpcio", "protobuf", "numpy"))
    lines = [
        "# Triton's clients",
        "",
        "Written by `make check-triton`: Triton's own clients, unmodified, against this server with a",
        "network that was trained for three epochs on mnist-5k.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}; {platform.system()} {platform.machine()}, {os.cpu_count()} "
        f"processors; server: Python {platform.python_version()}, {versions}.",
        "",
        "## tritonclient",
        "",
        *fenced(orders + conversation),
        "",
        "## perf_analyzer",
        "",
        "Of tritonclient's wheel 2.50, the newest in which it runs on Debian 12. It sends what the model's",
        "metadata names, UINT8, so its default, random bytes, are pixels. As FP32 they would be numbers of",
        "any size, infinity and NaN among them, and refused.",
        f"`{shlex.join(BRIEF)}` was added to each: the question is whether it works. How fast the server is,",
        "when load does not take its processors, is in the benchmark.",
    ]
    for title, command, printed in performance:
        lines += ["", f"### {title}", "", f"    {command}", "", *fenced(printed)]
    return "\n".join(lines) + "\n"


def fenced(text: str) -> list[str]:
    """Returns lines of output as Markdown shows them."""
    return ["```", *(line.rstrip() for line in text.strip().splitlines()), "```"]


if __name__ == "__main__":
    main()
