"""A comparison is one question asked of every contender in turn, in rounds, the others paused meanwhile.

The machine's speed changes from minute to minute, so only measurements of one round are compared. A ratio is
ours over the other's, and what counts is its median over the rounds.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.serving.contender import Contender, Questions, Unfit
from benchmarks.serving.generator import Load, Overload, closed_loop
from benchmarks.serving.protocol import Protocol

Say = Callable[[str], None]

FINISH_SECONDS = 0.15
_TRIES = 4  # to measure a contender that dies of it


@dataclass(frozen=True)
class Setting:
    """So many requests in flight, of so many images each, over so many connections."""

    in_flight: int
    images: int = 1
    connections: int = 1

    @property
    def name(self) -> str:
        """As results have it."""
        several = f", {self.images:,} images a request" if self.images > 1 else ""
        return f"{self.in_flight} in flight{several}"


@dataclass(frozen=True)
class Entry:
    """A contender asked in one of its protocols."""

    contender: Contender
    protocol: Protocol

    @property
    def name(self) -> str:
        """As results have it."""
        return entry_name(self.contender.name, self.protocol)


def entry_name(contender: str, protocol: Protocol) -> str:
    """Returns what results call a contender asked in a protocol."""
    return f"{contender}: {protocol.name}"


@dataclass(frozen=True)
class Measured:
    """One measurement.

    cpu_us: processor time of the server, a request. shares: of its processes in that, the largest first.
    """

    load: Load
    cpu_us: float
    shares: tuple[float, ...]


@contextmanager
def awake(contender: Contender, others: Sequence[Contender]) -> Iterator[None]:
    """Only this one runs; afterwards none does."""
    for other in others:
        if other is not contender:
            other.process.pause()
    contender.process.resume()
    try:
        yield
        # What it was asked last is answered before it is paused. In the middle of a request, Triton takes a
        # helper that is silent for a second for dead, and may die of that.
        time.sleep(FINISH_SECONDS)
    finally:
        # Were all let go on for a moment, a supervisor would look, again and again, at workers that had none.
        contender.process.pause()


def measure(
    entry: Entry,
    setting: Setting,
    questions: Questions,
    answer_bytes: int,
    seconds: float,
    cores: Sequence[int],
) -> Measured:
    """Asks for so many seconds. Raises Overload."""
    payload = questions.payload(entry.protocol, setting.images)
    before = entry.contender.process.cpu_seconds()
    load = closed_loop(
        entry.contender.address,
        entry.protocol,
        payload,
        answer_bytes,
        in_flight=setting.in_flight,
        connections=setting.connections,
        seconds=seconds,
        cores=cores,
    )
    after = entry.contender.process.cpu_seconds()
    used = sorted((after[pid] - before.get(pid, 0.0) for pid in after), reverse=True)
    total = sum(used)
    return Measured(load, total / load.requests * 1e6, tuple(each / total for each in used if total))


def alive(contender: Contender, ask: Callable[[], Measured]) -> Measured:
    """Returns what asking gives. A contender that ends of it is started and asked again, some times.

    Raises Overload.
    """
    for _ in range(_TRIES - 1):
        revive(contender)
        try:
            return ask()
        except Overload:
            if contender.process.running():
                raise
    revive(contender)
    return ask()


def revive(contender: Contender) -> None:
    """Starts a contender that has ended by itself. Raises Unfit."""
    # The generator ends in the middle of requests, which Triton's gRPC threads sometimes die of (signal 11).
    if not contender.process.running():
        contender.restart()


def compare(
    entries: Sequence[Entry],
    settings: Sequence[Setting],
    questions: Questions,
    rounds: int,
    seconds: float,
    cores: Sequence[int],
    say: Say,
) -> dict[str, Any]:
    """Returns by setting and entry the figures of every round, and their medians.

    What an entry cannot do is `trouble` in its place, and goes on without it.
    """
    everyone = list({id(entry.contender): entry.contender for entry in entries}.values())
    results: dict[str, Any] = {}
    for setting in settings:
        rows: dict[str, list[Measured]] = {}
        trouble: dict[str, str] = {}
        sizes: dict[str, int] = {}
        for entry in entries:
            try:
                with awake(entry.contender, everyone):
                    revive(entry.contender)
                    sizes[entry.name] = entry.contender.validate(entry.protocol, setting.images)
            except Unfit as error:
                trouble[entry.name] = str(error)
                say(f"  not there: {error}")
        for number in range(rounds):
            for entry in entries[:: -1 if number % 2 else 1]:
                if entry.name in trouble:
                    continue
                try:
                    ask = partial(measure, entry, setting, questions, sizes[entry.name], seconds, cores)
                    with awake(entry.contender, everyone):
                        measured = alive(entry.contender, ask)
                except (Overload, Unfit) as error:
                    trouble[entry.name] = str(error)
                    rows.pop(entry.name, None)
                    say(f"  {entry.name}: {error}")
                    continue
                rows.setdefault(entry.name, []).append(measured)
        results[setting.name] = {name: figures(measured, setting) for name, measured in rows.items()}
        results[setting.name] |= {name: {"trouble": text} for name, text in trouble.items()}
        say(setting.name)
        for name, row in results[setting.name].items():
            if "trouble" not in row:
                say(
                    f"  {name:44} {row['per_second']:>9,.0f} requests/s  p50 {row['p50_ms']:7.2f} ms  "
                    f"p99 {row['p99_ms']:7.2f} ms  {row['cpu_us']:7.0f} us CPU"
                )
    return results


def figures(measured: Sequence[Measured], setting: Setting) -> dict[str, Any]:
    """Returns medians over the rounds, and the rounds."""

    def median(values: Sequence[float], digits: int) -> float:
        return round(statistics.median(values), digits)

    rates = [each.load.per_second for each in measured]
    return {
        "per_second": median(rates, 1),
        "images_per_second": median([rate * setting.images for rate in rates], 1),
        "p50_ms": median([each.load.p50_ms for each in measured], 4),
        "p99_ms": median([each.load.p99_ms for each in measured], 4),
        "cpu_us": median([each.cpu_us for each in measured], 2),
        "rounds": {
            "per_second": [round(rate, 1) for rate in rates],
            "p99_ms": [round(each.load.p99_ms, 4) for each in measured],
            "cpu_us": [round(each.cpu_us, 2) for each in measured],
        },
    }


def ratios(above: dict[str, Any], below: dict[str, Any], figure: str = "per_second") -> list[float]:
    """Returns a figure of one over that of the other, round by round."""
    pairs = zip(above["rounds"][figure], below["rounds"][figure], strict=True)
    return [one / other for one, other in pairs]


def median_ratio(above: dict[str, Any], below: dict[str, Any], figure: str = "per_second") -> float:
    """Returns the median of `ratios`, which is not the ratio of the medians."""
    return round(statistics.median(ratios(above, below, figure)), 4)
