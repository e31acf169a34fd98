from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from benchmarks.serving.bars import SETTINGS, bars
from benchmarks.serving.comparison import Measured, Setting, alive, figures, median_ratio
from benchmarks.serving.contender import Contender
from benchmarks.serving.generator import WARM_SECONDS, Load, Overload, check_answers, summary
from benchmarks.serving.protocol import INFER, INFER_UINT8, PREDICT
from benchmarks.serving.report import markdown

WARM = round(WARM_SECONDS * 1e6)
START = 1_700_000_000_000_000


def test_only_what_is_after_the_warm_up_counts() -> None:
    log = np.array(
        [
            (START, 200, WARM - 10),  # ends in the warm-up
            (START + WARM - 5, 200, 100),  # begins in it: its end counts, not its duration
            (START + WARM + 100, 200, 1000),
            (START + WARM + 200, 200, 3000),
            (START + WARM + 500_000, 200, 600_000),  # ends too late: its duration counts, not its end
        ]
    )
    load = summary(log, 1.0)
    assert load.per_second == 3
    assert load.p50_ms == 3
    assert load.requests == 5
    assert load.p99_ms == pytest.approx(600, rel=0.05)


def test_no_answer_after_the_warm_up_is_no_load() -> None:
    with pytest.raises(Overload, match=r"no answer in 1\.0 s"):
        summary(np.array([(START, 200, 10)]), 1.0)


def test_an_error_is_noticed_by_the_bytes_it_lacks() -> None:
    log = np.array([(START, 200, 10), (START, 200, 10)])
    check_answers(log, 100, 50)
    with pytest.raises(Overload, match="2 answers of 50 bytes, but 99 bytes came"):
        check_answers(log, 99, 50)


def test_another_http_status_is_an_error() -> None:
    with pytest.raises(Overload, match=r"\[200, 503\]"):
        check_answers(np.array([(START, 200, 10), (START, 503, 10)]), 100, 50)


def _row(rates: list[float], images: int = 1) -> dict[str, Any]:
    measured = [Measured(Load(rate, 1.0, 2.0, 100), 30.0, (1.0,)) for rate in rates]
    return figures(measured, Setting(1, images))


def test_a_ratio_is_the_median_of_the_pairs() -> None:
    ours, theirs = _row([10, 100, 30]), _row([10, 10, 20])
    assert median_ratio(ours, theirs) == 1.5
    assert ours["per_second"] / theirs["per_second"] == 3


def test_figures_are_medians_and_rounds() -> None:
    row = _row([10, 30, 20], images=100)
    assert (row["per_second"], row["images_per_second"]) == (20, 2000)
    assert row["rounds"]["per_second"] == [10, 30, 20]


@pytest.fixture
def results() -> dict[str, Any]:
    """Results in which everything is met but what a test takes away."""
    names = {
        f"mnist-grpc: {PREDICT.name}": 300.0,
        f"mnist-grpc: {INFER.name}": 300.0,
        f"mnist-grpc, public path: {PREDICT.name}": 150.0,
        f"mnist-grpc, public path: {INFER.name}": 150.0,
        f"Triton: {INFER.name}": 100.0,
        f"Triton: {INFER_UINT8.name}": 100.0,
        f"C++ null server: {PREDICT.name}": 500.0,
        f"C++ null server: {INFER.name}": 500.0,
    }
    return {
        "comparisons": {
            setting.name: {name: _row([rate], setting.images) for name, rate in names.items()}
            for setting in SETTINGS
        },
        "starting": {
            "mnist-grpc": {"median_seconds": 0.6, "largest_process_mib": 70.0, "all_processes_mib": 75.0}
        },
        "beside_training": {
            "pinned": {
                "server_cores": 1,
                "median_alone_p99_ms": 2.0,
                "median_training_p99_ms": 4.0,
                "median_ratio": 2.0,
            }
        },
        "workers": {"trouble": "mnist-server has no --workers"},
        "streaming": {"median_ratio": 1.9, "stream_per_second": [1900.0], "unary_per_second": [1000.0]},
        "versions": {"Triton": {"tritonserver": "2"}},
        "absent": {"KServe": "is not installed"},
        "machine": {"cpu": "a processor", "cores": 2, "system": "Linux", "python": "3.11"},
        "command": "make bench-serving",
        "date": "today",
        "commit": "abc",
        "minutes": 1.0,
        "rounds": 1,
        "seconds": 1.0,
        "generator": "h2load 1",
    }


