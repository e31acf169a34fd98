"""IDX files: what is read of them, and what a damaged one is told apart by."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, DataNotFound
from mnist_client.idx import MAX_BYTES, read_idx

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_reads_an_array_whatever_its_file_is_called(tmp_path: Path, compress: type[bytes]) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes(compress(idx(IMAGES)))
    array = read_idx(path, 3)
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, IMAGES)


def test_reads_the_bytes_of_the_format_page(tmp_path: Path) -> None:
    # Magic number 0x00000801, then the number of items, 3, then the labels 5, 0, 4, by hand.
    path = tmp_path / "labels"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
    assert read_idx(path, 1).tolist() == [5, 0, 4]


def test_reads_more_than_a_chunk(tmp_path: Path) -> None:
    array = np.random.default_rng(1).integers(0, 256, (3, 1000, 1000), dtype=np.uint8)
    path = tmp_path / "large.gz"
    path.write_bytes(gzip.compress(idx(array), 1))
    np.testing.assert_array_equal(read_idx(path, 3), array)


def test_an_empty_array_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(idx(np.empty((0, 28, 28), dtype=np.uint8)))
    assert read_idx(path, 3).shape == (0, 28, 28)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_checks_the_hash_of_the_uncompressed_file(tmp_path: Path, compress: type[bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(compress(idx(IMAGES)))
    read_idx(path, 3, sha256=hashlib.sha256(idx(IMAGES)).hexdigest())
    with pytest.raises(DataError, match=f"{path}: found contents of SHA-256 .*; expected {'0' * 64}"):
        read_idx(path, 3, sha256="0" * 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found 0 bytes; expected an IDX header of 16"),
        (b"\0\0\x08", "found 3 bytes; expected an IDX header of 16"),
        (idx(IMAGES)[:10], "found 10 bytes; expected an IDX header of 16"),
        (b"\x89PNG" + bytes(40), "found magic number 2303741511; expected 2051"),
        (idx(IMAGES[0, 0]), "found magic number 2049; expected 2051"),
        (b"\0\0\x0d\x03" + bytes(40), "found magic number 3331; expected 2051"),
        (idx(IMAGES)[:-1], r"found 23 bytes of data; expected 24 bytes, for shape \(2, 3, 4\)"),
        (idx(IMAGES) + b"\0", "found more of data; expected 24 bytes"),
        (
            struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3),
            rf"found shape \(4294967295, .*; expected at most {MAX_BYTES}",
        ),
        # 4 GiB are promised and none come: no memory is filled before bytes arrive.
        (struct.pack(">BBBB3I", 0, 0, 8, 3, 4, 2**15, 2**15), "found 0 bytes of data; expected 4294967296"),
        (gzip.compress(idx(IMAGES))[:-9], "cannot be read: .*end-of-stream"),
        (gzip.compress(idx(IMAGES))[:-8] + bytes(8), "cannot be read: CRC"),
        (b"\x1f\x8b" + bytes(40), "cannot be read: "),
    ],
)
def test_a_damaged_file_is_an_error_that_says_how(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_idx(path, 3)


def test_a_gzip_bomb_is_read_no_further_than_its_shape(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx(IMAGES) + bytes(50_000_000)))
    with pytest.raises(DataError, match="found more of data; expected 24 bytes"):
        read_idx(path, 3)


def test_what_is_not_there_or_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=f"{tmp_path / 'absent'}: no such file"):
        read_idx(tmp_path / "absent", 3)
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_idx(tmp_path, 3)
