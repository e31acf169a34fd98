"""Parents: a process that the server started ends when the server does, however that ends."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ends this process at once when the one that started it is gone.

    Standard input must be a pipe from there that nothing more comes through.
    """

    def wait_for_the_end() -> None:
        os.read(0, 1)  # returns when the pipe closes; unlike sys.stdin it holds no lock at exit
        os._exit(1)

    threading.Thread(target=wait_for_the_end, name="parent", daemon=True).start()
    if sys.platform == "linux":  # besides: it works even while a long computation holds the interpreter
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
