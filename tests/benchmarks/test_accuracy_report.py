from typing import Any

import pytest
from benchmarks.accuracy.report import BARS, report

from mnist_core import RECIPES


def run(seed: int, accuracy: float, seconds: float = 5.0) -> dict[str, Any]:
    return {
        "seed": seed,
        "accuracy": accuracy,
        "total": 10_000,
        "correct_with_nine_views": round(accuracy * 10_000) + 5,
        "ece": 0.0021,
        "parameters": 79_510,
        "epochs": 10,
        "seconds": seconds,
        "others_cores": None,
    }


def results(**runs: dict[str, Any]) -> dict[str, Any]:
    machine = {"cpu": "a processor", "cores": 2, "system": "Linux x86_64", "python": "3.11.2"}
    return {"runs": {name.replace("_", "-"): by_seed for name, by_seed in runs.items()}, "machine": machine}


def row(page: str, recipe: str) -> str:
    [line] = [line for line in page.splitlines() if line.startswith(f"| `{recipe}`")]
    return line


def test_every_recipe_has_a_bar_and_the_other_way_round() -> None:
    assert set(RECIPES) <= set(BARS)


def test_every_seed_is_shown_and_the_median_counts() -> None:
    page = report(results(quick={"10": run(10, 0.9), "0": run(0, 0.9761), "2": run(2, 0.9758)}))
    assert "| 0, 2, 10 | 97.61, 97.58, 90.00 | **97.58** | 97.63 | 0.21 | 5, 5, 5 | ?, ?, ? |" in page
    assert row(page, "quick").endswith("| 97.5 % within 10 s: good |")
    assert "Not measured: classic, mlp, mlp-augmented, best." in page


@pytest.mark.parametrize(
    ("accuracy", "seconds", "expected"),
    [
        (0.9965, 5, "99.55 % (99.65 %) within 3600 s: good"),
        (0.9964, 5, "99.55 % (99.65 %) within 3600 s: met"),
        (0.9954, 5, "99.55 % (99.65 %) within 3600 s: missed"),
        (0.9965, 3601, "99.55 % (99.65 %) within 3600 s: too slow"),
    ],
)
def test_bars_are_judged(accuracy: float, seconds: float, expected: str) -> None:
    page = report(results(best={"0": run(0, accuracy, seconds)}))
    assert row(page, "best").endswith(f"| {expected} |")
