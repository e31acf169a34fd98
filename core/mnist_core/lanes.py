"""Lanes are two threads of Python's that halve a piece of work: NumPy lets the other compute meanwhile.

There are always two, whatever the machine has, so that the halves, and with them the bits, are the same.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

LANES = 2


class Lanes:
    """This thread and another, which ends with this object."""

    def __init__(self) -> None:
        self._other = ThreadPoolExecutor(LANES - 1, "lane")

    def run(self, work: Callable[[int, slice], None], total: int) -> None:
        """Calls work(0, the first half of `total` things) and work(1, the rest) at once. Waits for both."""
        half = (total + 1) // LANES
        rest = self._other.submit(work, 1, slice(half, total)) if half < total else None
        try:
            work(0, slice(0, half))
        finally:
            if rest is not None:
                rest.result()
