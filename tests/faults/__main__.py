"""`make test-faults`: a campaign of faults against real servers, at least 200 in at most 40 minutes.

python -m tests.faults [--seed N] [--only PART] [--smoke] [--write]
"""

import argparse
import json
import os
import platform
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults import clients, clock, disk, files, kills, storm
from tests.faults.campaign import Campaign

from mnist_client import load_dataset

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PARTS: dict[str, Callable[[Campaign], None]] = {
    "each recipe, ten kills": kills.short,
    "the classic run in full": kills.classic,
    "pauses": kills.pauses,
    "requests in a row": storm.storm,
    "full disks": disk.full,
    "a disk that stays full": disk.never,
    "unwritable directories": disk.unwritable,
    "checkpoints": files.checkpoints,
    "databases": files.database,
    "clocks": clock.clock,
    "clients that go": clients.uploads,
    "second servers": clients.second,
}


def smoke(campaign: Campaign) -> None:
    """A minute of it, for `make test`."""
    campaign.random.seed(campaign.seed)
    kills.run(campaign, "quick", {"recipe": "quick", "epochs": 3, "seed": 1}, 3)


def main() -> int:
    """Runs the campaign. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__)
    seed = os.environ.get("SEED") or secrets.randbelow(10**6)
    parser.add_argument("--seed", type=int, default=int(seed))
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--write", action="store_true", help="write the figures down")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and end what was started
    where = "mnist" if "MNIST_DATA" in os.environ else "mnist-5k"
    campaign = Campaign(arguments.seed, load_dataset(where))
    parts = {"a few kills": smoke} if arguments.smoke else PARTS
    began = time.monotonic()
    for name, part in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        campaign.random.seed(f"{arguments.seed} {name}")  # so that each part can be run alone
        before, since = campaign.done.total(), time.monotonic()
        try:
            part(campaign)
        except Exception:
            traceback.print_exc()
            say(f"FAILED in {name!r}: make test-faults SEED={arguments.seed}")
            return 1
        campaign.seconds[name] = time.monotonic() - since
        say(f"{name}: {campaign.done.total() - before} faults, {campaign.seconds[name]:.0f} s")
    seconds = time.monotonic() - began
    say(f"{campaign.done.total()} faults, none of them fatal, in {seconds / 60:.1f} minutes")
    if arguments.write:
        write(campaign, where, seconds)
    return 0


def say(line: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write(campaign: Campaign, where: str, seconds: float) -> None:
    """Writes the figures down, for people and for programs."""
    figures = {
        "command": f"SEED={campaign.seed} make test-faults",
        "data": where,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "seconds": round(seconds),
        "faults": campaign.done.total(),
        "failures": 0,
        "by_kind": dict(sorted(campaign.done.items())),
        "seconds_by_part": {name: round(value) for name, value in campaign.seconds.items()},
    }
    (RESULTS / "faults.json").write_text(json.dumps(figures, indent=2) + "\n")
    rows = [f"| {kind} | {count} |" for kind, count in sorted(campaign.done.items())]
    parts = [f"| {name} | {value:.0f} |" for name, value in campaign.seconds.items()]
    lines = [
        "# Faults",
        "",
        f"`SEED={campaign.seed} make test-faults`, on {figures['machine']}, with {where}: "
        f"{figures['faults']} faults in {seconds / 60:.1f} minutes, failures: 0.",
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
        *parts,
    ]
    (RESULTS / "faults.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
