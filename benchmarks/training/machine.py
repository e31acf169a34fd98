"""The machine is what a benchmark ran on: its figures mean little elsewhere."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Returns processor, cores, system and Python."""
    cpu = Path("/proc/cpuinfo")
    models = [line for line in cpu.read_text().splitlines() if "model name" in line] if cpu.exists() else []
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def others_seconds() -> float | None:
    """Returns processor seconds used by all but this process and its ended children, from some beginning on.

    None where the system does not tell.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, interrupts, soft_interrupts, stolen, *_ = map(
        int, stat.read_text().split("\n", 1)[0].split()[1:]
    )
    busy = (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])


def commit(repository: Path) -> str:
    """Returns the commit checked out, with `-dirty` where files differ from it; `unknown` without git."""
    command = ["git", "-C", str(repository), "--no-optional-locks", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
