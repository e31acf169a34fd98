"""Progress inside an epoch: a small file that a trainer overwrites and any process may read.

Progress is not history: the newest replaces the one before, nothing waits for a disk, and after a crash
it means nothing. So it stays out of the database.
"""

import os
import struct
from pathlib import Path

from mnist_proto.v1 import training_pb2 as pb

_FORMAT = struct.Struct("<QQQd")


class ProgressWriter:
    """Writes the progress of one job."""

    def __init__(self, job_folder: Path) -> None:
        self._path = job_folder / "progress"
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, epoch: int, images: int, total_images: int, loss: float) -> None:
        """Replaces the progress."""
        os.pwrite(self._file, _FORMAT.pack(epoch, images, total_images, loss), 0)

    def remove(self) -> None:
        """Takes it back: there is no progress."""
        self._path.unlink(missing_ok=True)


def read_progress(job_folder: Path) -> pb.Progress | None:
    """Returns the progress of a job, or None if it has none now."""
    try:
        data = (job_folder / "progress").read_bytes()
    except OSError:
        return None
    if len(data) != _FORMAT.size:
        return None
    epoch, images, total_images, loss = _FORMAT.unpack(data)
    return pb.Progress(epoch=epoch, images=images, total_images=total_images, loss=loss)
