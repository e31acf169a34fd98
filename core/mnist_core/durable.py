"""Durable files: either the old content or the new one whole, whatever happens meanwhile."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

TEMPORARY_PREFIX = ".writing-"

Bytes = bytes | bytearray | memoryview


def write_file(path: Path, data: Bytes | Iterable[Bytes]) -> None:
    """Writes `data`, or its parts one after the other, as the whole content of `path`.

    It is written aside in the same folder, under a name that begins with TEMPORARY_PREFIX, synchronized to
    the disk and renamed; when this returns, it survives a power cut. On an error the old content stays, and
    nothing is left aside; a killed process leaves what it had written, for the folder's owner to remove. Only
    the file's owner may read it. Raises OSError.
    """
    parts: Iterable[Bytes] = [data] if isinstance(data, Bytes) else data
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a folder survive a power cut: files created, renamed or removed. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
