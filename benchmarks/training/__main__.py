"""The training benchmark: ours against peers on the same images, interleaved; `make bench-training`.

Needs MNIST, gcc and the peers' environment. Writes training.json, .md and .png into benchmarks/results.
"""

import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.training import comparison
from benchmarks.training.bars import bars
from benchmarks.training.comparison import compare, scaling
from benchmarks.training.configuration import CLASSIC, DEEP, HUNDRED, WIDE
from benchmarks.training.contender import PEERS_PYTHON, REPOSITORY
from benchmarks.training.machine import commit, machine, others_seconds
from benchmarks.training.report import markdown
from benchmarks.training.through_server import compare_with_server
from threadpoolctl import threadpool_limits

from mnist_client.datasets import DataError, load_dataset
from mnist_core import Dataset, Split, TrainingConfig, TrainingState, train
from mnist_core.product import load_blas

ROUNDS, QUICK_ROUNDS = 7, 2
RESULTS = REPOSITORY / "benchmarks" / "results"
PLOT_SECONDS = 60
SMALL = (
    comparison.JAX,
    comparison.PYTORCH_BY_HAND,
    comparison.SCIKIT_LEARN,
    comparison.PYTORCH_EAGER,
)
LARGE = (comparison.SGEMM, comparison.SGEMM_SHAPES, comparison.WITHOUT_SCIPY, *SMALL)
COMPARISONS = (
    (
        CLASSIC,
        (comparison.C_KERNEL, comparison.WITHOUT_SCIPY, comparison.JAX_FREE, *SMALL, comparison.TEXTBOOK),
    ),
    (HUNDRED, (comparison.WITHOUT_SCIPY, comparison.JAX_FREE, *SMALL)),
    (WIDE, LARGE),
    (DEEP, LARGE),
)


@click.command()
@click.option("--quick", is_flag=True, help="Two rounds of the classic network alone; nothing is written.")
def main(quick: bool) -> None:
    """Compare training with peers, and write what came of it."""
    if not PEERS_PYTHON.exists():
        sys.exit("The peers' environment is not there: make .venv-peers/made")
    began, start, others = datetime.now(UTC), time.monotonic(), others_seconds()
    with tempfile.TemporaryDirectory(prefix="mnist-benchmark-") as folder:
        data = Path(folder)
        write_data(data)
        if quick:
            compare(*COMPARISONS[0], data, QUICK_ROUNDS, click.echo)
            return
        results = {
            "command": "make bench-training",
            "date": began.strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(REPOSITORY),
            "machine": machine(),
            **measure(data),
        }
    seconds = time.monotonic() - start
    results["minutes"] = round(seconds / 60, 1)
    if others is not None:
        results["cores_busy_with_other_things"] = round(((others_seconds() or 0.0) - others) / seconds, 3)
    write(results)


def measure(data: Path) -> dict[str, Any]:
    """Returns all figures and what they say of each bar."""
    results: dict[str, Any] = {
        "comparisons": {
            configuration.name: compare(configuration, rivals, data, ROUNDS, click.echo)
            for configuration, rivals in COMPARISONS
        }
    }
    click.echo("Evaluating")
    results["evaluation"] = compare(
        CLASSIC, [comparison.ONNXRUNTIME], data, ROUNDS, click.echo, module="evaluate_core"
    )
    click.echo("From 6,000 to 600,000 images")
    results["scaling"] = scaling(CLASSIC, data, ROUNDS)
    click.echo("Through the server")
    results["through_server"] = compare_with_server(CLASSIC, data, ROUNDS)
    results["bars"] = [bar.to_dict() for bar in bars(results)]
    for bar in results["bars"]:
        click.echo(f"  {bar['what']}: {bar['measured']:.3g}{bar['unit']}, {bar['verdict']}")
    return results


def write_data(folder: Path) -> None:
    """Writes MNIST as arrays for the contenders, and a network after an epoch, for those that evaluate."""
    try:
        mnist = load_dataset("mnist", report=click.echo)
    except DataError as error:
        sys.exit(str(error))
    assert mnist.test is not None
    for name, split in (("train", mnist.train), ("test", mnist.test)):
        np.save(folder / f"{name}_images.npy", split.images.reshape(len(split.images), -1))
        np.save(folder / f"{name}_labels.npy", split.labels)
    config = TrainingConfig(epochs=1)
    load_blas()
    threadpool_limits(limits=config.threads, user_api="blas")
    state = TrainingState.begin(config)
    for _ in train(state, Dataset(Split(mnist.train.images, mnist.train.labels)), config):
        pass
    outputs = state.network.forward(mnist.test.images)
    np.savez(folder / "network.npz", parameters=state.network.parameters, outputs=outputs)


def write(results: dict[str, Any]) -> None:
    """Writes the three files of results."""
    RESULTS.mkdir(exist_ok=True)
    written = RESULTS / "training.json"
    text = json.dumps(results, indent=1)
    written.write_text(text + "\n")
    (RESULTS / "training.md").write_text(markdown(json.loads(text)))
    plot = [
        str(PEERS_PYTHON),
        "-m",
        "benchmarks.training.plot",
        str(written),
        str(written.with_suffix(".png")),
    ]
    subprocess.run(plot, check=True, cwd=REPOSITORY, timeout=PLOT_SECONDS)
    click.echo(f"Wrote {written.with_suffix('')}.json, .md and .png")


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(str(error))
