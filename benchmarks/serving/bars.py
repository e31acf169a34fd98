"""The bars: what serving is to reach, and what was measured. One that could not be measured is not met."""

from collections.abc import Iterator
from typing import Any

from benchmarks.serving.comparison import Setting, entry_name, median_ratio
from benchmarks.serving.protocol import INFER, INFER_UINT8, PREDICT, Protocol
from benchmarks.serving.recipes import NULL, OURS, PUBLIC, TRITON
from benchmarks.training.bars import Bar

ONE, EIGHT, SIXTY_FOUR = Setting(1), Setting(8), Setting(64)
HUNDRED, THOUSAND = Setting(8, images=100), Setting(8, images=1000)
SETTINGS = (ONE, EIGHT, SIXTY_FOUR, HUNDRED, THOUSAND)
# Ours over Triton, with as many bytes for both, and the stretch.
_AGAINST_TRITON = {
    ONE: (1.2, 1.35),
    EIGHT: (2.2, 2.8),
    SIXTY_FOUR: (2.2, 3.0),
    HUNDRED: (2.0, None),
    THOUSAND: (1.0, 1.15),
}


def bars(results: dict[str, Any]) -> Iterator[tuple[str, Bar | None]]:
    """Yields what each bar is about, and the bar if its figures are there."""
    comparisons = results["comparisons"]

    def row(setting: Setting, recipe: str, protocol: Protocol) -> dict[str, Any] | None:
        found: dict[str, Any] | None = comparisons.get(setting.name, {}).get(entry_name(recipe, protocol))
        return None if found is None or "trouble" in found else found

    def versus(
        what: str,
        setting: Setting,
        one: tuple[str, Protocol],
        other: tuple[str, Protocol],
        goal: float,
        stretch: float | None = None,
    ) -> tuple[str, Bar | None]:
        above, below = row(setting, *one), row(setting, *other)
        what = f"{what}, {setting.name}"
        ratio = None if above is None or below is None else median_ratio(above, below)
        return what, None if ratio is None else Bar(what, ratio, goal, stretch)

    def plain(
        what: str,
        measured: float | None,
        goal: float,
        stretch: float | None = None,
        *,
        at_most: bool = True,
        unit: str = "x",
    ) -> tuple[str, Bar | None]:
        return what, None if measured is None else Bar(what, measured, goal, stretch, at_most, unit)

    pairs = ((PREDICT, INFER_UINT8), (INFER, INFER))
    for ours, theirs in pairs:
        for setting, (goal, stretch) in _AGAINST_TRITON.items():
            what = f"{ours.name} against Triton"
            yield versus(what, setting, (OURS.name, ours), (TRITON.name, theirs), goal, stretch)
    for ours, _ in pairs:
        what = f"{ours.name} against the C++ null server"
        yield versus(what, SIXTY_FOUR, (OURS.name, ours), (NULL.name, ours), 0.4, 0.5)
    for ours, _ in pairs:
        found = row(SIXTY_FOUR, OURS.name, ours) or {}
        what = f"{ours.name}, {SIXTY_FOUR.name}"
        yield plain(f"{what}: CPU a request", found.get("cpu_us"), 60, 46, unit=" us")
        yield plain(f"{what}: p99", found.get("p99_ms"), 8, 6, unit=" ms")
    found = row(THOUSAND, OURS.name, PREDICT) or {}
    what = f"{PREDICT.name}: images a second, 1000 a request"
    yield plain(what, found.get("images_per_second"), 200_000, 250_000, at_most=False, unit="")
    for ours, _ in pairs:
        what = f"{ours.name}: fast path against public path"
        yield versus(what, SIXTY_FOUR, (OURS.name, ours), (PUBLIC.name, ours), 1.5)
    start = results["starting"].get(OURS.name, {})
    yield plain("start to first answer", start.get("median_seconds"), 0.8, 0.5, unit=" s")
    yield plain("resident memory of a worker", start.get("largest_process_mib"), 80, unit=" MiB")
    beside = results["beside_training"]["pinned"]
    what = "Predict 200 times a second while a job trains on the same core"
    yield plain(f"{what}: p99", beside.get("median_training_p99_ms"), 20, unit=" ms")
    yield plain(f"{what}: p99 over that alone", beside.get("median_ratio"), 3)
    workers = results["workers"]
    yield plain("two workers: CPU a request over one's", workers.get("median_cpu_ratio"), 1.15)
    share = workers.get("median_smaller_share")
    share = None if share is None else 100 * share
    yield plain(
        "two workers: share of the one that answers less, 16 connections", share, 40, at_most=False, unit=" %"
    )
    stream = results["streaming"].get("median_ratio")
    yield plain("PredictStream over Predict, one connection, one image a message", stream, 2, at_most=False)
