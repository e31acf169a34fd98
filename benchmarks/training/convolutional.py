"""A convolutional network against PyTorch: an epoch, and a prediction; `make bench-convolution`.

Needs MNIST and the peers' environment. Writes convolutional.json and .md into benchmarks/results.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from benchmarks.training.__main__ import RESULTS, write_data
from benchmarks.training.bars import Bar
from benchmarks.training.comparison import OURS, PYTORCH_CONVOLUTIONAL, compare, predictions
from benchmarks.training.configuration import CONVOLUTIONAL
from benchmarks.training.contender import PEERS_PYTHON, REPOSITORY
from benchmarks.training.machine import commit, machine, others_seconds
from benchmarks.training.report import convolutional_markdown

ROUNDS = 5
RIVALS = (PYTORCH_CONVOLUTIONAL,)


@click.command()
def main() -> None:
    """Compare a convolutional network with PyTorch's, and write what came of it."""
    if not PEERS_PYTHON.exists():
        sys.exit("The peers' environment is not there: make .venv-peers/made")
    began, start, others = datetime.now(UTC), time.monotonic(), others_seconds()
    with tempfile.TemporaryDirectory(prefix="mnist-benchmark-") as folder:
        data = Path(folder)
        write_data(data)
        results: dict[str, Any] = {
            "command": "make bench-convolution",
            "date": began.strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(REPOSITORY),
            "machine": machine(),
            "training": compare(CONVOLUTIONAL, RIVALS, data, ROUNDS, click.echo),
            "prediction": predictions(replace(CONVOLUTIONAL, threads=1), RIVALS, data, ROUNDS),
        }
    seconds = time.monotonic() - start
    results["minutes"] = round(seconds / 60, 1)
    if others is not None:
        results["cores_busy_with_other_things"] = round(((others_seconds() or 0.0) - others) / seconds, 3)
    results["bars"] = [bar.to_dict() for bar in _bars(results)]
    for bar in results["bars"]:
        click.echo(f"  {bar['what']}: {bar['measured']:.3g}{bar['unit']}, {bar['verdict']}")
    text = json.dumps(results, indent=1)
    (RESULTS / "convolutional.json").write_text(text + "\n")
    (RESULTS / "convolutional.md").write_text(convolutional_markdown(json.loads(text)))


def _bars(results: dict[str, Any]) -> list[Bar]:
    contenders = results["training"]["contenders"]
    times = zip(
        contenders[OURS]["cpu_seconds"], contenders[PYTORCH_CONVOLUTIONAL.name]["cpu_seconds"], strict=True
    )
    cpu = round(statistics.median(ours / theirs for ours, theirs in times), 4)
    ours = results["prediction"][OURS]
    return [
        Bar("an epoch of 20,000 images: processor time over that of PyTorch eager", cpu, 2.0, at_most=True),
        Bar("an image alone, one core", statistics.median(ours["alone_ms"]), 0.2, at_most=True, unit=" ms"),
        Bar(
            "an image among hundreds, one core",
            statistics.median(ours["together_ms"]),
            0.1,
            at_most=True,
            unit=" ms",
        ),
    ]


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(str(error))
