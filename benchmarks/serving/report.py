"""The report: the results of a run as a page of Markdown."""

import statistics
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.serving.bars import SETTINGS
from benchmarks.serving.comparison import ratios
from benchmarks.serving.recipes import OURS


def markdown(results: dict[str, Any]) -> str:
    """Returns the page."""
    return "\n".join(_lines(results)).rstrip() + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    yield from _heading("# Serving, against peers")
    yield from _paragraph(
        f"Written by `{results['command']}` on {results['date']}, at commit {results['commit']}, in "
        f"{results['minutes']:.0f} minutes. {machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}, {results['generator']}. {_others(results)} All figures, round by "
        "round, are in `serving.json`."
    )
    yield from _paragraph(
        "Everyone serves the same 784-100-10 network on one core, and is asked from another by h2load, with "
        "a deadline, in rounds: the others are paused meanwhile. Before anything is timed, its answers to "
        "the very requests that are timed are compared with the forward pass in NumPy; while it is, the "
        "bytes that come back say that each answer was one. Unless a table says otherwise all requests share "
        "one connection; HTTP/1.1 has one for each in flight. Figures are medians over "
        f"{results['rounds']} rounds of {results['seconds']:g} s. A ratio is requests a second over those of "
        "the contender that it names, from the same round; its median counts. Latency is h2load's, in a "
        "closed loop. CPU is user and system time of the server's processes, a request."
    )
    yield from _paragraph(
        "The null server computes nothing and answers every request, of any size, with the answer to one "
        "image: a limit, not a peer. So is the bare completion queue: Python, NumPy and gRPC's core, with "
        "nothing else served. MLServer, KServe and Triton get float32 as the Open Inference Protocol has it, "
        "Triton uint8 too, which its own models may take; LitServe and BentoML speak HTTP."
    )
    yield from _paragraph("![Requests and images a second, by contender](serving.png)")
    met = sum(bar["met"] for bar in results["bars"])
    yield from _heading(f"## Bars: {met} of {len(results['bars'])} met")
    yield from _table(("bar", "goal", "stretch", "measured", "verdict"), map(_bar, results["bars"]))
    for setting in SETTINGS:
        yield from _comparison(setting.name, setting.images, results["comparisons"][setting.name])
    yield from _heading("## Starting, on one core")
    yield from _table(
        ("contender", "s to the first answer", "MiB, largest process", "MiB, all processes", "versions"),
        (
            (
                _strong(name),
                f"{row['median_seconds']:.2f}",
                f"{row['largest_process_mib']:.0f}",
                f"{row['all_processes_mib']:.0f}",
                _versions(results["versions"].get(name, {})),
            )
            for name, row in results["starting"].items()
            if "trouble" not in row
        ),
    )
    yield from _paragraph("Resident memory after the first answer; pages that processes share count in each.")
    yield from _asides(results)
    for name, times in results.get("restarts", {}).items():
        yield from _paragraph(
            f"{name} ended by itself {times} times when the generator left in the middle of requests; it was "
            "started again, and asked again."
        )
    absent = results["absent"] | _troubles(results)
    if absent:
        yield from _heading("## Not there")
        for name, why in absent.items():
            yield from textwrap.wrap(f"- {name}: {why}", 110, subsequent_indent="  ", break_long_words=False)
        yield ""


