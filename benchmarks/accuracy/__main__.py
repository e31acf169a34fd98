"""How good the recipes are: each through a real server, with each seed, all reported.

`python -m benchmarks.accuracy [--recipes "quick mlp"] [--seeds "0 1 2"]`; needs MNIST_DATA, the folder of the
four files. What is measured is added to benchmarks/results/accuracy.json, in the place of an older run of
that recipe and seed; accuracy.md is made anew from all of it. So the whole can be done piece by piece.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from benchmarks.accuracy.report import BARS, report
from benchmarks.accuracy.run import run, summary
from benchmarks.training.machine import commit, machine

from mnist_client.datasets import Dataset, Split, load_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results" / "accuracy.json"
HELD_BACK = 10_000


@click.command()
@click.option("--recipes", default="", help="Names of recipes, apart by spaces. [default: all]")
@click.option("--seeds", default="0 1 2", show_default=True, help="Seeds, apart by spaces.")
@click.option(
    "--choose",
    is_flag=True,
    help="Learn from the first 50,000 images, judge by the last 10,000 instead of the test images, write "
    "nothing: what recipes are chosen by.",
)
def main(recipes: str, seeds: str, choose: bool) -> None:
    """Measures and reports."""
    if "MNIST_DATA" not in os.environ:
        sys.exit("MNIST_DATA is not set: it names the folder of the four MNIST files, gzipped")
    dataset = load_dataset("mnist")
    if choose:
        images, labels = dataset.train.images, dataset.train.labels
        dataset = Dataset(
            "mnist",
            Split(images[:-HELD_BACK], labels[:-HELD_BACK]),
            test=Split(images[-HELD_BACK:], labels[-HELD_BACK:]),
        )
    for recipe in recipes.split() or list(BARS):
        for seed in seeds.split():
            found = run(recipe, int(seed), dataset, click.echo)
            click.echo(summary(recipe, found))
            if not choose:
                _add(recipe, seed, found | {"commit": commit(REPOSITORY)})
    if not choose:
        click.echo(f"\n{RESULTS.with_suffix('.md').read_text()}")


def _add(recipe: str, seed: str, found: dict[str, Any]) -> None:
    results: dict[str, Any] = {"runs": {}}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text())
    results["command"] = "make bench-accuracy"
    results["machine"] = machine()
    results["runs"].setdefault(recipe, {})[seed] = found
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(report(results))


if __name__ == "__main__":
    main()
