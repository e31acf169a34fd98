"""A process tree, seen from outside: pinned to a core, measured by /proc, paused, and ended for good.

Linux only. A server's helpers and workers are its descendants, and count as part of it.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

STOP_SECONDS = 15
# A server that has begun to answer may still be starting a second worker.
QUIET_SECONDS, PATIENCE_SECONDS = 0.5, 10
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A program and whatever it starts, held to `cores`. A context, which ends all of them."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], cores: Sequence[int], folder: Path
    ) -> None:
        self.log = folder / "log"
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                ["taskset", "--cpu-list", ",".join(map(str, cores)), *command],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends its servers itself
            )
        self.pid = self._popen.pid

    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._popen.poll() is None

    def tree(self) -> list[int]:
        """Returns it and its descendants, by process id."""
        children: dict[int, list[int]] = {}
        for pid, fields in _stats():
            children.setdefault(int(fields[1]), []).append(pid)
        found, ahead = [], [self.pid]
        while ahead:
            found.append(ahead.pop())
            ahead += children.get(found[-1], [])
        return found

    def cpu_seconds(self) -> dict[int, float]:
        """Returns the processor time that each of the tree has used so far, by process id."""
        tree = set(self.tree())
        return {pid: (int(fields[11]) + int(fields[12])) / _TICK for pid, fields in _stats() if pid in tree}

    def resident_mib(self) -> list[float]:
        """Returns the resident memory of each of the tree, the largest first."""
        tree = set(self.tree())
        sizes = [int(fields[21]) * _PAGE / 2**20 for pid, fields in _stats() if pid in tree]
        return sorted(sizes, reverse=True)

    def settle(self) -> None:
        """Waits until they do next to nothing, but not for ever."""
        until = time.monotonic() + PATIENCE_SECONDS
        before, used = -1.0, sum(self.cpu_seconds().values())
        while used - before > QUIET_SECONDS / 20 and time.monotonic() < until:
            time.sleep(QUIET_SECONDS)
            before, used = used, sum(self.cpu_seconds().values())

    def pause(self) -> None:
        """Stops all of them, so that they take nothing from another's measurement."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets them go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends all of them, by force if they do not go."""
        tree = self.tree()
        self.resume()
        self._popen.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_SECONDS)
        # Those who outlive their parent are in its session, and were in its tree.
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                if pid == self.pid or _session(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: int) -> None:
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _stats() -> list[tuple[int, list[str]]]:
    """Returns every process with the fields of /proc/PID/stat from its state on (field 3 of proc(5))."""
    stats = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                text = (folder / "stat").read_text()
                stats.append((int(folder.name), text.rsplit(")", 1)[1].split()))
    return stats


def _session(pid: int) -> int | None:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(pid)
    return None
