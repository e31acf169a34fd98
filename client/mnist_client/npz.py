"""An .npz archive holds NumPy arrays: `images`, `labels`, and perhaps others of a test split and names."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, reading
from mnist_client.idx import MAX_BYTES
from mnist_client.pixels import MAX_BYTE, MAX_LABEL, Labels

Arrays = tuple[NDArray[np.uint8], Labels]


def read_npz(path: Path) -> tuple[Arrays, Arrays | None, tuple[str, ...]]:
    """Returns images (N, H, W) and labels (N,) of the training split, those of the test split or None, and
    what the classes are called, if the archive says it.

    It has `images` and `labels`; a test split is `images_test` and `labels_test`, the names are
    `class_names`, an array of texts. Images are (N, H, W), or (N, H x H) of square ones, integers from 0 to
    255, and labels integers from 0 to 999, of any integer type. Floats are refused: nothing tells whether
    they end at 1 or at 255. Raises DataNotFound where there is no file, and DataError naming the array that
    is wrong.
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
                test = _arrays(path, archive, "_test") if with_test else None
                return train, test, _names(path, archive)
        except (zipfile.BadZipFile, ValueError, MemoryError, NotImplementedError) as error:
            raise DataError(f"{path}: cannot be read: {error}; expected NumPy arrays") from error


def _arrays(path: Path, archive: "np.lib.npyio.NpzFile", suffix: str) -> Arrays:
    names = f"images{suffix}", f"labels{suffix}"
    if not set(names) <= set(archive.files):
        found = ", ".join(archive.files) or "none"
        raise DataError(f"{path}: found arrays {found}; expected {' and '.join(names)}")
    images = _integers(f"{path}: {names[0]}", archive[names[0]], MAX_BYTE).astype(np.uint8, copy=False)
    numbers = _integers(f"{path}: {names[1]}", archive[names[1]], MAX_LABEL)
    kind: Any = np.uint16 if numbers.size and numbers.max() > MAX_BYTE else np.uint8
    labels = numbers.astype(kind, copy=False)
    if images.ndim == 2 and images.size and math.isqrt(images.shape[1]) ** 2 == images.shape[1]:
        side = math.isqrt(images.shape[1])
        images = images.reshape(-1, side, side)
    if images.ndim != 3:
        raise DataError(
            f"{path}: {names[0]}: found shape {images.shape}; expected (N, H, W), or (N, H x H) of squares"
        )
    return images, labels


def _integers(source: str, values: NDArray[Any], most: int) -> NDArray[Any]:
    """Integers from 0 on, in C order: the very same array where they are so already."""
    values = np.asarray(values)  # a member of another kind comes as bytes
    if not np.issubdtype(values.dtype, np.integer):
        raise DataError(f"{source}: found {values.dtype}; expected integers from 0 to {most}")
    if values.dtype != np.uint8:
        wrong = values[(values < 0) | (values > most)]
        if wrong.size:
            raise DataError(f"{source}: found {wrong[0]}; expected integers from 0 to {most}")
    return np.asarray(values, order="C")


def _names(path: Path, archive: "np.lib.npyio.NpzFile") -> tuple[str, ...]:
    if "class_names" not in archive.files:
        return ()
    names = np.asarray(archive["class_names"])
    if names.dtype.kind != "U" or names.ndim != 1:
        found = f"{names.dtype} of shape {names.shape}"
        raise DataError(f"{path}: class_names: found {found}; expected texts of shape (C,)")
    return tuple(names.tolist())
