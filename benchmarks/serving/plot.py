"""The plot: what contenders answer a second, drawn from the results. Needs the environment of its own.

python -m benchmarks.serving.plot serving.json serving.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

OURS, PEER, LIMIT = "#c1440e", "#7d8ca3", "#c9d1dc"


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the plot, a panel a setting."""
    mpl.use("agg")
    comparisons = results["comparisons"]
    figure, panels = pyplot.subplots(3, 2, figsize=(13, 13), layout="constrained")
    for panel, (name, rows) in zip(panels.flat, comparisons.items(), strict=False):
        _panel(panel, name, rows)
    for panel in panels.flat[len(comparisons) :]:
        panel.axis("off")
    figure.suptitle(
        "784-100-10 on one core: images a second, median of interleaved rounds (logarithmic; p99 beside it)",
        fontsize=12,
    )
    figure.savefig(path, dpi=110)


def _panel(panel: Any, name: str, rows: dict[str, Any]) -> None:
    present = [(entry, row) for entry, row in rows.items() if "trouble" not in row]
    present.sort(key=lambda item: -item[1]["images_per_second"])
    for position, (entry, row) in enumerate(present):
        ours = entry.startswith("mnist-grpc")
        color = OURS if ours else LIMIT if entry.startswith("C++") else PEER
        panel.barh(position, row["images_per_second"], color=color)
        text = f" {row['images_per_second']:,.0f}  ({row['p99_ms']:.3g} ms)"
        weight = "bold" if ours else "normal"
        panel.text(row["images_per_second"], position, text, va="center", weight=weight, fontsize=9)
    panel.set_title(name, fontsize=11)
    panel.set_yticks(range(len(present)), [entry for entry, _ in present], fontsize=9)
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.set_xlim(right=panel.get_xlim()[1] * 16)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