def _asides(results: dict[str, Any]) -> Iterator[str]:
    stream, workers = results["streaming"], results["workers"]
    if "trouble" not in stream:
        yield from _heading("## One connection, streamed")
        yield from _paragraph(
            f"PredictStream answers {_median(stream['stream_per_second']):,.0f} images a second, one a "
            f"message, sent as fast as flow control lets them; Predict, 64 in flight, "
            f"{_median(stream['unary_per_second']):,.0f}. The ratio is {_number(stream['median_ratio'])}."
        )
    yield from _heading("## While a job trains")
    yield from _table(
        ("server", "p99 alone, ms", "p99 while training, ms", "ratio"),
        (
            (
                f"{row['server_cores']} core{'s' if row['server_cores'] > 1 else ''}, trainer and all",
                _number(row["median_alone_p99_ms"]),
                _number(row["median_training_p99_ms"]),
                _number(row["median_ratio"]),
            )
            for row in results["beside_training"].values()
            if "trouble" not in row
        ),
    )
    yield from _paragraph("Predict of one image, 200 times a second, at fixed times whatever the answers do.")
    if "trouble" not in workers:
        yield from _heading("## Two workers")
        yield from _paragraph(
            f"{workers['connections']} connections, 64 in flight, servers and load on the same "
            f"{workers['cores']} cores: two workers use {_number(workers['median_cpu_ratio'])} times the "
            f"processor time of one a request, and the second one does {workers['median_smaller_share']:.0%} "
            "of the work. One worker answers "
            f"{_median(workers['one_per_second']):,.0f} requests a second, two "
            f"{_median(workers['two_per_second']):,.0f}"
            + ("." if workers["cores"] > 2 else ", with the load on the same two cores.")
        )


def _troubles(results: dict[str, Any]) -> dict[str, str]:
    found = {
        name: row["trouble"]
        for rows in results["comparisons"].values()
        for name, row in rows.items()
        if "trouble" in row
    }
    asides = {"PredictStream": results["streaming"], "two workers": results["workers"]}
    asides |= {f"a training beside, {name}": row for name, row in results["beside_training"].items()}
    asides |= {f"starting {name}": row for name, row in results["starting"].items()}
    return found | {name: row["trouble"] for name, row in asides.items() if "trouble" in row}


def _comparison(name: str, images: int, rows: dict[str, Any]) -> Iterator[str]:
    yield from _heading(f"## {name}")
    present = {entry: row for entry, row in rows.items() if "trouble" not in row}
    ours = [entry for entry in present if entry.startswith(f"{OURS.name}:")]
    rate = "images/s" if images > 1 else "requests/s"
    heads = tuple(f"{entry.split(': ')[1]} is so many times" for entry in ours)
    yield from _table(
        ("contender", rate, "p50 ms", "p99 ms", "CPU us a request", *heads),
        (
            (
                _strong(entry),
                f"{row['images_per_second']:,.0f}",
                _number(row["p50_ms"]),
                _number(row["p99_ms"]),
                _number(row["cpu_us"]),
                *(_ratio(present[one], row) if one != entry else "1" for one in ours),
            )
            for entry, row in sorted(present.items(), key=lambda item: -item[1]["per_second"])
        ),
    )


def _ratio(above: dict[str, Any], below: dict[str, Any]) -> str:
    found = ratios(above, below)
    return f"{_number(_median(found))} ({_number(min(found))} to {_number(max(found))})"


def _bar(bar: dict[str, Any]) -> tuple[str, ...]:
    if "measured" not in bar:
        return bar["what"], "", "", "", f"**{bar['verdict']}**"
    return (
        bar["what"],
        ("at most " if bar["at_most"] else "at least ") + _number(bar["goal"]) + bar["unit"],
        "" if bar["stretch"] is None else _number(bar["stretch"]) + bar["unit"],
        _number(bar["measured"]) + bar["unit"],
        bar["verdict"] if bar["met"] else f"**{bar['verdict']}**",
    )


def _strong(name: str) -> str:
    return f"**{name}**" if name.startswith(OURS.name) else name


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{library} {version}" for library, version in versions.items())


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _others(results: dict[str, Any]) -> str:
    others = results.get("cores_busy_with_other_things")
    return (
        "" if others is None else f"Meanwhile other things kept {others:.2f} of the cores busy, on average."
    )


def _heading(text: str) -> Iterator[str]:
    yield text
    yield ""


def _paragraph(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 110)
    yield ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
