"""The report: the results of a run as a page of Markdown."""

import statistics
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks.training.comparison import OURS, SGEMM


def markdown(results: dict[str, Any]) -> str:
    """Returns the page."""
    return "\n".join(_lines(results)).rstrip() + "\n"


def convolutional_markdown(results: dict[str, Any]) -> str:
    """Returns the page of the convolutional network."""
    return "\n".join(_convolutional_lines(results)).rstrip() + "\n"


def _convolutional_lines(results: dict[str, Any]) -> Iterator[str]:
    yield from _heading("# A convolutional network, against PyTorch")
    yield from _paragraph(
        f"{_made(results)} All figures, round by round, are in `convolutional.json`. Both learn from the "
        "same images with AdamW, in processes that take turns, held to as many cores as threads. Ratios "
        "are paired by round; their median counts, in brackets are the smallest and the largest. Ours has "
        "one BLAS thread, and two of Python's that halve each mini-batch."
    )
    yield from _bars(results["bars"])
    training = results["training"]
    yield from _comparison("An epoch of 20,000 images", training)
    yield from _table(
        ("contender", "processor seconds an epoch, median", "rounds"),
        (
            (
                contender,
                _number(statistics.median(figures["cpu_seconds"])),
                ", ".join(f"{seconds:.2f}" for seconds in figures["cpu_seconds"]),
            )
            for contender, figures in training["contenders"].items()
        ),
    )
    yield from _heading("## A prediction, one thread")
    yield from _table(
        ("contender", "ms an image alone", "ms an image, 250 together"),
        (
            (contender, *(_number(statistics.median(values)) for values in figures.values()))
            for contender, figures in results["prediction"].items()
        ),
    )
    yield from _paragraph(
        "From 784 bytes to 10 probabilities, by networks that have learnt nothing yet, which takes as long."
    )


def _lines(results: dict[str, Any]) -> Iterator[str]:
    server = results["through_server"]
    yield from _heading("# Training, against peers")
    yield from _paragraph(f"{_made(results)} All figures, round by round, are in `training.json`.")
    yield from _paragraph(
        "Everyone trains on the same 60,000 images with the same network, mini-batches and learning rate, in "
        "processes that take turns: each epoch of another is next to one of ours. A ratio is its time over "
        "ours, more than 1 where ours is faster; its median over the rounds counts, and in brackets are "
        "the smallest and the largest. Accuracy is on the 10,000, after a first epoch that is not timed. "
        "Cores are processor time over time; all are held to as many cores as threads, but for JAX on all "
        "cores, which is told by XLA's flags to use one thread, uses more, and is slower. Peak MiB is the "
        "resident memory of the whole process."
    )
    yield from _paragraph("![Seconds an epoch, by network and contender](training.png)")
    yield from _bars(results["bars"])
    for name, comparison in results["comparisons"].items():
        yield from _comparison(name, comparison)
    yield from _comparison("Evaluating 10,000 images, 784-30-10", results["evaluation"])
    yield from _paragraph("Both start from uint8 and count what is right; their outputs are equal to 1e-5.")
    yield from _heading("## From 6,000 to 600,000 images")
    yield from _scaling(results["scaling"])
    yield from _heading("## Through the server")
    yield from _paragraph(
        f"Jobs of {server['epochs_a_round']} epochs on a server, alternating with as many in core. An epoch "
        f"takes {_number(server['median_ratio'])} times as long as in core by EpochFinished.seconds, and "
        f"{_number(server['median_ratio_between_events'])} times from one event to the next, which is what "
        "counts for the bar: it includes hashing the weights and writing the event."
    )


def _made(results: dict[str, Any]) -> str:
    machine = results["machine"]
    return (
        f"Written by `{results['command']}` on {results['date']}, at commit {results['commit']}, in "
        f"{results['minutes']:.0f} minutes. {machine['cpu']}, {machine['cores']} cores, {machine['system']}, "
        f"Python {machine['python']}. {_others(results)}"
    )


def _bars(bars: list[dict[str, Any]]) -> Iterator[str]:
    met = sum(bar["met"] for bar in bars)
    yield from _heading(f"## Bars: {met} of {len(bars)} met")
    yield from _table(("bar", "goal", "stretch", "measured", "verdict"), map(_bar, bars))


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


def _bar(bar: dict[str, Any]) -> tuple[str, ...]:
    return (
        bar["what"],
        ("at most " if bar["at_most"] else "at least ") + _number(bar["goal"]) + bar["unit"],
        "" if bar["stretch"] is None else _number(bar["stretch"]) + bar["unit"],
        _number(bar["measured"]) + bar["unit"],
        bar["verdict"] if bar["met"] else f"**{bar['verdict']}**",
    )


def _comparison(name: str, comparison: dict[str, Any]) -> Iterator[str]:
    threads = comparison["configuration"]["threads"]
    yield from _heading(f"## {name}, {'one thread' if threads == 1 else f'{threads} threads'}")
    yield from _table(
        ("contender", "s", "ratio to ours", "cores", "peak MiB", "accuracy", "versions"),
        (
            (
                f"**{contender}**" if contender == OURS else contender,
                f"{figures['median_seconds']:.3g}",
                _ratio(figures),
                f"{figures['cores']:.2f}",
                f"{figures['peak_rss_mib']:.0f}",
                f"{figures['accuracy']:.4f}" if figures["accuracy"] is not None else "",
                ", ".join(f"{library} {version}" for library, version in figures["versions"].items()),
            )
            for contender, figures in comparison["contenders"].items()
        ),
    )
    yield from _limit(comparison)


def _limit(comparison: dict[str, Any]) -> Iterator[str]:
    limit = comparison["contenders"].get(SGEMM.name)
    if limit is not None:
        flops = comparison["flops_of_products"]
        yield from _paragraph(
            f"The products of an epoch are {flops / 1e9:.0f} GFLOP, and the limit is "
            f"{flops / limit['median_seconds'] / 1e9:.0f} GFLOP/s: the ratio of the limit is our share of it."
        )


def _scaling(scaling: dict[str, Any]) -> Iterator[str]:
    yield from _table(
        ("images", "ns an image", "peak MiB"),
        (
            (f"{int(images):,}", f"{value:,.0f}", f"{scaling['peak_rss_mib'][images]:.0f}")
            for images, value in scaling["median_nanoseconds_an_image"].items()
        ),
    )


def _ratio(figures: dict[str, Any]) -> str:
    if not figures["ratios"]:
        return "1"
    least, most = min(figures["ratios"]), max(figures["ratios"])
    return f"{_number(figures['median_ratio'])} ({_number(least)} to {_number(most)})"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
