"""The serving benchmark: ours against peers, on one core, asked by one generator; `make bench-serving`.

Linux, with h2load. Writes serving.json, .md and .png into benchmarks/results.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from benchmarks.serving import generator
from benchmarks.serving.aside import beside_training, starting, streaming, workers
from benchmarks.serving.bars import HUNDRED, ONE, SETTINGS, SIXTY_FOUR, bars
from benchmarks.serving.comparison import Entry, compare
from benchmarks.serving.contender import Contender, Questions, Unfit
from benchmarks.serving.model import make_model
from benchmarks.serving.recipes import (
    BARE,
    ENVIRONMENTS,
    NOT_RUN,
    NULL,
    OURS,
    PUBLIC,
    RECIPES,
    REPOSITORY,
    TRITON,
    Missing,
)
from benchmarks.serving.report import markdown
from benchmarks.training.machine import commit, machine, others_seconds

from mnist_client.datasets import Dataset

RESULTS = REPOSITORY / "benchmarks" / "results"
PLOT_SECONDS = 60
ROUNDS, SECONDS = 7, 1.0
START_ROUNDS, ASIDE_ROUNDS = 5, 5


@click.command()
@click.option("--quick", is_flag=True, help="Some contenders and settings, two rounds; nothing is written.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each comparison (7).")
@click.option("--seconds", type=click.FloatRange(0.1), default=SECONDS, help="Seconds of each measurement.")
def main(quick: bool, rounds: int | None, seconds: float) -> None:
    """Compare serving with peers, and write what came of it."""
    trouble = generator.available()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if trouble or len(cores) < 2:
        sys.exit(trouble or "Two cores are needed, one for the server and one for the load, and Linux")
    os.sched_setaffinity(0, cores[1:])
    signal.signal(signal.SIGTERM, _terminate)
    began, start, others = datetime.now(UTC), time.monotonic(), others_seconds()
    with tempfile.TemporaryDirectory(prefix="mnist-benchmark-") as folder, ExitStack() as stack:
        run = Run(Path(folder), cores, rounds or (2 if quick else ROUNDS), seconds, stack)
        if quick:
            run.quick()
            return
        results = {
            "command": _command(rounds, seconds),
            "date": began.strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(REPOSITORY),
            "machine": machine(),
            "generator": f"h2load {generator.version()}",
            **run.everything(),
        }
    lasted = time.monotonic() - start
    results["minutes"] = round(lasted / 60, 1)
    if others is not None:
        results["cores_busy_with_other_things"] = round(((others_seconds() or 0.0) - others) / lasted, 3)
    write(results)


class Run:
    """One run of the benchmark: the server on the first core, the generator on the next."""

    def __init__(self, shared: Path, cores: list[int], rounds: int, seconds: float, stack: ExitStack) -> None:
        self._shared = shared
        self._all = cores
        self._pinned, self._load = cores[:1], cores[1:2]
        self._rounds = rounds
        self._seconds = seconds
        self._stack = stack
        self._questions: Questions
        self._dataset: Dataset
        self._absent: dict[str, str] = dict(NOT_RUN)
        click.echo("Training the model")
        self._questions, self._dataset = make_model(shared, self._all)

    def everything(self) -> dict[str, Any]:
        """Returns all figures and what they say of each bar."""
        contenders = self._start(RECIPES)
        results: dict[str, Any] = {"rounds": self._rounds, "seconds": self._seconds}
        results["versions"] = {contender.name: contender.versions for contender in contenders}
        results["comparisons"] = compare(
            self._entries(contenders),
            SETTINGS,
            self._questions,
            self._rounds,
            self._seconds,
            self._load,
            click.echo,
        )
        results["restarts"] = {each.name: each.restarts for each in contenders if each.restarts}
        results |= self._aside(contenders)
        results["absent"] = self._absent
        results["bars"] = [
            {"what": what, "met": False, "verdict": "not measured"} if bar is None else bar.to_dict()
            for what, bar in bars(results)
        ]
        for bar in results["bars"]:
            figure = f": {bar['measured']:,.4g}{bar['unit']}" if "measured" in bar else ""
            click.echo(f"  {bar['what']}{figure}, {bar['verdict']}")
        return results

    def quick(self) -> None:
        """Prints some of it."""
        contenders = self._start((OURS, PUBLIC, TRITON, NULL, BARE))
        settings = (ONE, SIXTY_FOUR, HUNDRED)
        compare(
            self._entries(contenders),
            settings,
            self._questions,
            self._rounds,
            self._seconds,
            self._load,
            click.echo,
        )

    def _start(self, recipes: tuple[Any, ...]) -> list[Contender]:
        contenders: list[Contender] = []
        for recipe in recipes:
            folder = self._shared / recipe.name.replace(" ", "-")
            try:
                contender = self._stack.enter_context(
                    Contender(recipe, self._questions, self._shared, folder, self._pinned)
                )
                seconds = contender.first_answer()
                contender.process.settle()
            except (Missing, Unfit) as error:
                self._absent[recipe.name] = str(error)
                click.echo(f"  {recipe.name} is left out: {error}")
                continue
            click.echo(f"  {recipe.name} answers after {seconds:.2f} s")
            contenders.append(contender)
            contender.process.pause()
        for contender in contenders:
            contender.process.resume()
        return contenders

    @staticmethod
    def _entries(contenders: list[Contender]) -> list[Entry]:
        return [
            Entry(contender, protocol) for contender in contenders for protocol in contender.recipe.protocols
        ]

    def _aside(self, contenders: list[Contender]) -> dict[str, Any]:
        [ours] = [contender for contender in contenders if contender.recipe is OURS]
        click.echo("One connection, streamed and not")
        results: dict[str, Any] = {
            "streaming": streaming(
                ours, contenders, self._questions, self._rounds, self._seconds, self._load, click.echo
            )
        }
        self._stack.close()  # what is measured from here on is started anew
        click.echo("Starting")
        present = [contender.recipe for contender in contenders]
        results["starting"] = starting(
            present, self._questions, self._shared, START_ROUNDS, self._pinned, click.echo
        )
        click.echo("While a job trains")
        results["beside_training"] = {
            name: beside_training(
                self._questions, self._dataset, self._shared, ASIDE_ROUNDS, cores, self._load, click.echo
            )
            for name, cores in (("pinned", self._pinned), ("free", self._all))
        }
        click.echo("Two workers")
        results["workers"] = workers(
            self._questions, self._shared, ASIDE_ROUNDS, self._seconds, self._all, click.echo
        )
        return results


def write(results: dict[str, Any]) -> None:
    """Writes the three files of results."""
    RESULTS.mkdir(exist_ok=True)
    written = RESULTS / "serving.json"
    text = json.dumps(results, indent=1)
    written.write_text(text + "\n")
    (RESULTS / "serving.md").write_text(markdown(json.loads(text)))
    python = ENVIRONMENTS / "plot" / "bin" / "python"
    if not python.exists():
        click.echo("No plot: make .venv-serving/plot/made")
        return
    plot = [str(python), "-m", "benchmarks.serving.plot", str(written), str(written.with_suffix(".png"))]
    subprocess.run(plot, check=True, cwd=REPOSITORY, timeout=PLOT_SECONDS)
    click.echo(f"Wrote {written.with_suffix('')}.json, .md and .png")


def _command(rounds: int | None, seconds: float) -> str:
    if rounds is None and seconds == SECONDS:
        return "make bench-serving"
    options = f"--rounds {rounds or ROUNDS} --seconds {seconds:g}"
    return f"python -m benchmarks.serving {options}"


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # by way of the contexts, which end what was started


if __name__ == "__main__":
    main()
