"""A habit is how some people write a digit and MNIST's writers did not, or how a display shows it.

Each is a family of ways, so that no two are alike: how long an upstroke is, where a bar crosses, whether a
loop closes. Points are as in `strokes`: x to the right and y down, both 0 to 1.
"""

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from benchmarks.pictures.strokes import Path

Random = np.random.Generator


def way(digit: int, random: Random) -> list[Path]:
    """Returns pen strokes that write a digit by one of its habits."""
    choices = HABITS[digit]
    return choices[random.integers(len(choices))](random)


def display(digit: int, random: Random) -> list[Path]:
    """Returns the bars of a seven-segment display, with small gaps between them."""
    left, right = 0.5 - random.uniform(0.2, 0.32), 0.5 + random.uniform(0.2, 0.32)
    gap = random.uniform(0.0, 0.05)
    bars: dict[str, Path] = {
        "a": [(left + gap, 0.0), (right - gap, 0.0)],
        "b": [(right, gap), (right, 0.5 - gap)],
        "c": [(right, 0.5 + gap), (right, 1.0 - gap)],
        "d": [(left + gap, 1.0), (right - gap, 1.0)],
        "e": [(left, 0.5 + gap), (left, 1.0 - gap)],
        "f": [(left, gap), (left, 0.5 - gap)],
        "g": [(left + gap, 0.5), (right - gap, 0.5)],
    }
    lit = random.choice(_LIT[digit])
    return [bars[bar] for bar in lit]


# Which bars are lit; displays differ in 6, 7 and 9.
_LIT = [
    ["abcdef"],
    ["bc"],
    ["abged"],
    ["abgcd"],
    ["fgbc"],
    ["afgcd"],
    ["afgedc", "fgedc"],
    ["abc", "fabc"],
    ["abcdefg"],
    ["abgfcd", "abgfc"],
]


def _ring(
    random: Random,
    center: tuple[float, float],
    radii: tuple[float, float],
    *,
    start: float = -pi / 2,
    turns: float,
) -> Path:
    """A loop from an angle on, clockwise with positive turns."""
    x, y = center
    steps = max(int(abs(turns) * 10), 3)
    angles = [start + 2 * pi * turns * step / steps for step in range(steps + 1)]
    bend = random.uniform(0.93, 1.07)
    return [(x + radii[0] * cos(angle), y + radii[1] * bend * sin(angle)) for angle in angles]


def _slashed_zero(random: Random) -> list[Path]:
    wide, turns = random.uniform(0.22, 0.42), random.choice([-1, 1]) * random.uniform(0.92, 1.1)
    steep, reach = random.uniform(0.5, 1.3), random.uniform(0.75, 1.4)
    x, y = wide * cos(steep) * reach, 0.5 * sin(steep) * reach
    side = 1 if random.random() < 0.85 else -1  # some slash it backwards
    ring = _ring(random, (0.5, 0.5), (wide, 0.5), start=random.uniform(-2.2, -0.9), turns=turns)
    return [ring, [(0.5 + side * x, 0.5 - y), (0.5 - side * x, 0.5 + y)]]


def _open_zero(random: Random) -> list[Path]:
    start, turns = random.uniform(-2.4, -0.7), random.choice([-1, 1]) * random.uniform(0.82, 1.2)
    return [_ring(random, (0.5, 0.5), (random.uniform(0.2, 0.5), 0.5), start=start, turns=turns)]


def _one_with_upstroke(random: Random) -> list[Path]:
    reach = random.uniform(0.2, 0.6)
    drop = random.uniform(max(0.2, reach / 2), 0.65)  # a flatter one is a seven
    top = random.uniform(0.55, 0.7)
    start, peak = (top - reach, drop), (top, 0.0)
    bent = ((start[0] + top) / 2 + random.uniform(-0.06, 0.06), drop / 2 + random.uniform(-0.06, 0.06))
    foot = (top + random.uniform(-0.12, 0.05), 1.0)
    paths: list[Path] = [[start, bent, peak], [peak, foot]]
    if random.random() < 0.25:
        long = random.uniform(0.12, 0.35)
        paths.append([(foot[0] - long, 1.0), (foot[0] + long, 1.0)])
    return paths


