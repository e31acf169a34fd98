"""A data error says what was being read, what was found there, and what was expected."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from mnist_client.errors import MnistError


class DataError(MnistError):
    """Images or labels that cannot be used: a file damaged, of another kind, or out of range."""


class DataNotFound(DataError):
    """A file or folder that is not there."""


class DataUnreachable(DataError):
    """A download that no mirror gave."""


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Makes data errors, naming the file, of what the system and gzip raise while it is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataNotFound(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read: {reason}") from error
