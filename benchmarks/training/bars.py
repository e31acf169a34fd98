"""A bar is a figure that training is to reach, and what was measured against it."""

from dataclasses import dataclass
from typing import Any

from benchmarks.training import comparison
from benchmarks.training.comparison import Rival
from benchmarks.training.configuration import CLASSIC, DEEP, HUNDRED, WIDE, Configuration


@dataclass(frozen=True)
class Bar:
    """What is asked of a figure: at least `goal` or, with at_most, at most; `stretch` would be better."""

    what: str
    measured: float
    goal: float
    stretch: float | None = None
    at_most: bool = False
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the figure reaches the goal."""
        return self._reaches(self.goal)

    @property
    def verdict(self) -> str:
        """Such as `met`, `met, and the stretch` or `missed by 12 %`."""
        if not self.met:
            return f"missed by {abs(self.measured / self.goal - 1):.1%}".replace("%", " %")
        if self.stretch is None:
            return "met"
        return "met, and the stretch" if self._reaches(self.stretch) else "met"

    def to_dict(self) -> dict[str, Any]:
        """Returns the bar and its verdict as JSON has them."""
        return {
            "what": self.what,
            "measured": self.measured,
            "goal": self.goal,
            "stretch": self.stretch,
            "at_most": self.at_most,
            "unit": self.unit,
            "met": self.met,
            "verdict": self.verdict,
        }

    def _reaches(self, goal: float) -> bool:
        return self.measured <= goal if self.at_most else self.measured >= goal


def bars(results: dict[str, Any]) -> list[Bar]:
    """Returns every bar, with what `results` say."""

    def ratio(configuration: Configuration, rival: Rival) -> float:
        contenders = results["comparisons"][configuration.name]["contenders"]
        return float(contenders[rival.name]["median_ratio"])

    def faster(configuration: Configuration, rival: Rival, goal: float, stretch: float | None = None) -> Bar:
        what = f"{configuration.name}: speed against {rival.name}"
        return Bar(what, ratio(configuration, rival), goal, stretch)

    without_scipy = round(1 / ratio(CLASSIC, comparison.WITHOUT_SCIPY), 4)
    times_of_c = round(1 / ratio(CLASSIC, comparison.C_KERNEL), 4)
    large = [
        bar
        for configuration in (WIDE, DEEP)
        for bar in (
            faster(configuration, comparison.SGEMM, 0.60, 0.75),
            faster(configuration, comparison.JAX, 0.9, 1.0),
            faster(configuration, comparison.PYTORCH_BY_HAND, 0.9, 1.0),
            faster(configuration, comparison.PYTORCH_EAGER, 1.0),
            faster(configuration, comparison.SCIKIT_LEARN, 1.0),
        )
    ]
    memory = results["comparisons"][CLASSIC.name]["contenders"][comparison.OURS]["peak_rss_mib"]
    evaluation = results["evaluation"]["contenders"][comparison.ONNXRUNTIME.name]["median_ratio"]
    server = results["through_server"]["median_ratio_between_events"]
    return [
        faster(CLASSIC, comparison.TEXTBOOK, 18, 22),
        faster(CLASSIC, comparison.PYTORCH_EAGER, 12, 15),
        faster(CLASSIC, comparison.SCIKIT_LEARN, 6, 7),
        faster(CLASSIC, comparison.JAX, 1.5, 1.8),
        Bar(f"{CLASSIC.name}: time over that of the C kernel", times_of_c, 2.0, 1.6, at_most=True),
        Bar(f"{CLASSIC.name}: speed without SciPy against that with it", without_scipy, 0.9),
        faster(HUNDRED, comparison.PYTORCH_EAGER, 6),
        faster(HUNDRED, comparison.JAX, 1.3, 1.5),
        *large,
        Bar(
            "6,000 to 600,000 images: largest time an image over smallest",
            results["scaling"]["spread"],
            1.35,
            at_most=True,
        ),
        Bar("60,000 images: peak resident memory", memory, 200, at_most=True, unit=" MiB"),
        Bar("evaluating 10,000 images: speed against ONNX Runtime", evaluation, 0.7, 0.9),
        Bar("an epoch through the server: time over that in core", server, 1.03, at_most=True),
    ]
