"""Data sets on disk: images and labels that came over the wire, under the hash of what they are.

A data set is a folder of plain files, a pair a split: `train-images` (N x H x W bytes) and `train-labels`
(N bytes, or 2 x N where there is a label above 255). Trainers map them, so that a data set is in memory once,
whoever reads it.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mnist_core import Dataset, InvalidValue, Split
from mnist_core.dataset import Labels
from mnist_core.durable import sync_directory
from mnist_proto.dataset_hash import SPLITS, DatasetHash
from mnist_proto.v1 import dataset_pb2, images_pb2, training_pb2
from mnist_server.data_directory import INCOMING
from mnist_server.dataset_description import WIRE_SPLITS, Description
from mnist_server.errors import Corrupt
from mnist_server.images import read_batch
from mnist_server.jobs import now
from mnist_server.limits import Limits

# An upload asks whether there is room for it each time it has grown by so much.
_ROOM_BYTES = 16 * 2**20
_READ_BYTES = 4 * 2**20
_SPLITS = {wire: split for split, wire in WIRE_SPLITS.items()}


class Upload:
    """A data set that is arriving: spooled to disk, in a folder that is removed unless it is finished."""

    def __init__(
        self, folder: Path, limits: Limits, check_room: Callable[[int], None] = lambda more: None
    ) -> None:
        """Begins a data set in `folder`, the data sets' own.

        `check_room` is asked whether there is room for so many bytes more, and raises if not.
        """
        self._folder = folder
        self._limits = limits
        self._check_room = check_room
        self._granted = 0
        self._largest = 0
        self._description: Description | None = None
        self._spool: Path | None = None
        self._files: dict[str, BinaryIO] = {}

    def take(self, batch: images_pb2.LabeledImages) -> None:
        """Adds a batch as the wire has it. Raises InvalidValue, and what `add` raises."""
        split = _SPLITS.get(batch.split)
        if split is None:
            raise InvalidValue("batch.split", batch.split, "SPLIT_TRAIN, SPLIT_VALIDATION or SPLIT_TEST")
        images, labels = read_batch(batch, self._limits, self._limits.max_classes)
        self.add(split, images, labels)

    def add(self, split: str, images: NDArray[np.uint8], labels: Labels) -> None:
        """Adds images (B, H, W) and labels (B,). Raises InvalidValue once the data set is too large, or for
        another size of images than before, and whatever `check_room` raises."""
        height, width = images.shape[1:]
        if self._description is None:
            self._description = Description(height, width)
        known = self._description
        if any(known.counts.values()) and labels.dtype.itemsize != known.label_bytes:
            found, expected = ("labels", "labels16") if known.label_bytes == 2 else ("labels16", "labels")
            raise InvalidValue(
                f"batch.{found}", f"{len(labels)} labels", f"{expected}, as in the batches before"
            )
        self._largest = max(self._largest, int(labels.max()))
        if (height, width) != (known.height, known.width):
            raise InvalidValue(
                "batch.height",
                f"{height} x {width}",
                f"the size of the images before, {known.height} x {known.width}",
            )
        count = sum(known.counts.values()) + len(labels)
        size = count * height * width
        if count > self._limits.max_dataset_images:
            raise InvalidValue("batch", f"image {count}", f"at most {self._limits.max_dataset_images} images")
        if size > self._limits.max_dataset_bytes:
            raise InvalidValue("batch", f"byte {size}", f"at most {self._limits.max_dataset_bytes} bytes")
        more = len(labels) * (height * width + 1)
        if more > self._granted:
            self._check_room(more)
            self._granted = more + _ROOM_BYTES
        self._granted -= more
        known.add(split, images, labels)
        self._file(f"{split}-images").write(images.data)
        self._file(f"{split}-labels").write(labels.data)

    def _file(self, name: str) -> BinaryIO:
        if name not in self._files:
            if self._spool is None:
                self._spool = Path(tempfile.mkdtemp(prefix=INCOMING, dir=self._folder))
            self._files[name] = (self._spool / name).open("wb")
        return self._files[name]

    @property
    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return dict.fromkeys(SPLITS, 0) if self._description is None else self._description.counts

    def describe(self) -> dataset_pb2.Dataset:
        """Returns what has arrived, as a data set that is stored now. There is at least one image.

        Raises InvalidValue for labels that are all small and came as large ones.
        """
        assert self._description is not None, "nothing has arrived"
        if self._description.label_bytes == 2 and self._largest <= 255:
            # Else one data set would have two names.
            raise InvalidValue("batch.labels16", f"labels up to {self._largest}", "labels, a byte an image")
        return self._description.to_message(now())

    def finish(self) -> None:
        """Makes the data set durable under its hash, in the place of what no row names and lies there."""
        assert self._spool is not None, "nothing has arrived"
        assert self._description is not None
        target = self._folder / self._description.hash
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        self._files.clear()
        sync_directory(self._spool)
        if target.exists():
            shutil.rmtree(target)
        self._spool.rename(target)
        sync_directory(self._folder)

    def abandon(self) -> None:
        """Removes what was spooled. Does nothing after finish()."""
        for file in self._files.values():
            with contextlib.suppress(OSError):  # close() writes what is left: the disk may be full
                file.close()
        self._files.clear()
        if self._spool is not None:
            shutil.rmtree(self._spool, ignore_errors=True)


def open_dataset(folder: Path, config: training_pb2.ResolvedConfig) -> Dataset:
    """Maps the data set of a configuration, with the validation split it holds back.

    Raises Corrupt if it is not what its name, the hash of its contents, says.
    """
    path = folder / config.dataset.removeprefix("datasets/")
    held_back = config.config.validation_images  # 0 where the split was sent as such, or there is none
    found = DatasetHash(config.height, config.width)
    splits: dict[str, Split | None] = dict.fromkeys(SPLITS)
    for name, count in _counts(config).items():
        if count:
            split = splits[name] = open_split(path, name, count, config.height, config.width)
            found.add(name, split.images.data, split.labels.data)
    if found.hexdigest() != path.name:
        raise Corrupt(f"{path} holds other images or labels than its name says")
    train, validation, test = (splits[name] for name in SPLITS)
    assert train is not None, "a job has training images"
    if held_back:
        validation = Split(train.images[-held_back:], train.labels[-held_back:])
        train = Split(train.images[:-held_back], train.labels[:-held_back])
    return Dataset(train, validation, test)


class StoredSplit:
    """One split of a stored data set, read a few thousand images at a time through a map of its files."""

    def __init__(self, path: Path, dataset: dataset_pb2.Dataset, split: dataset_pb2.DatasetSplit) -> None:
        """Maps the files in the data set's folder. Raises Corrupt for files of another size."""
        self._path = path
        self._said = split
        name = _SPLITS[split.split]
        self._split = open_split(path, name, split.images, dataset.height, dataset.width)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
        """Yields images (B, H, W) and labels (B,). Raises Corrupt, at the end, for other ones than stored."""
        images, labels = self._split.images, self._split.labels
        pixels_hash = hashlib.sha256()
        count = max(_READ_BYTES // images[0].size, 1)
        for start in range(0, len(images), count):
            part = slice(start, start + count)
            pixels_hash.update(images[part].data)
            yield images[part], labels[part]
        found = (pixels_hash.hexdigest(), hashlib.sha256(labels.data).hexdigest())
        if found != (self._said.images_sha256, self._said.labels_sha256):
            raise Corrupt(f"{self._path} holds other images or labels than its name says")


def describe_stored(folder: Path, job: training_pb2.TrainingJob) -> dataset_pb2.Dataset:
    """Returns what there is to say of the data set that a job was accepted with. Raises Corrupt."""
    config = job.config
    path = folder / config.dataset.removeprefix("datasets/")
    description = Description(config.height, config.width)
    for name, count in _counts(config).items():
        if count:
            split = open_split(path, name, count, config.height, config.width)
            description.add(name, split.images, split.labels)
    if description.hash != path.name:
        raise Corrupt(f"{path} holds other images or labels than its name says")
    return description.to_message(job.create_time)


def open_split(path: Path, split: str, count: int, height: int, width: int) -> Split:
    """Maps one split, of `count` images, of the data set in a folder. Raises Corrupt for files of another
    size; what is in them is not looked at."""
    images, labels = path / f"{split}-images", path / f"{split}-labels"
    for file, sizes in ((images, (count * height * width,)), (labels, (count, 2 * count))):
        try:
            found = file.stat().st_size
        except FileNotFoundError:
            raise Corrupt(f"{file} is not there: expected {sizes[0]} bytes") from None
        if found not in sizes:
            raise Corrupt(f"{file} has {found} bytes: expected {sizes[0]}")
    return Split(
        np.memmap(images, dtype=np.uint8, mode="r", shape=(count, height, width)),
        np.fromfile(labels, dtype="<u2" if found == 2 * count else "u1"),
    )


def _counts(config: training_pb2.ResolvedConfig) -> dict[str, int]:
    """Images of each split as it was sent."""
    held_back = config.config.validation_images
    return {
        "train": config.train_images + held_back,
        "validation": 0 if held_back else config.validation_images,
        "test": config.test_images,
    }
