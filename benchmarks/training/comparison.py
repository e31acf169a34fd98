"""A comparison is one configuration trained by several contenders in turn, ours before or after each other.

The machine's speed changes from minute to minute, so only two epochs next to each other are compared. A ratio
is the peer's time over ours, and what counts is the median over the rounds.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.training.configuration import Configuration
from benchmarks.training.contender import Contender

# Guessing gets 0.1.
LEARNS = 0.5
SCALING_IMAGES = {6_000: 10, 60_000: 1, 600_000: 1}
"""How many images, and how many epochs make one measurement."""


class Rival(NamedTuple):
    """What ours is compared with.

    peer: it lives in the peers' environment. learns: it is no mere limit. held: to as many cores as it may
    have threads, which not every library keeps to by itself.
    """

    name: str
    module: str
    peer: bool = True
    learns: bool = True
    held: bool = True


OURS = "mnist-grpc"
WITHOUT_SCIPY = Rival("without SciPy", "ours_without_scipy", peer=False)
TEXTBOOK = Rival("textbook loop", "textbook", peer=False)
SCIKIT_LEARN = Rival("scikit-learn", "scikit_learn")
PYTORCH_EAGER = Rival("PyTorch eager", "pytorch_eager")
PYTORCH_BY_HAND = Rival("PyTorch by hand", "pytorch_by_hand")
JAX = Rival("JAX jit + scan", "jax_scan")
JAX_FREE = Rival("JAX on all cores", "jax_scan", held=False)
PYTORCH_CONVOLUTIONAL = Rival("PyTorch eager", "pytorch_convolutional")
C_KERNEL = Rival("C kernel", "c_kernel", peer=False)
SGEMM = Rival("sgemm limit", "sgemm", peer=False, learns=False)
SGEMM_SHAPES = Rival("products alone", "sgemm_shapes", peer=False, learns=False)
ONNXRUNTIME = Rival("ONNX Runtime", "evaluate_onnxruntime")


def compare(
    configuration: Configuration,
    rivals: Sequence[Rival],
    data: Path,
    rounds: int,
    say: Callable[[str], None],
    *,
    module: str = "ours",
) -> dict[str, Any]:
    """Returns times, ratios, accuracy and memory of ours, which is `module`, and of the rivals.

    Raises RuntimeError where a contender fails, or has not learnt in its first epoch, which is not timed.
    """
    results: dict[str, Any] = {
        "configuration": asdict(configuration),
        "flops_of_products": configuration.flops,
        "rounds": rounds,
    }
    with ExitStack() as stack:
        everyone = (Rival(OURS, module, peer=False), *rivals)
        contenders = [
            stack.enter_context(
                Contender(rival.name, rival.module, configuration, data, peer=rival.peer, held=rival.held)
            )
            for rival in everyone
        ]
        ours, *others = contenders
        times: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
        ratios: dict[str, list[float]] = {contender.name: [] for contender in others}
        accuracies: dict[str, float | None] = {}
        for rival, contender in zip(everyone, contenders, strict=True):
            contender.start()
            contender.ask("epoch")
            accuracies[rival.name] = accuracy = (
                contender.ask("accuracy")["accuracy"] if rival.learns else None
            )
            if accuracy is not None and not accuracy >= LEARNS:
                raise RuntimeError(f"{rival.name} has not learnt: accuracy {accuracy}")
        for number in range(rounds):
            for other in others[:: -1 if number % 2 else 1]:
                pair = (other, ours) if number % 2 else (ours, other)
                for contender in pair:
                    times[contender.name].append(contender.ask("epoch"))
                ratios[other.name].append(times[other.name][-1]["seconds"] / times[OURS][-1]["seconds"])
        for contender in contenders:
            measured = times[contender.name]
            results.setdefault("contenders", {})[contender.name] = {
                "seconds": [round(each["seconds"], 6) for each in measured],
                "cpu_seconds": [round(each["seconds"] * each["cores"], 4) for each in measured],
                "median_seconds": round(statistics.median(each["seconds"] for each in measured), 6),
                "ratios": [round(ratio, 4) for ratio in ratios.get(contender.name, [])],
                "median_ratio": round(statistics.median(ratios.get(contender.name, [1.0])), 4),
                "cores": round(statistics.median(each["cores"] for each in measured), 2),
                "accuracy": accuracies[contender.name],
                "peak_rss_mib": round(contender.ask("memory")["peak_rss_mib"], 1),
                "versions": contender.versions,
            }
    for line in _lines(configuration, results):
        say(line)
    return results


def predictions(
    configuration: Configuration, rivals: Sequence[Rival], data: Path, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Returns milliseconds an image, round by round, of ours and the rivals: alone, and hundreds together."""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(Contender(rival.name, rival.module, configuration, data, peer=rival.peer))
            for rival in (Rival(OURS, "ours", peer=False), *rivals)
        ]
        found: dict[str, dict[str, list[float]]] = {contender.name: {} for contender in contenders}
        for contender in contenders:
            contender.start()
        for number in range(rounds):
            for contender in contenders[:: -1 if number % 2 else 1]:
                for name, value in contender.ask("predict").items():
                    found[contender.name].setdefault(name, []).append(round(value, 5))
        return found


def scaling(configuration: Configuration, data: Path, rounds: int) -> dict[str, Any]:
    """Returns ours' time an image for data sets of several sizes, interleaved as above."""
    with ExitStack() as stack:
        contenders = {
            images: stack.enter_context(
                Contender(f"{OURS}, {images} images", "ours", configuration.with_images(images), data)
            )
            for images in SCALING_IMAGES
        }
        for contender in contenders.values():
            contender.start()
            contender.ask("epoch")
        nanoseconds: dict[int, list[float]] = {images: [] for images in contenders}
        for _ in range(rounds):
            for images, contender in contenders.items():
                epochs = [contender.ask("epoch")["seconds"] for _ in range(SCALING_IMAGES[images])]
                nanoseconds[images].append(round(statistics.mean(epochs) / images * 1e9, 1))
        # Each size against the 60,000 of its round, then the largest against the smallest.
        relative = {
            images: statistics.median(a / b for a, b in zip(values, nanoseconds[60_000], strict=True))
            for images, values in nanoseconds.items()
        }
        return {
            "configuration": asdict(configuration),
            "rounds": rounds,
            "nanoseconds_an_image": nanoseconds,
            "median_nanoseconds_an_image": {
                images: statistics.median(values) for images, values in nanoseconds.items()
            },
            "spread": round(max(relative.values()) / min(relative.values()), 4),
            "peak_rss_mib": {
                images: round(contender.ask("memory")["peak_rss_mib"], 1)
                for images, contender in contenders.items()
            },
        }


def _lines(configuration: Configuration, results: dict[str, Any]) -> Iterator[str]:
    yield f"{configuration.name}, {configuration.threads} thread{'s'[: configuration.threads > 1]}"
    for name, contender in results["contenders"].items():
        low, high = min(contender["ratios"], default=1.0), max(contender["ratios"], default=1.0)
        yield (
            f"  {name:20} {contender['median_seconds']:9.4f} s   {contender['median_ratio']:6.2f}x "
            f"({low:.2f} to {high:.2f})   {contender['cores']:.2f} cores   "
            f"{contender['peak_rss_mib']:5.0f} MiB   {contender['accuracy'] or ''}"
        )
