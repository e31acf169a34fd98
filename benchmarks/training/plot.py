"""The plot: seconds an epoch by network and contender, drawn from the results. Needs the peers' environment.

python -m benchmarks.training.plot training.json training.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

OURS, PEER, LIMIT = "#c1440e", "#7d8ca3", "#c9d1dc"
LIMITS = ("C kernel", "sgemm limit", "products alone")


def draw(results: dict[str, Any], path: Path) -> None:
    """Writes the plot, a panel a network."""
    mpl.use("agg")
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
    for panel, (name, comparison) in zip(panels.flat, results["comparisons"].items(), strict=True):
        _panel(panel, name, comparison)
    figure.suptitle(
        "MNIST, 60,000 images: seconds an epoch, median of interleaved rounds\n"
        "(x: the contender's time over ours, paired by round)",
        fontsize=12,
    )
    figure.savefig(path, dpi=120)


def _panel(panel: Any, name: str, comparison: dict[str, Any]) -> None:
    contenders = sorted(comparison["contenders"].items(), key=lambda item: item[1]["median_seconds"])
    for row, (contender, figures) in enumerate(contenders):
        ours = not figures["ratios"]
        color = OURS if ours else LIMIT if contender in LIMITS else PEER
        panel.barh(row, figures["median_seconds"], color=color)
        text = f" {figures['median_seconds']:.3g} s" + ("" if ours else f"   {figures['median_ratio']:.2f}x")
        panel.text(figures["median_seconds"], row, text, va="center", weight="bold" if ours else "normal")
    threads = comparison["configuration"]["threads"]
    panel.set_title(f"{name}, {'one thread' if threads == 1 else f'{threads} threads'}", fontsize=11)
    panel.set_yticks(range(len(contenders)), [contender for contender, _ in contenders])
    panel.invert_yaxis()
    panel.set_xlim(0, contenders[-1][1]["median_seconds"] * 1.45)
    panel.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
