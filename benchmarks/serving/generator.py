"""The generator is h2load, one for all contenders: it asks, and its log says how long each answer took.

Closed loop: so many requests are in flight all the time. Paced: one every so often, whatever the answers do.
h2load does not read gRPC's status; an answer that is an error has no message, so the bytes of messages that
came back say whether every answer was one.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks.serving.protocol import Protocol, frame
from numpy.typing import NDArray

DEADLINE_SECONDS = 10
WARM_SECONDS = 0.25
_PATIENCE_SECONDS = 60
_US = 1_000_000


@dataclass(frozen=True)
class Load:
    """What came of asking for a while. requests: all of them, those of the warm-up too."""

    per_second: float
    p50_ms: float
    p99_ms: float
    requests: int


class Overload(RuntimeError):
    """Answers failed, or there were none."""


def available() -> str | None:
    """Returns why there is no generator, None if there is."""
    return None if shutil.which("h2load") else "h2load is not there (Debian: nghttp2-client)"


def version() -> str:
    """Returns its version."""
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.split()[-1]


def closed_loop(
    address: str,
    protocol: Protocol,
    payload: bytes,
    answer_bytes: int,
    *,
    in_flight: int,
    seconds: float,
    cores: Sequence[int],
    connections: int = 1,
) -> Load:
    """Keeps so many requests in flight, spread over the connections (HTTP/1.1 has one for each).

    answer_bytes: what one answer's message is long. Raises Overload.
    """
    if not protocol.grpc:
        connections = in_flight
    spread = ["-c", str(connections), "-m", str(in_flight // connections)]
    options = [*spread, "-D", f"{round((WARM_SECONDS + seconds) * 1000)}ms"]
    log, received = _run(address, protocol, payload, options, cores)
    check_answers(log, received, answer_bytes if protocol.grpc else 0)
    return summary(log, seconds)


def summary(log: NDArray[np.int64], seconds: float) -> Load:
    """Returns what a closed loop's log says of the seconds after the warm-up.

    log: a row (start, status, duration) a request, in microseconds. Raises Overload if nothing was answered.
    """
    began = log[:, 0].min() + WARM_SECONDS * _US
    ended = log[:, 0] + log[:, 2]
    durations = log[log[:, 0] >= began, 2]
    finished = int(((ended >= began) & (ended < began + seconds * _US)).sum())
    if not finished or not len(durations):
        raise Overload(f"no answer in {seconds} s")
    p50, p99 = np.percentile(durations, (50, 99)) / 1000
    return Load(finished / seconds, float(p50), float(p99), len(log))


def paced(
    address: str,
    protocol: Protocol,
    payload: bytes,
    answer_bytes: int,
    *,
    per_second: float,
    seconds: float,
    cores: Sequence[int],
) -> Load:
    """Asks at fixed times, over one connection. Raises Overload."""
    count = round(per_second * seconds)
    uri = f"http://{address}{protocol.path}"
    script = "".join(f"{1000 * i / per_second:.3f}\t{uri}\n" for i in range(count))
    with tempfile.NamedTemporaryFile("w", suffix=".timing") as file:
        file.write(script)
        file.flush()
        options = ["-c", "1", "-m", "100", "-n", str(count), f"--timing-script-file={file.name}"]
        log, received = _run(address, protocol, payload, options, cores, scripted=True)
    check_answers(log, received, answer_bytes)
    p50, p99 = np.percentile(log[:, 2], (50, 99)) / 1000
    lasted = (log[:, 0].max() - log[:, 0].min()) / _US
    return Load((len(log) - 1) / lasted, float(p50), float(p99), len(log))


def streams(
    address: str, path: str, messages: bytes, answers_bytes: int, *, count: int, cores: Sequence[int]
) -> float:
    """Sends whole streams of messages one after the other over one connection; returns their seconds."""
    protocol = Protocol("stream", path, bytes, lambda _: np.empty((0, 10), np.float32))
    options = ["-c", "1", "-m", "1", "-n", str(count)]
    log, received = _run(address, protocol, messages, options, cores, framed=True)
    if received != answers_bytes * count:
        raise Overload(f"{received} bytes of answers, expected {answers_bytes * count}")
    return float((log[:, 0] + log[:, 2]).max() - log[:, 0].min()) / _US


def _run(
    address: str,
    protocol: Protocol,
    payload: bytes,
    options: Sequence[str],
    cores: Sequence[int],
    *,
    framed: bool = False,
    scripted: bool = False,
) -> tuple[NDArray[np.int64], int]:
    """Returns a row (start, status, duration in microseconds) a request, and the bytes of all answers."""
    with tempfile.TemporaryDirectory(prefix="mnist-benchmark-") as name:
        folder = Path(name)
        (folder / "payload").write_bytes(frame(payload) if protocol.grpc and not framed else payload)
        command = ["taskset", "--cpu-list", ",".join(map(str, cores)), "h2load", "-t", "1"]
        command += [*options, f"--log-file={folder / 'log'}", "-d", str(folder / "payload")]
        if protocol.grpc:
            for header in (
                "content-type: application/grpc",
                "te: trailers",
                f"grpc-timeout: {DEADLINE_SECONDS}S",
            ):
                command += ["-H", header]
        else:
            command += ["--h1", "-H", "content-type: application/json"]
        done = subprocess.run(
            command if scripted else [*command, f"http://{address}{protocol.path}"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
        log_text = (folder / "log").read_text() if (folder / "log").exists() else ""
    if done.returncode or not log_text:
        raise Overload(f"h2load: {(done.stderr or done.stdout).strip()[-300:] or 'no requests'}")
    log = np.array(log_text.split(), dtype=np.int64).reshape(-1, 3)
    traffic = next(line for line in done.stdout.splitlines() if line.startswith("traffic:"))
    received = int(traffic.split("(")[-1].split(")")[0])
    return log, received


def check_answers(log: NDArray[np.int64], received: int, answer_bytes: int) -> None:
    """Raises Overload unless every request in the log was answered, with a message of so many bytes."""
    statuses = np.unique(log[:, 1])
    if list(statuses) != [200]:
        raise Overload(f"HTTP statuses {statuses.tolist()}")
    expected = len(log) * answer_bytes
    if received < expected:
        raise Overload(f"{len(log)} answers of {answer_bytes} bytes, but {received} bytes came")
