"""The demo, as someone without MNIST and without a terminal sees it, and as someone who loses patience."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parent.parent / "scripts" / "demo.py"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """No MNIST on this machine, and none to be had: nothing listens on the discard port."""
    without = {name: value for name, value in os.environ.items() if name != "MNIST_DATA"}
    temporary = tmp_path / "temporary files"
    temporary.mkdir()
    return {
        **without,
        "MNIST_PRETRAINED": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HOME": str(tmp_path / "home"),
        "MNIST_MIRROR": "http://127.0.0.1:9/",
        "PYTHONUTF8": "1",
        "TMPDIR": str(temporary),
    }


def assert_nothing_is_left(output: str, environment: dict[str, str]) -> None:
    served = re.search(r"^Serving on 127\.0\.0\.1:(\d+)$", output, re.MULTILINE)
    assert served, output
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(served[1])), timeout=10)
    assert list(Path(environment["TMPDIR"]).iterdir()) == []


def test_without_mnist_it_says_so_and_learns_from_the_sample(environment: dict[str, str]) -> None:
    finished = subprocess.run(
        [sys.executable, DEMO], env=environment, capture_output=True, text=True, timeout=240
    )
    output = finished.stdout
    assert finished.returncode == 0, output + finished.stderr
    assert "MNIST cannot be had here" in output
    assert "this is not MNIST but mnist-5k" in output
    epochs = re.findall(r"^Epoch (\d+) : (\d+) / 1000$", output, re.MULTILINE)
    assert [int(epoch) for epoch, _ in epochs] == list(range(30))
    # The seed is fixed; 4,000 images and 30 epochs bring this network to some 890 of 1,000.
    assert int(epochs[-1][1]) > 800
    told = re.findall(r"test-\d-is-a-(\d)\.png: (\d) ", output)
    assert len(told) == 5
    assert all(label == named for label, named in told)  # by the pretrained model
    assert output.count("█") > 5  # drawn, each beside its probabilities
    assert "The server has stopped and exited 0." in output
    assert_nothing_is_left(output, environment)


def test_interrupted_it_leaves_nothing(environment: dict[str, str]) -> None:
    demo = subprocess.Popen(
        [sys.executable, DEMO],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            seen += line
            if "Epoch 0" in line:
                os.killpg(demo.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
                break
        rest, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130, seen + rest
    assert "Interrupted. Nothing is left running." in rest
    assert_nothing_is_left(seen, environment)