def _one_with_foot(random: Random) -> list[Path]:
    flag, long = random.uniform(0.08, 0.25), random.uniform(0.15, 0.4)
    return [
        [(0.5 - flag, random.uniform(0.08, 0.25)), (0.5, 0.0)],
        [(0.5, 0.0), (0.5, 1.0)],
        [(0.5 - long, 1.0), (0.5 + long, 1.0)],
    ]


def _two_like_z(random: Random) -> list[Path]:
    corner = (random.uniform(0.72, 0.85), random.uniform(0.0, 0.12))
    low = (random.uniform(0.12, 0.25), 1.0)
    return [
        [(0.18, random.uniform(0.0, 0.2)), (0.5, random.uniform(-0.05, 0.02)), corner],
        [corner, (random.uniform(0.5, 0.65), random.uniform(0.42, 0.55)), low],
        [low, (0.85, random.uniform(0.94, 1.02))],
    ]


def _two_with_loop(random: Random) -> list[Path]:
    turn = random.uniform(0.08, 0.18)
    return [
        [
            (0.2, random.uniform(0.15, 0.35)), (0.45, 0.0), (0.75, 0.15), (0.68, 0.5), (0.35, 0.88),
            (0.2, 1.0 - turn / 2), (0.16, 1.0 - turn), (0.28, 1.0 - turn), (0.55, 0.96),
            (random.uniform(0.8, 0.98), random.uniform(0.88, 1.0)),
        ]
    ]  # fmt: skip


def _flat_topped_three(random: Random) -> list[Path]:
    corner, middle = (random.uniform(0.7, 0.85), random.uniform(0, 0.05)), (random.uniform(0.38, 0.5), 0.4)
    belly = random.uniform(0.78, 0.92)
    return [
        [(random.uniform(0.12, 0.25), 0.02), corner],
        [corner, middle],
        [middle, (0.7, 0.44), (belly, 0.7), (0.62, 0.97), (0.3, 1.0), (0.12, random.uniform(0.82, 0.94))],
    ]


def _round_three(random: Random) -> list[Path]:
    waist = random.uniform(0.3, 0.5)
    return [
        [
            (0.2, random.uniform(0.08, 0.22)), (0.45, 0.0), (0.75, 0.16), (0.65, 0.4), (waist, 0.48),
            (0.68, 0.54), (random.uniform(0.78, 0.9), 0.76), (0.58, 0.99), (0.3, 0.98),
            (0.12, random.uniform(0.8, 0.92)),
        ]
    ]  # fmt: skip


def _open_four(random: Random) -> list[Path]:
    bar = random.uniform(0.45, 0.68)
    stem = random.uniform(0.62, 0.78)
    top, low = random.uniform(0.0, 0.15), (random.uniform(0.1, 0.2), bar)
    return [
        [(random.uniform(0.2, 0.45), top), low],
        [low, (random.uniform(0.8, 0.98), bar + random.uniform(-0.06, 0.04))],
        [(stem, random.uniform(-0.02, 0.4)), (stem - random.uniform(-0.02, 0.1), 1.0)],
    ]


def _closed_four(random: Random) -> list[Path]:
    bar, stem = random.uniform(0.6, 0.78), random.uniform(0.58, 0.72)
    top, low = (stem, 0.0), (random.uniform(0.05, 0.15), bar)
    return [[top, low], [low, (random.uniform(0.82, 0.98), bar)], [top, (stem, 1.0)]]


def _five_with_bar(random: Random) -> list[Path]:
    apart = random.uniform(-0.03, 0.06)  # the bar is drawn last, and may not meet the stem
    stem, corner = (random.uniform(0.2, 0.34), 0.03), (random.uniform(0.18, 0.28), random.uniform(0.36, 0.48))
    return [
        [stem, corner],
        [corner, (0.52, 0.37), (0.8, 0.6), (0.7, 0.9), (0.4, 1.0), (0.14, random.uniform(0.84, 0.96))],
        [(stem[0] + apart, 0.02), (random.uniform(0.7, 0.95), random.uniform(-0.06, 0.06))],
    ]


def _five_like_s(random: Random) -> list[Path]:
    return [
        [
            (0.82, random.uniform(0.0, 0.1)), (0.5, 0.01), (0.26, 0.12), (0.28, 0.36), (0.55, 0.46),
            (random.uniform(0.74, 0.84), 0.68), (0.66, 0.93), (0.36, 1.0), (0.14, random.uniform(0.86, 0.96)),
        ]
    ]  # fmt: skip


