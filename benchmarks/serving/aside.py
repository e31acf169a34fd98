"""Measurements aside from the rounds: starting, memory, streams, a training beside, and two workers."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving.comparison import Entry, Measured, Say, Setting, awake, measure
from benchmarks.serving.contender import Contender, Questions, Unfit
from benchmarks.serving.generator import Load, Overload, closed_loop, paced, streams
from benchmarks.serving.protocol import PREDICT, STREAM_PATH, stream_messages
from benchmarks.serving.recipes import OURS, TWO_WORKERS, Missing, Recipe

from mnist_client import Client, EpochFinished
from mnist_client.datasets import Dataset

STREAM_MESSAGES, STREAMS = 1000, 10
PACE, PACE_SECONDS = 200.0, 5.0
TRAIN_EPOCHS = 100_000
CONNECTIONS = 16


def starting(
    recipes: Sequence[Recipe], questions: Questions, shared: Path, rounds: int, cores: Sequence[int], say: Say
) -> dict[str, Any]:
    """Starts each several times: seconds to the first answer, and resident memory after it."""
    results: dict[str, Any] = {}
    for number in range(rounds):
        for recipe in recipes:
            folder = shared / f"start-{number}-{recipe.name}"
            try:
                with Contender(recipe, questions, shared, folder, cores) as contender:
                    seconds = contender.first_answer()
                    contender.process.settle()
                    memory = contender.process.resident_mib()
            except (Missing, Unfit) as error:
                results[recipe.name] = {"trouble": str(error)}
                continue
            row = results.setdefault(recipe.name, {"seconds": [], "resident_mib": []})
            row["seconds"].append(round(seconds, 4))
            row["resident_mib"].append([round(each, 1) for each in memory])
    for name, row in results.items():
        if "trouble" not in row:
            row["median_seconds"] = statistics.median(row["seconds"])
            row["largest_process_mib"] = statistics.median(each[0] for each in row["resident_mib"])
            row["all_processes_mib"] = statistics.median(sum(each) for each in row["resident_mib"])
            say(
                f"  {name:24} {row['median_seconds']:6.2f} s to the first answer, "
                f"{row['largest_process_mib']:6.1f} MiB resident"
            )
    return results


def streaming(
    contender: Contender,
    everyone: Sequence[Contender],
    questions: Questions,
    rounds: int,
    seconds: float,
    cores: Sequence[int],
    say: Say,
) -> dict[str, Any]:
    """PredictStream against Predict, both over one connection with one image a message."""
    images = questions.images[:STREAM_MESSAGES]
    messages = stream_messages(images)
    unary, streamed = [], []
    try:
        with awake(contender, everyone):
            size = contender.validate(PREDICT, 1)
            answers = contender.validate_stream(STREAM_MESSAGES)
            for _ in range(rounds):
                payload = questions.payload(PREDICT, 1)
                load = closed_loop(
                    contender.address, PREDICT, payload, size, in_flight=64, seconds=seconds, cores=cores
                )
                unary.append(round(load.per_second, 1))
                took = streams(contender.address, STREAM_PATH, messages, answers, count=STREAMS, cores=cores)
                streamed.append(round(STREAM_MESSAGES * STREAMS / took, 1))
    except (Overload, Unfit) as error:
        return {"trouble": str(error)}
    ratio = statistics.median(one / other for one, other in zip(streamed, unary, strict=True))
    say(f"  PredictStream {statistics.median(streamed):,.0f} images/s, {ratio:.2f} times Predict's")
    return {"unary_per_second": unary, "stream_per_second": streamed, "median_ratio": round(ratio, 4)}


def beside_training(
    questions: Questions,
    dataset: Dataset,
    shared: Path,
    rounds: int,
    server_cores: Sequence[int],
    cores: Sequence[int],
    say: Say,
) -> dict[str, Any]:
    """Predict at a steady pace, alone and while a job trains, on a server held to `server_cores`."""
    alone: list[Load] = []
    training: list[Load] = []
    folder = shared / f"beside-training-{len(server_cores)}"
    try:
        with (
            Contender(OURS, questions, shared, folder, server_cores) as contender,
            Client(contender.address) as client,
        ):
            contender.first_answer()
            contender.process.settle()
            size = contender.validate(PREDICT, 1)

            def ask() -> Load:
                payload = questions.payload(PREDICT, 1)
                return paced(
                    contender.address,
                    PREDICT,
                    payload,
                    size,
                    per_second=PACE,
                    seconds=PACE_SECONDS,
                    cores=cores,
                )

            ask()
            for _ in range(rounds):
                alone.append(ask())
                with _training(client, dataset):
                    training.append(ask())
    except (Missing, Overload, Unfit) as error:
        return {"trouble": str(error)}
    ratio = statistics.median(one.p99_ms / other.p99_ms for one, other in zip(training, alone, strict=True))
    results = {
        "server_cores": len(server_cores),
        "per_second": PACE,
        "alone_p99_ms": [round(load.p99_ms, 3) for load in alone],
        "training_p99_ms": [round(load.p99_ms, 3) for load in training],
        "median_alone_p99_ms": round(statistics.median(load.p99_ms for load in alone), 3),
        "median_training_p99_ms": round(statistics.median(load.p99_ms for load in training), 3),
        "median_ratio": round(ratio, 3),
    }
    say(
        f"  {len(server_cores)} cores: p99 {results['median_alone_p99_ms']} ms alone, "
        f"{results['median_training_p99_ms']} ms while a job trains"
    )
    return results


@contextmanager
def _training(client: Client, dataset: Dataset) -> Iterator[None]:
    """A job computes, from its first finished epoch until the context ends."""
    job = client.train(dataset.train, epochs=TRAIN_EPOCHS)
    try:
        next(event for event in job.watch() if isinstance(event, EpochFinished))
        yield
    finally:
        job.cancel()
        for _ in job.watch():  # until it has ended
            pass


def workers(
    questions: Questions, shared: Path, rounds: int, seconds: float, cores: Sequence[int], say: Say
) -> dict[str, Any]:
    """One worker and two on all cores, asked in turn over 16 connections."""
    setting = Setting(64, connections=CONNECTIONS)
    rows: dict[str, list[Measured]] = {OURS.name: [], TWO_WORKERS.name: []}
    try:
        with (
            Contender(OURS, questions, shared, shared / "one-worker", cores) as one,
            Contender(TWO_WORKERS, questions, shared, shared / "two-workers", cores) as two,
        ):
            sizes = {}
            for contender in (one, two):
                contender.first_answer()
                contender.process.settle()
                sizes[contender.name] = contender.validate(PREDICT, 1)
            for number in range(rounds):
                for contender in (one, two)[:: -1 if number % 2 else 1]:
                    entry = Entry(contender, PREDICT)
                    with awake(contender, (one, two)):
                        measured = measure(entry, setting, questions, sizes[contender.name], seconds, cores)
                    rows[contender.name].append(measured)
    except (Missing, Overload, Unfit) as error:
        return {"trouble": str(error)}
    alone, both = rows[OURS.name], rows[TWO_WORKERS.name]
    shares = [round(each.shares[1], 4) if len(each.shares) > 1 else 0.0 for each in both]
    results = {
        "cores": len(cores),
        "connections": CONNECTIONS,
        "one_per_second": [round(each.load.per_second, 1) for each in alone],
        "two_per_second": [round(each.load.per_second, 1) for each in both],
        "one_cpu_us": [round(each.cpu_us, 2) for each in alone],
        "two_cpu_us": [round(each.cpu_us, 2) for each in both],
        "median_cpu_ratio": round(
            statistics.median(b.cpu_us / a.cpu_us for a, b in zip(alone, both, strict=True)), 4
        ),
        # The work is the requests: the second busiest process has the smaller share of both.
        "smaller_share": shares,
        "median_smaller_share": statistics.median(shares),
    }
    say(
        f"  two workers: {results['median_cpu_ratio']} times the CPU a request, "
        f"the second one answers {results['median_smaller_share']:.0%}"
    )
    return results
