"""A CSV table of images: a row an image, its label first and then its pixels, row-major."""

import gzip
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, reading
from mnist_client.idx import MAX_BYTES

_BLOCK_BYTES = 16 << 20
_MAX_LINE_BYTES = 4 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NUMBER_BEGINS = b"+-.0123456789"
_INTEGERS = b"0123456789, \t\r\n"


def read_csv(path: Path, *, label_column: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns images (N, H, H) and labels (N,) of a CSV file, gzip where its name ends in .gz.

    Every value is an integer from 0 to 255, and a row has 1 + H x H of them. A first line that does not begin
    with a number is a header and is left out, as empty lines are. Raises DataNotFound where there is no file,
    and DataError naming the line that is wrong.
    """
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    with reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for table in _tables(path, stream):
            side = math.isqrt(table.shape[1] - 1)
            labels.append(table[:, label_column].copy())
            images.append(np.delete(table, label_column, axis=1).reshape(-1, side, side))
    if not images:
        raise DataError(f"{path}: found no row; expected a row an image, its label first")
    return np.concatenate(images), np.concatenate(labels)


def _tables(path: Path, stream: io.BufferedIOBase) -> Iterator[NDArray[np.uint8]]:
    """The rows of a file, block after block, each checked."""
    columns = total = 0
    first = 1  # the number of the block's first line
    while lines := list(_block(path, stream)):
        if first == 1:
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
            if lines[0].lstrip()[:1] not in _NUMBER_BEGINS:
                lines[0] = b""
        rows = [line.decode("latin-1") for line in lines if line.strip()]
        if rows:
            columns = columns or _columns(path, rows[0])
            # NumPy before 2 would read 0.5 as 0, with a warning.
            if any(line.translate(None, _INTEGERS) for line in lines):
                raise _wrong_line(path, lines, first, columns)
            try:
                table = np.loadtxt(rows, dtype=np.uint8, delimiter=",", comments=None, ndmin=2)
            except ValueError as error:
                raise _wrong_line(path, lines, first, columns) from error
            if table.shape[1] != columns:
                raise _wrong_line(path, lines, first, columns)
            total += table.size
            if total > MAX_BYTES:
                raise DataError(f"{path}: found more than {MAX_BYTES} values; expected at most that")
            yield table
        first += len(lines)


def _block(path: Path, stream: io.BufferedIOBase) -> Iterator[bytes]:
    """The next lines of a file, some 16 MiB of them, however long a line pretends to be."""
    size = 0
    while size < _BLOCK_BYTES and (line := stream.readline(_MAX_LINE_BYTES)):
        if len(line) == _MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise DataError(f"{path}: found a line of {len(line)} bytes or more; expected an image a line")
        size += len(line)
        yield line


def _columns(path: Path, row: str) -> int:
    columns = row.count(",") + 1
    if columns < 2 or math.isqrt(columns - 1) ** 2 != columns - 1:
        raise DataError(
            f"{path}: found rows of {columns} values; expected a label and the pixels of a square image, "
            "785 values for 28 x 28"
        )
    return columns


def _wrong_line(path: Path, lines: Sequence[bytes], first: int, columns: int) -> DataError:
    """The error for the first line that is wrong among `lines`, which number from `first` on."""
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        values = [value.strip() for value in line.split(b",")]
        if len(values) != columns:
            return DataError(f"{path}, line {number}: found {len(values)} values; expected {columns}")
        for column, value in enumerate(values, 1):
            if not value.isdigit() or len(value) > 9 or int(value) > 255:
                return DataError(
                    f"{path}, line {number}, value {column}: found {value[:20].decode('latin-1')!r}; "
                    "expected an integer from 0 to 255"
                )
    last = first + len(lines) - 1
    return DataError(f"{path}, lines {first} to {last}: cannot be read; expected integers from 0 to 255")
