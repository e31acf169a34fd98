"""A contender, seen from the benchmark: a process that was started once and is told to run an epoch."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.training.configuration import Configuration

REPOSITORY = Path(__file__).resolve().parents[2]
PEERS_PYTHON = REPOSITORY / ".venv-peers" / "bin" / "python"
START_SECONDS, ANSWER_SECONDS, STOP_SECONDS = 120, 120, 10


class Contender:
    """A learner in a process of its own, with the environment and the threads that are its due.

    It is also a context, which ends the process. Raises RuntimeError when that fails or takes too long.
    """

    def __init__(
        self,
        name: str,
        module: str,
        configuration: Configuration,
        data: Path,
        *,
        peer: bool = False,
        held: bool = True,
    ) -> None:
        self.name = name
        python = str(PEERS_PYTHON) if peer else sys.executable
        cores = configuration.threads if held else os.cpu_count() or 1
        command = [python, "-m", "benchmarks.training.learner"]
        command += [module, configuration.to_json(), str(data), str(cores)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(configuration.threads),
            cwd=REPOSITORY,
            text=True,
            bufsize=1,
        )
        self.versions: dict[str, str] = {}

    def start(self) -> None:
        """Waits until it has loaded data and libraries."""
        self.versions = self._answer(START_SECONDS)["versions"]

    def ask(self, command: str) -> dict[str, float]:
        """Gives it a command of `learner`, and returns its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        answer: dict[str, float] = self._answer(ANSWER_SECONDS)
        return answer

    def _answer(self, seconds: float) -> Any:
        # The process answers in whole lines, one a command: nothing waits in a buffer that select cannot see.
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise RuntimeError(f"{self.name}: {'failed' if ready else f'no answer in {seconds} s'}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if kind is not None:
            self._process.kill()
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def _environment(threads: int) -> dict[str, str]:
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    eigen = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    xla = {"XLA_FLAGS": f"{eigen} intra_op_parallelism_threads={threads}", "JAX_PLATFORMS": "cpu"}
    return os.environ | counts | xla