def _straight_six(random: Random) -> list[Path]:
    low, radius = random.uniform(0.68, 0.76), random.uniform(0.22, 0.3)
    ring = _ring(random, (0.48, low), (radius, 1 - low), start=pi, turns=-random.uniform(0.9, 1.05))
    return [[(random.uniform(0.5, 0.8), 0.0), (random.uniform(0.3, 0.42), 0.34), *ring]]


def _barred_seven(random: Random) -> list[Path]:
    corner, foot = (random.uniform(0.78, 0.9), 0.02), (random.uniform(0.28, 0.5), 1.0)
    share, long, tilt = random.uniform(0.35, 0.6), random.uniform(0.14, 0.28), random.uniform(-0.06, 0.05)
    x, y = corner[0] + share * (foot[0] - corner[0]), corner[1] + share * (foot[1] - corner[1])
    paths: list[Path] = [
        [(random.uniform(0.1, 0.25), random.uniform(0.0, 0.08)), corner],
        [corner, (x + random.uniform(-0.05, 0.05), y), foot],
        [(x - long, y - tilt), (x + long, y + tilt)],
    ]
    if random.random() < 0.3:
        paths.append([(paths[0][0][0], random.uniform(0.12, 0.22)), paths[0][0]])
    return paths


def _hooked_seven(random: Random) -> list[Path]:
    hook, corner = (random.uniform(0.1, 0.2), 0.03), (random.uniform(0.78, 0.9), 0.02)
    wave = (0.5, random.uniform(0.0, 0.1))
    return [
        [(hook[0], random.uniform(0.12, 0.26)), hook],
        [hook, wave, corner],
        [corner, (random.uniform(0.48, 0.64), 0.5), (random.uniform(0.3, 0.5), 1.0)],
    ]


def _two_ringed_eight(random: Random) -> list[Path]:
    small, large = random.uniform(0.17, 0.24), random.uniform(0.22, 0.32)
    waist = random.uniform(0.43, 0.5)
    upper = _ring(
        random, (0.5, waist / 2), (small, waist / 2), start=pi / 2, turns=random.uniform(0.95, 1.08)
    )
    lower = _ring(random, (0.5, (1 + waist) / 2), (large, (1 - waist) / 2), turns=random.uniform(0.95, 1.08))
    return [upper, lower]


def _crossed_eight(random: Random) -> list[Path]:
    end = random.uniform(0.02, 0.2)
    return [
        [
            (random.uniform(0.68, 0.84), random.uniform(0.0, 0.2)), (0.5, 0.0), (0.26, 0.18), (0.4, 0.42),
            (0.66, 0.58), (0.78, 0.8), (0.5, 1.0), (0.22, 0.82), (0.36, 0.58), (0.62, 0.4), (0.78, end),
        ]
    ]  # fmt: skip


def _straight_nine(random: Random) -> list[Path]:
    high, radius = random.uniform(0.22, 0.3), random.uniform(0.2, 0.28)
    ring = _ring(random, (0.46, high), (radius, high), start=-0.3, turns=-random.uniform(0.9, 1.05))
    joint = (0.46 + radius, high * random.uniform(0.6, 1.0))
    return [ring, [joint, (random.uniform(0.5, 0.74), 1.0)]]


def _tailed_nine(random: Random) -> list[Path]:
    high, radius = random.uniform(0.2, 0.28), random.uniform(0.2, 0.27)
    ring = _ring(random, (0.48, high), (radius, high), start=-0.3, turns=-random.uniform(0.92, 1.05))
    joint = (0.48 + radius, high)
    tail = [(0.74, 0.6), (random.uniform(0.6, 0.72), 0.92), (0.42, 1.0), (0.2, random.uniform(0.8, 0.94))]
    return [ring, [joint, *tail]]


HABITS: list[list[Callable[[Random], list[Path]]]] = [
    [_slashed_zero, _slashed_zero, _open_zero],
    [_one_with_upstroke, _one_with_upstroke, _one_with_foot],
    [_two_like_z, _two_with_loop],
    [_flat_topped_three, _round_three],
    [_open_four, _closed_four],
    [_five_with_bar, _five_like_s],
    [_straight_six],
    [_barred_seven, _hooked_seven],
    [_two_ringed_eight, _crossed_eight],
    [_straight_nine, _tailed_nine],
]
