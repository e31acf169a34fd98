"""Worker processes: how the top process starts, configures, hears and ends the programs that answer.

This module needs little besides the standard library: workers start first, and load what they need while the
top process does its own work.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

from mnist_server.slots import Slots

READY = b"ready"
FAILED = b"failed "
# What glibc would do otherwise is to give the memory of each large message back to the kernel and to fetch it
# again, page by page, for the next.
_MALLOC_BYTES = str(32 * 2**20)
# What workers are started with, unless the server itself was started with something else.
ENVIRONMENT = {
    # Read by OpenBLAS when NumPy is loaded: one thread a product leaves the cores to the requests.
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": _MALLOC_BYTES,
    "MALLOC_TRIM_THRESHOLD_": _MALLOC_BYTES,
    # Two experiments, as gRPC calls them. Without the first the thread that serves reads the sockets itself,
    # as before gRPC's core had threads for that, which on one core is a switch of threads for each request.
    # With the second a call passes one filter of the core instead of several. CONTRIBUTING.md has figures; a
    # core that does not know a name any more says so, no more.
    "GRPC_EXPERIMENTS": "-event_engine_listener,fuse_filters",
}


def cores() -> int:
    """Returns how many cores this process may run on, and those that it starts."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


class WorkerProcess:
    """One process that answers, from its start to its end.

    It hears its configuration, a line of JSON, and later the server's end on its standard input; on its
    standard output it says `ready` once it answers, or `failed` and why. SIGTERM makes it drain.
    """

    def __init__(self, index: int, slots: Slots) -> None:
        """Starts the program. It loads what it needs and waits for its configuration."""
        self.index = index
        self.ready = False
        self.reason = ""
        self.began = time.monotonic()
        self._slots = slots
        self._heard = b""
        # A new program, never a fork of this one; in a process group of its own, so that Ctrl-C in a terminal
        # is the top process's alone.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mnist_server.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[slots.descriptor],
            process_group=0,
            env=ENVIRONMENT | os.environ,
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def configure(self, **configuration: object) -> None:
        """Tells it what to serve, in the words of Worker's arguments."""
        block = {"descriptor": self._slots.descriptor, "workers": len(self._slots.all), "index": self.index}
        line = json.dumps(block | configuration) + "\n"
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; hear() will say so
            self._process.stdin.write(line.encode())

    def fileno(self) -> int:
        """What becomes readable when hear() has something to do."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def hear(self) -> bool:
        """Reads what it says. Returns whether it is still there; otherwise `reason` says why not."""
        data = os.read(self.fileno(), 65536)
        self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            if line == READY:
                self.ready = True
            elif line.startswith(FAILED):
                self.reason = line.removeprefix(FAILED).decode(errors="replace")
        if data:
            return True
        self.ready = False
        self.reason = self.reason or _how(self._process.wait())
        self._end()
        return False

    def drain(self) -> None:
        """Asks it to end, as soon as what it answers is answered."""
        self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Waits for its end; kills it where it takes longer. Returns whether it ended by itself."""
        try:
            self._process.wait(timeout=max(seconds, 0.0))
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
            self.kill()
        self._end()
        return in_time

    def strike(self) -> None:
        """Ends it at once, which hear() is told like any other death."""
        self._process.kill()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.wait()
        self._end()

    def _end(self) -> None:
        self._slots.all[self.index].leave()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _how(code: int) -> str:
    return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
