"""`make test-faults`: a campaign of faults against real servers, at least 200 in at most 40 minutes.

python -m tests.faults [--seed N] [--only PART] [--smoke] [--write]
"""

import argparse
import json
import os
import platform
import secrets
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from tests.faults import clients, clock, disk, files, kills, storm
from tests.faults.campaign import SHORT, Campaign

from mnist_client import load_dataset

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DATA = "mnist" if "MNIST_DATA" in os.environ else "mnist-5k"
AT_ONCE = 3
# The longest first: so the last are short, and none is waited for alone.
PARTS: dict[str, Callable[[Campaign], None]] = {
    **{f"{name}, ten kills": kills.short(name) for name in reversed(SHORT)},
    "the classic run in full": kills.classic,
    "requests in a row": storm.storm,
    "full disks": disk.full,
    "clocks": clock.clock,
    "unwritable directories": disk.unwritable,
    "databases": files.database,
    "checkpoints": files.checkpoints,
    "pauses": kills.pauses,
    "clients that go": clients.uploads,
    "a disk that stays full": disk.never,
    "second servers": clients.second,
}


def smoke(campaign: Campaign) -> None:
    """A minute of it, for `make test`."""
    kills.run(campaign, "quick", {"recipe": "quick", "epochs": 3, "seed": 1}, 3)


def main() -> int:
    """Runs the campaign. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__)
    seed = os.environ.get("SEED") or secrets.randbelow(10**6)
    parser.add_argument("--seed", type=int, default=int(seed))
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--smoke", action="store_true", help="a few kills, for make test")
    parser.add_argument("--write", action="store_true", help="write the figures down")
    arguments = parser.parse_args()
    if arguments.smoke:
        return run("a few kills", smoke, arguments.seed)
    if arguments.only:
        return run(arguments.only, PARTS[arguments.only], arguments.seed)
    began = time.monotonic()
    # Most of a part's time goes by in waiting: some at a time, each in a process of its own.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = dict(zip(PARTS, pool.map(partial(begin, arguments.seed), PARTS), strict=True))
    failed = [name for name, figures in parts.items() if figures is None]
    done = sum((Counter(figures["faults"]) for figures in parts.values() if figures), Counter[str]())
    seconds = time.monotonic() - began
    say(f"{done.total()} faults, failed parts: {len(failed)}, in {seconds / 60:.1f} minutes")
    if arguments.write:
        taken = {name: figures["seconds"] for name, figures in parts.items() if figures}
        write(arguments.seed, done, taken, failed, seconds)
    if failed:
        say(f"FAILED: {', '.join(failed)}; SEED={arguments.seed} make test-faults does the same again")
    return 1 if failed else 0


def begin(seed: int, name: str) -> Any:
    """Runs one part in a process of its own. Returns its figures, None if it failed."""
    command = [sys.executable, "-m", "tests.faults", "--seed", str(seed), "--only", name]
    part = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    *said, last = part.stdout.splitlines() or [""]
    for line in said:
        say(line)
    if part.returncode:
        say(last)
    return None if part.returncode else json.loads(last)


def run(name: str, part: Callable[[Campaign], None], seed: int) -> int:
    """Runs one part here, and prints its figures. Returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
    campaign = Campaign(seed, load_dataset(DATA))
    campaign.random.seed(f"{seed} {name}")
    began = time.monotonic()
    try:
        part(campaign)
    except Exception:
        traceback.print_exc()
        say(f"FAILED in {name!r}: SEED={seed} make test-faults")
        return 1
    seconds = time.monotonic() - began
    say(f"{name}: {campaign.done.total()} faults, {seconds:.0f} s")
    say(json.dumps({"faults": campaign.done, "seconds": seconds}))
    return 0


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write(seed: int, done: Counter[str], parts: dict[str, float], failed: list[str], seconds: float) -> None:
    """Writes the figures down, for people and for programs."""
    figures = {
        "command": f"SEED={seed} make test-faults",
        "data": DATA,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "seconds": round(seconds),
        "faults": done.total(),
        "failures": len(failed),
        "failed_parts": failed,
        "by_kind": dict(sorted(done.items())),
        "seconds_by_part": {name: round(value) for name, value in parts.items()},
    }
    (RESULTS / "faults.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = [f"| {kind} | {count} |" for kind, count in sorted(done.items())]
    times = [f"| {name} | {value:.0f} |" for name, value in parts.items()]
    lines = [
        "# Faults",
        "",
        f"`{figures['command']}`, on {figures['machine']}, with {DATA}, {AT_ONCE} parts at a time: "
        f"{figures['faults']} faults in {seconds / 60:.1f} minutes. "
        f"Failed parts: {', '.join(failed) or 'none'}.",
        "",
        "After each: the server is there again or never went, histories have neither gap nor repetition,",
        "weights are those of an undisturbed run epoch by epoch, what was acknowledged is there, and neither",
        "a process nor a file that nobody needs is left behind.",
        "",
        "| fault | times |",
        "|---|---|",
        *rows,
        "",
        "| part | seconds |",
        "|---|---|",
        *times,
    ]
    (RESULTS / "faults.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
