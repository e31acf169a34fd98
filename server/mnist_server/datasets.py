"""Data sets: images and labels that came over the wire, on disk under the hash of what they are.

A data set is a folder of plain files, a pair a split: `train-images` (N x H x W bytes) and `train-labels`
(N bytes). Trainers map them, so that a data set is in memory once, whoever reads it.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mnist_core import Dataset, InvalidValue, Split
from mnist_core.durable import sync_directory
from mnist_proto.dataset_hash import SPLITS, DatasetHash
from mnist_proto.v1 import training_pb2
from mnist_server.errors import Corrupt
from mnist_server.limits import Limits


class Upload:
    """A data set that is arriving: spooled to disk, in a folder that is removed unless it is finished."""

    def __init__(self, folder: Path, height: int, width: int, limits: Limits) -> None:
        """Begins a data set of images of height x width pixels in `folder`, the data sets' own."""
        self.height, self.width = height, width
        self._folder = folder
        self._limits = limits
        self._hash = DatasetHash(height, width)
        self.counts = dict.fromkeys(SPLITS, 0)
        self._spool = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder))
        self._files: dict[str, BinaryIO] = {}

    def add(self, split: str, pixels: bytes, labels: bytes) -> None:
        """Adds a batch whose sizes were checked. Raises InvalidValue once the data set is too large."""
        self.counts[split] += len(labels)
        images = sum(self.counts.values())
        size = images * self.height * self.width
        if images > self._limits.max_dataset_images:
            raise InvalidValue(
                "batch", f"image {images}", f"at most {self._limits.max_dataset_images} images"
            )
        if size > self._limits.max_dataset_bytes:
            raise InvalidValue("batch", f"byte {size}", f"at most {self._limits.max_dataset_bytes} bytes")
        self._hash.add(split, pixels, labels)
        self._file(f"{split}-images").write(pixels)
        self._file(f"{split}-labels").write(labels)

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            self._files[name] = (self._spool / name).open("wb")
        return self._files[name]

    @property
    def bytes(self) -> int:
        """Bytes on disk."""
        return sum(self.counts.values()) * (self.height * self.width + 1)

    @property
    def hash(self) -> str:
        """The canonical hash of what has arrived."""
        return self._hash.hexdigest()

    def finish(self) -> bool:
        """Makes the data set durable under its hash. Returns whether it was not there before."""
        target = self._folder / self.hash
        if target.exists():
            self.abandon()
            return False
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files.clear()
        sync_directory(self._spool)
        self._spool.rename(target)
        sync_directory(self._folder)
        return True

    def abandon(self) -> None:
        """Removes what was spooled. Does nothing after finish()."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # close() writes what is left: the disk may be full
                file.close()
        self._files.clear()
        shutil.rmtree(self._spool, ignore_errors=True)


def open_dataset(folder: Path, config: training_pb2.ResolvedConfig) -> Dataset:
    """Maps the data set of a configuration, with the validation split it holds back.

    Raises Corrupt if it is not what its name, the hash of its contents, says.
    """
    path = folder / config.dataset.removeprefix("datasets/")
    held_back = config.config.validation_images  # 0 where the split was sent as such, or there is none
    counts = {
        "train": config.train_images + held_back,
        "validation": 0 if held_back else config.validation_images,
        "test": config.test_images,
    }
    found = DatasetHash(config.height, config.width)
    splits: dict[str, Split | None] = dict.fromkeys(SPLITS)
    for name, count in counts.items():
        if count:
            split = splits[name] = _open_split(path, name, count, config.height, config.width)
            found.add(name, split.images.data, split.labels.data)
    if found.hexdigest() != path.name:
        raise Corrupt(f"{path} holds other images or labels than its name says")
    train, validation, test = (splits[name] for name in SPLITS)
    assert train is not None, "a job has training images"
    if held_back:
        validation = Split(train.images[-held_back:], train.labels[-held_back:])
        train = Split(train.images[:-held_back], train.labels[:-held_back])
    return Dataset(train, validation, test)


def _open_split(path: Path, split: str, count: int, height: int, width: int) -> Split:
    images, labels = path / f"{split}-images", path / f"{split}-labels"
    for file, size in ((images, count * height * width), (labels, count)):
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            raise Corrupt(f"{file} is not there: expected {size} bytes") from None
        if found != size:
            raise Corrupt(f"{file} has {found} bytes: expected {size}")
    return Split(
        np.memmap(images, dtype=np.uint8, mode="r", shape=(count, height, width)),
        np.fromfile(labels, dtype=np.uint8),
    )
