"""The images named on a command line: files, globs, folders, standard input and arrays, one by one."""

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, DataNotFound, reading
from mnist_client.idx import GZIP_MAGIC, read_idx
from mnist_client.image_folder import image_files

_NPY_MAGIC = b"\x93NUMPY"
_IDX_MAGIC = b"\x00\x00"  # no encoded image begins so
_MAX_ENCODED_BYTES = 64 << 20


def find_images(arguments: Iterable[str]) -> Iterator[tuple[str, bytes | NDArray[np.uint8]]]:
    """Yields each image with its name: encoded images as their bytes, images of arrays as uint8 (H, W).

    An argument is a file, a glob (`**` goes through folders), a folder (the image files inside, sorted, and
    not in its subfolders) or `-` for one encoded image on standard input. What a file holds is told by its
    contents: a .npy array (H, W) or (B, H, W) of uint8, an IDX file of images, gzip or not, or else an
    encoded image, which whoever decodes it will judge. The images of an array of B are named `file.npy[0]`
    on, and are views of it: a batch of them is one `np.stack`.

    Raises DataNotFound, before the first image, where an argument names nothing; and DataError at a file that
    is empty, over 64 MiB encoded, or no such array.
    """
    for name in [name for argument in arguments for name in _files(argument)]:
        if name == "-":
            yield name, _encoded(name, sys.stdin.buffer.read(_MAX_ENCODED_BYTES + 1))
            continue
        with reading(name), Path(name).open("rb") as stream:
            head = stream.peek(len(_NPY_MAGIC))
            is_array = head.startswith((_NPY_MAGIC, _IDX_MAGIC, GZIP_MAGIC))
            encoded = b"" if is_array else stream.read(_MAX_ENCODED_BYTES + 1)
        if not is_array:
            yield name, _encoded(name, encoded)
            continue
        array = _npy(name) if head.startswith(_NPY_MAGIC) else read_idx(name, 3)
        if array.ndim == 2:
            yield name, array
        else:
            for index, image in enumerate(array):
                yield f"{name}[{index}]", image


def _files(argument: str) -> list[str]:
    """The files that an argument names."""
    path = Path(argument)
    with reading(argument):
        if path.is_dir():
            found = [str(file) for file in image_files(path)]
            if not found:
                raise DataNotFound(f"{argument}: no image file in this folder (those below: '{argument}/**')")
            return found
        # A file of that very name comes before the glob: digit[1].png.
        if argument == "-" or path.exists():
            return [argument]
        names = glob.glob(argument, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = sorted(name for name in names if Path(name).is_file())
        if not found:
            raise DataNotFound(f"{argument}: no such file, and none that matches")
        return found


def _encoded(name: str, data: bytes) -> bytes:
    if not 1 <= len(data) <= _MAX_ENCODED_BYTES:
        found = "more" if data else "nothing"
        raise DataError(
            f"{name}: found {found}; expected an image file of at most {_MAX_ENCODED_BYTES} bytes"
        )
    return data


def _npy(name: str) -> NDArray[np.uint8]:
    try:
        with reading(name):
            # Mapped, so that no more is read than is asked for. Never unpickled: a pickle runs code.
            array = np.asarray(np.load(name, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise DataError(f"{name}: cannot be read: {error}; expected a NumPy array of uint8") from error
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
        raise DataError(
            f"{name}: found {array.dtype} of shape {array.shape}; expected uint8 of shape (H, W) or (B, H, W)"
        )
    return array