def test_every_bar_has_a_verdict(results: dict[str, Any]) -> None:
    verdicts = {what: None if bar is None else bar.verdict for what, bar in bars(results)}
    assert verdicts[f"{PREDICT.name} against Triton, 64 in flight"] == "met, and the stretch"
    assert verdicts[f"{INFER.name} against the C++ null server, 64 in flight"] == "met, and the stretch"
    assert verdicts["start to first answer"] == "met"
    assert verdicts["PredictStream over Predict, one connection, one image a message"] == "missed by 5.0 %"
    assert verdicts[f"{PREDICT.name}: images a second, 1000 a request"] == "met, and the stretch"
    missing = [what for what, verdict in verdicts.items() if verdict is None]
    assert missing == [
        "two workers: CPU a request over one's",
        "two workers: share of the one that answers less, 16 connections",
    ]


def test_a_contender_that_is_not_there_leaves_bars_without_figures(results: dict[str, Any]) -> None:
    for rows in results["comparisons"].values():
        rows[f"Triton: {INFER.name}"] = {"trouble": "gone"}
        del rows[f"mnist-grpc, public path: {PREDICT.name}"]
    missing = [what for what, bar in bars(results) if bar is None and "workers" not in what]
    assert missing == [
        *(f"{INFER.name} against Triton, {setting.name}" for setting in SETTINGS),
        f"{PREDICT.name}: fast path against public path, 64 in flight",
    ]


def test_the_page_says_all_of_it(results: dict[str, Any]) -> None:
    results["bars"] = [
        {"what": what, "met": False, "verdict": "not measured"} if bar is None else bar.to_dict()
        for what, bar in bars(results)
    ]
    page = markdown(results)
    met = sum(bar["met"] for bar in results["bars"])
    assert f"## Bars: {met} of {len(results['bars'])} met" in page
    assert "| PredictStream over Predict, one connection, one image a message | at least 2.00x |" in page
    assert "| two workers: CPU a request over one's |  |  |  | **not measured** |" in page
    assert f"| Triton: {INFER.name} | 100 | 1.00 | 2.00 | 30.0 | 3.00 (3.00 to 3.00) |" in page
    assert "- two workers: mnist-server has no --workers" in page
    assert "- KServe: is not installed" in page
    assert max(map(len, (line for line in page.splitlines() if not line.startswith("|")))) <= 110


class Mortal:
    """As much of a contender as `alive` uses: it ends so many times of being asked."""

    def __init__(self, deaths: int) -> None:
        self.deaths, self.restarts, self.runs = deaths, 0, True
        self.process = SimpleNamespace(running=lambda: self.runs)

    def restart(self) -> None:
        self.restarts, self.runs = self.restarts + 1, True

    def ask(self) -> Measured:
        if self.restarts < self.deaths:
            self.runs = False
            raise Overload("it has ended")
        return Measured(Load(1.0, 1.0, 1.0, 1), 1.0, (1.0,))


def test_a_contender_that_ends_is_started_and_asked_again() -> None:
    contender = Mortal(deaths=3)
    assert alive(cast("Contender", contender), contender.ask).cpu_us == 1.0
    assert contender.restarts == 3
    contender = Mortal(deaths=4)
    with pytest.raises(Overload):
        alive(cast("Contender", contender), contender.ask)


def test_one_that_runs_but_does_not_answer_is_not_asked_again() -> None:
    contender = Mortal(deaths=0)

    def ask() -> Measured:
        raise Overload("answers failed")

    with pytest.raises(Overload, match="answers failed"):
        alive(cast("Contender", contender), ask)
    assert contender.restarts == 0
