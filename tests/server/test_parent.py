import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TIMEOUT = 30.0
CHILD = """
import time
from mnist_server.parent import end_with_parent
end_with_parent()
print("there", flush=True)
time.sleep(600)
"""
PARENT = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_it_ends_when_the_pipe_closes() -> None:
    command = [sys.executable, "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(TIMEOUT) == 1


def test_it_ends_when_the_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        os.kill(parent.pid, signal.SIGKILL)
        deadline = time.monotonic() + TIMEOUT
        while not gone(child):
            assert time.monotonic() < deadline
            time.sleep(0.01)
