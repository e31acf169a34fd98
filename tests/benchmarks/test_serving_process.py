import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
if sys.platform == "linux":
    from benchmarks.serving.process import Process

# A parent that ignores SIGTERM, and a child of its own.
FAMILY = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN) if sys.argv[1] == "deaf" else None
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("ready", "w").close()
while time.process_time() < float(sys.argv[2]): pass
time.sleep(600)
"""


def _family(folder: Path, hearing: str, busy_seconds: float) -> "Process":
    command = [sys.executable, "-c", FAMILY, hearing, str(busy_seconds)]
    return Process(command, os.environ, sorted(os.sched_getaffinity(0))[:1], folder)


def _until(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "gone"


def test_the_whole_tree_is_seen_paused_and_ended(tmp_path: Path) -> None:
    with _family(tmp_path, "hearing", 0.5) as process:
        _until((tmp_path / "ready").exists)
        tree = process.tree()
        assert len(tree) == 2
        assert {*process.cpu_seconds()} == {*tree}
        sizes = process.resident_mib()
        assert len(sizes) == 2
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[1] > 1
        _until(lambda: sum(process.cpu_seconds().values()) >= 0.3)
        process.pause()
        _until(lambda: [_state(pid) for pid in tree] == ["T", "T"])
        process.resume()
        _until(lambda: "T" not in [_state(pid) for pid in tree])
        process.pause()
    _until(lambda: all(_state(pid) in ("gone", "Z") for pid in tree))


def test_who_does_not_go_is_made_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.serving.process.STOP_SECONDS", 0.2)
    with _family(tmp_path, "deaf", 0) as process:
        _until((tmp_path / "ready").exists)
        tree = process.tree()
    assert not process.running()
    _until(lambda: all(_state(pid) in ("gone", "Z") for pid in tree))
