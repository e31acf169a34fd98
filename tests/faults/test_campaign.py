import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_training_survives_a_few_kills_to_the_same_bits() -> None:
    """A little of what `make test-faults` does at length."""
    command = [sys.executable, "-m", "tests.faults", "--smoke", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("a few kills: 3 faults")
