"""Slots: a block of memory that all processes of one server share, in which each worker has a slot.

The top process makes it; workers inherit its file descriptor. A worker writes its own slot alone, everyone
may read all. A worker that takes a dead one's place goes on in its slot. Layout of a slot, in words of eight
bytes, each of which is read and written whole:

    0    pid of the worker that answers, or is about to; 0: nobody is there
    1    generation of the models that it has
    2    beats: it grows as long as the worker does anything
    3-7  nothing yet
    8-   counters, SLOT_BYTES of them (metrics.py)
"""

import mmap
import os
import tempfile
import time
from collections.abc import Callable

from mnist_server.metrics import SLOT_BYTES

_HEADER_BYTES = 64
_BYTES = _HEADER_BYTES + SLOT_BYTES
_PID, _GENERATION, _BEATS = range(3)
_POLL_SECONDS = 0.001


class Slot:
    """One worker's part of the block."""

    def __init__(self, memory: memoryview) -> None:
        self._header = memory[:_HEADER_BYTES].cast("q")
        self.counters = memory[_HEADER_BYTES:]

    @property
    def pid(self) -> int:
        """The worker that answers, or is about to; 0: nobody is there."""
        return self._header[_PID]

    @property
    def generation(self) -> int:
        """The generation of the models that it has; 0 before it has any."""
        return self._header[_GENERATION]

    @generation.setter
    def generation(self, generation: int) -> None:
        self._header[_GENERATION] = generation

    @property
    def beats(self) -> int:
        """A number that grows as long as the worker does anything."""
        return self._header[_BEATS]

    def beat(self) -> None:
        """This process is alive."""
        self._header[_BEATS] += 1

    def enter(self) -> None:
        """This process answers from here on: what is to be everywhere has to be here, too."""
        self._header[_GENERATION] = 0
        self._header[_PID] = os.getpid()

    def leave(self) -> None:
        """Nobody answers here any more. The worker says so when it ends, the top process when it has died."""
        self._header[_PID] = 0


class Slots:
    """The block, in any of the processes."""

    def __init__(self, count: int, descriptor: int | None = None) -> None:
        """Makes a block for so many workers, or with an inherited descriptor maps the one there is."""
        self.descriptor = _memory() if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, count * _BYTES)
        # Never unmapped: it lives as long as the process.
        memory = memoryview(mmap.mmap(self.descriptor, count * _BYTES))
        self.all = [Slot(memory[start : start + _BYTES]) for start in range(0, count * _BYTES, _BYTES)]

    @property
    def counters(self) -> list[memoryview]:
        """The counters of all workers."""
        return [slot.counters for slot in self.all]

    def everywhere(self, generation: int, seconds: float, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Waits until every worker that answers has a generation of the models, or a newer one. Returns
        whether that was so within `seconds`; gives up as soon as `wanted` says no."""
        deadline = time.monotonic() + seconds
        while any(slot.pid and slot.generation < generation for slot in self.all):
            if time.monotonic() >= deadline or not wanted():
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mnist-server")
    with tempfile.TemporaryFile() as file:  # without a name already
        return os.dup(file.fileno())
