"""A schedule says the learning rate of each step: constant, or rising for a while and falling to nothing."""

import math
from typing import Literal

Schedule = Literal["constant", "cosine"]


def learning_rate(schedule: Schedule, most: float, warm_up: float, step: int, steps: int) -> float:
    """Returns the learning rate of a step, counted from 0, out of `steps`.

    For the share `warm_up` of the steps it rises in a straight line, up to `most` with the last of them. Then
    it stays there, or with "cosine" falls along half a cosine (Loshchilov and Hutter 2017, SGDR, eq. 5,
    without restarts), to reach 0 one step after the last.
    """
    rising = round(warm_up * steps)
    if step < rising:
        return most * (step + 1) / rising
    if schedule == "constant":
        return most
    share = (step - rising) / max(1, steps - rising)
    return most * (1 + math.cos(math.pi * min(1.0, share))) / 2
