"""An IDX file is an array of bytes behind its own shape; MNIST's four files are such.

Two zero bytes, a type code (8 = unsigned byte), the number of dimensions D, then D sizes as big-endian
unsigned 32-bit integers, then the array, row-major (from the page of MNIST, http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import hashlib
import io
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, reading

GZIP_MAGIC = b"\x1f\x8b"

# Bytes of an array, uncompressed, that the readers of this package will make.
MAX_BYTES = 4 << 30

_UNSIGNED_BYTE = 8
_CHUNK = 1 << 20


def read_idx(
    path: str | os.PathLike[str], dimensions: int, *, sha256: str | None = None
) -> NDArray[np.uint8]:
    """Returns the array of an IDX file of unsigned bytes, gzip or not (its contents tell, not its name).

    The array is filled as the file is read: there is no second copy of it at any time. With `sha256`, in
    hexadecimal, the uncompressed file must have that hash. Raises DataNotFound where there is no file, and
    DataError where it is damaged, has another hash or is not an array of `dimensions` dimensions.
    """
    digest = hashlib.sha256()
    with _open(path) as stream:
        head = stream.read(4 + 4 * dimensions)
        array = np.empty(_shape(path, head, dimensions), dtype=np.uint8)
        digest.update(head)
        rest = array.reshape(-1).data
        # GzipFile.readinto makes a copy of all it is asked for, so it is asked for a little.
        while len(rest) and (count := stream.readinto(rest[:_CHUNK])):
            digest.update(rest[:count])
            rest = rest[count:]
        if len(rest) or stream.read(1):
            found = f"{array.size - len(rest)} bytes" if len(rest) else "more"
            raise DataError(
                f"{path}: found {found} of data; expected {array.size} bytes, for shape {array.shape}"
            )
    if sha256 is not None and digest.hexdigest() != sha256:
        raise DataError(f"{path}: found contents of SHA-256 {digest.hexdigest()}; expected {sha256}")
    return array


def _shape(path: str | os.PathLike[str], head: bytes, dimensions: int) -> tuple[int, ...]:
    magic, expected = int.from_bytes(head[:4], "big"), _UNSIGNED_BYTE << 8 | dimensions
    if len(head) >= 4 and magic != expected:
        raise DataError(f"{path}: found magic number {magic}; expected {expected}, of an IDX file")
    if len(head) < 4 + 4 * dimensions:
        raise DataError(f"{path}: found {len(head)} bytes; expected an IDX header of {4 + 4 * dimensions}")
    shape = struct.unpack(f">{dimensions}I", head[4:])
    if math.prod(shape) > MAX_BYTES:
        raise DataError(f"{path}: found shape {shape}; expected at most {MAX_BYTES} bytes")
    return shape


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[io.BufferedIOBase]:
    with reading(path), Path(path).open("rb") as raw:
        if raw.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC):
            with gzip.GzipFile(fileobj=raw) as unzipped:
                yield unzipped
        else:
            yield raw
