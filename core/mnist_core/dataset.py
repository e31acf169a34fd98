"""A data set is images with labels, in up to three splits: to learn from, to stop by, to be judged by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_core.errors import InvalidValue

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Split:
    """N images and their labels.

    images: uint8 (N, H, W), 0 = paper, 255 = ink, N, H and W at least 1. Never copied if contiguous, so it
        may be a memory map.
    labels: uint8 or uint16 (N,), counted from 0.

    Raises InvalidValue for other dtypes and shapes.
    """

    images: NDArray[np.uint8]
    labels: Labels

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 3 or 0 in self.images.shape:
            raise InvalidValue("images", _describe(self.images), "uint8 of shape (N, H, W), none of them 0")
        if self.labels.dtype not in (np.uint8, np.uint16) or self.labels.shape != self.images.shape[:1]:
            expected = f"uint8 or uint16 of shape ({len(self.images)},), a label an image"
            raise InvalidValue("labels", _describe(self.labels), expected)
        object.__setattr__(self, "images", np.ascontiguousarray(self.images))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> int:
        """Pixels an image, H x W."""
        _, height, width = self.images.shape
        return int(height * width)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a network learns from, and what it is measured on; all images of one size.

    Raises InvalidValue when the splits' images differ in size.
    """

    train: Split
    validation: Split | None = None
    test: Split | None = None

    def __post_init__(self) -> None:
        size = self.train.images.shape[1:]
        for name, split in (("validation", self.validation), ("test", self.test)):
            if split is not None and split.images.shape[1:] != size:
                raise InvalidValue(
                    f"{name}.images",
                    split.images.shape,
                    f"images of {size[0]} x {size[1]} like the training split's",
                )


def _describe(array: NDArray[np.integer[Any]]) -> str:
    return f"{array.dtype} of shape {array.shape}"
