"""Views are one digit, seen several times: as it was prepared, and moved by a pixel towards each corner.

Where preparing leaves doubt, a network is often surer than it is right, and moved by one pixel it names
another digit. The mean over all views is less sure, and oftener right where it is (`make bench-pictures`).
"""

import numpy as np
from numpy.typing import NDArray

from mnist_core.pictures.ink import Levels, Pixels

_CORNERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
VIEWS = 1 + len(_CORNERS)


def views(digits: Pixels) -> Pixels:
    """Returns VIEWS of each of (B, H, W), (VIEWS x B, H, W): first all as they are."""
    count, height, width = digits.shape
    # A digit of MNIST's form keeps four pixels away from the border, or nearly: what leaves it is paper.
    room = np.pad(digits, ((0, 0), (1, 1), (1, 1)))
    seen = np.empty((VIEWS, count, height, width), np.uint8)
    seen[0] = digits
    for place, (down, right) in enumerate(_CORNERS, 1):
        seen[place] = room[:, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
    return seen.reshape(-1, height, width)


def mean_of_views(probabilities: NDArray[np.float32]) -> Levels:
    """Returns the means (B, C) of what was said of views, (VIEWS x B, C)."""
    means: Levels = probabilities.reshape(VIEWS, -1, probabilities.shape[1]).mean(axis=0)
    return means
