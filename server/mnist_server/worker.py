"""The worker: the process that answers requests, one of several on the server's port.

It holds nothing that another could not: what it is asked to train is a row in the database, what it answers
with are files and rows. It may die at any moment.
"""

import json
import logging
import os
import select
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.errors import ServerError
from mnist_server.limits import Limits
from mnist_server.logs import configure_logging
from mnist_server.parent import end_with_parent
from mnist_server.serving import Worker
from mnist_server.slots import Slots
from mnist_server.worker_process import FAILED, READY

# The top process takes a worker for hung that is silent for much longer.
BEAT_SECONDS = 1.0


def main() -> int:
    """Answers from when the top process says what until it asks for the end. Returns the exit status."""
    configuration = _configuration()
    if configuration is None:
        return 1
    end_with_parent()
    configure_logging()
    asked, ask = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: os.write(ask, b"!"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    directory = DataDirectory(Path(configuration["root"]))
    # As long as any worker lives, no other server touches the directory.
    alive = Lock(directory.workers_lock)
    slots = Slots(configuration["workers"], configuration["descriptor"])
    try:
        alive.acquire({}, shared=True)
        worker = Worker(
            directory,
            configuration["host"],
            configuration["port"],
            slots,
            configuration["index"],
            Limits(
                max_running_jobs=configuration.get("max_running_jobs", Limits.max_running_jobs),
                max_stored_dataset_bytes=configuration.get(
                    "max_stored_dataset_bytes", Limits.max_stored_dataset_bytes
                ),
            ),
            fast_path=configuration.get("fast_path", True),
            pretrained=configuration.get("pretrained", False),
        )
    except (ServerError, OSError, sqlite3.Error) as error:
        os.write(1, FAILED + " ".join(str(error).split()).encode() + b"\n")
        return 1
    worker.start()
    os.write(1, READY + b"\n")
    while not select.select([asked], [], [], BEAT_SECONDS)[0]:
        slots.all[configuration["index"]].beat()
    worker.stop()
    # Not by way of the interpreter's end, which waits for every thread of a call for ever.
    logging.shutdown()
    os._exit(0)


def _configuration() -> dict[str, Any] | None:
    """What the top process says, or None if it is gone before that."""
    heard = b""
    while not heard.endswith(b"\n"):
        data = os.read(0, 65536)
        if not data:
            return None
        heard += data
    configuration: dict[str, Any] = json.loads(heard)
    return configuration


if __name__ == "__main__":
    sys.exit(main())
