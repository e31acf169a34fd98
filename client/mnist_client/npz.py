"""An .npz archive holds NumPy arrays: `images`, `labels`, and perhaps `images_test` and `labels_test`."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, reading
from mnist_client.idx import MAX_BYTES

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def read_npz(path: Path) -> tuple[Arrays, Arrays | None]:
    """Returns images (N, H, W) and labels (N,) of the training split, and those of the test split or None.

    The archive's images are (N, H, W), or (N, H x H) of square ones, and all its values integers from 0 to
    255, of any integer type. Floats are refused: nothing tells whether they end at 1 or at 255. Raises
    DataNotFound where there is no file, and DataError naming the array that is wrong.
    """
    with reading(path):
        path.open("rb").close()  # is_zipfile does not say why it could not read
        if not zipfile.is_zipfile(path):
            raise DataError(f"{path}: found no zip archive; expected an .npz of NumPy arrays")
        try:
            # A pickle runs whatever code its writer chose, so arrays of objects are refused.
            with np.load(path, allow_pickle=False) as archive:
                size = sum(member.file_size for member in archive.zip.infolist())
                if size > MAX_BYTES:
                    raise DataError(f"{path}: found {size} bytes uncompressed; expected at most {MAX_BYTES}")
                train = _arrays(path, archive, "")
                with_test = not {"images_test", "labels_test"}.isdisjoint(archive.files)
                return train, _arrays(path, archive, "_test") if with_test else None
        except (zipfile.BadZipFile, ValueError, MemoryError, NotImplementedError) as error:
            raise DataError(f"{path}: cannot be read: {error}; expected NumPy arrays") from error


def _arrays(path: Path, archive: "np.lib.npyio.NpzFile", suffix: str) -> Arrays:
    names = f"images{suffix}", f"labels{suffix}"
    if not set(names) <= set(archive.files):
        found = ", ".join(archive.files) or "none"
        raise DataError(f"{path}: found arrays {found}; expected {' and '.join(names)}")
    images, labels = (_as_bytes(f"{path}: {name}", archive[name]) for name in names)
    if images.ndim == 2 and images.size and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(-1, side, side)
    if images.ndim != 3:
        raise DataError(
            f"{path}: {names[0]}: found shape {images.shape}; expected (N, H, W), or (N, H x H) of squares"
        )
    return images, labels


def _as_bytes(source: str, values: NDArray[Any]) -> NDArray[np.uint8]:
    """Integers as uint8, in C order: the very same array where they are so already."""
    values = np.asarray(values)  # a member of another kind comes as bytes
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{source}: found {values.dtype}; expected integers from 0 to 255")
    if values.dtype != np.uint8:
        wrong = values[(values < 0) | (values > 255)]
        if wrong.size:
            raise DataError(f"{source}: found {wrong[0]}; expected integers from 0 to 255")
    return np.asarray(values, dtype=np.uint8, order="C")
