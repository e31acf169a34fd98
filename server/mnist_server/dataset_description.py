"""A description says what a data set is: its hash, and of each split counts, mean image and blank images.

It is made while batches come, or of what lies on the disk; its memory does not grow with the images.
"""

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from mnist_core.configuration import MAX_CLASSES
from mnist_core.dataset import Labels
from mnist_proto.arrays import set_packed
from mnist_proto.dataset_hash import SPLITS, DatasetHash
from mnist_proto.v1 import dataset_pb2 as pb
from mnist_proto.v1 import images_pb2

WIRE_SPLITS = {
    "train": images_pb2.SPLIT_TRAIN,
    "validation": images_pb2.SPLIT_VALIDATION,
    "test": images_pb2.SPLIT_TEST,
}
_CLASSES = 10
_LABELS = MAX_CLASSES


def counts(dataset: pb.Dataset) -> dict[str, int]:
    """Returns how many images each split has, 0 for those that it has not."""
    found = {each.split: each.images for each in dataset.splits}
    return {split: found.get(wire, 0) for split, wire in WIRE_SPLITS.items()}


def labels(dataset: pb.Dataset) -> int:
    """Returns the largest label of all splits, and one: how many classes there must be."""
    return max(
        label + 1 for split in dataset.splits for label, count in enumerate(split.class_counts) if count
    )


class Description:
    """What there is to say of the images and labels that were added."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.counts = dict.fromkeys(SPLITS, 0)
        """Images of each split."""
        self.label_bytes = 1
        """Of a label; the same for all that is added."""
        self._hash = DatasetHash(height, width)
        self._statistics: dict[str, _Statistics] = {}

    def add(self, split: str, images: NDArray[np.uint8], labels: Labels) -> None:
        """Adds a batch, images (B, H, W) and labels (B,), both in C order."""
        self.counts[split] += len(labels)
        self.label_bytes = labels.dtype.itemsize
        self._hash.add(split, images.data, labels.data)
        if split not in self._statistics:
            self._statistics[split] = _Statistics(self.height, self.width)
        self._statistics[split].add(images, labels)

    @property
    def bytes(self) -> int:
        """Bytes of all pixels and labels."""
        return sum(self.counts.values()) * (self.height * self.width + self.label_bytes)

    @property
    def hash(self) -> str:
        """The canonical hash, 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def to_message(self, create_time: Timestamp) -> pb.Dataset:
        """Returns the data set as the wire has it."""
        dataset = pb.Dataset(
            name=f"datasets/{self.hash}",
            create_time=create_time,
            height=self.height,
            width=self.width,
            bytes=self.bytes,
        )
        for split, wire in WIRE_SPLITS.items():
            if self.counts[split]:
                images_sha256, labels_sha256 = self._hash.parts(split)
                message = pb.DatasetSplit(
                    split=wire,
                    images=self.counts[split],
                    images_sha256=images_sha256,
                    labels_sha256=labels_sha256,
                )
                self._statistics[split].write(message)
                dataset.splits.append(message)
        return dataset


class _Statistics:
    """Counts over the images of one split."""

    def __init__(self, height: int, width: int) -> None:
        self._classes = np.zeros(_LABELS, np.int64)
        self._sum = np.zeros((height, width), np.int64)
        self._constant = 0

    def add(self, images: NDArray[np.uint8], labels: Labels) -> None:
        self._classes += np.bincount(labels, minlength=_LABELS)
        self._sum += images.sum(axis=0, dtype=np.uint32)  # room for 16 million images at a time
        flat = images.reshape(len(images), -1)
        self._constant += int(np.count_nonzero((flat == flat[:, :1]).all(axis=1)))

    def write(self, message: pb.DatasetSplit) -> None:
        """Fills the fields that say it."""
        classes = max(_CLASSES, int(np.flatnonzero(self._classes)[-1]) + 1)
        message.class_counts.extend(self._classes[:classes].tolist())
        message.constant_images = self._constant
        set_packed(message, "mean_image", (self._sum / message.images).astype(np.float32))
