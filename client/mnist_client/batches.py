"""Batches: a data set on its way to the server, a slice of its arrays at a time, never a second copy."""

import os
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_client.datasets import Dataset, Split, load_dataset
from mnist_client.errors import InvalidInput
from mnist_client.pixels import MAX_BYTE, to_images, to_labels
from mnist_client.resources import Limits
from mnist_proto.arrays import array_to_pixels
from mnist_proto.dataset_hash import SPLITS, DatasetHash
from mnist_proto.names import expand_dataset
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, images_pb2, training_pb2

Data: TypeAlias = str | os.PathLike[str] | Dataset | Split | tuple[ArrayLike, ArrayLike]
"""Labelled images: a SPEC or path, a Dataset, one Split, or (images, labels). The SPEC datasets/{sha256} is a
data set that the server has."""

# Large enough that a message's own cost vanishes, small enough that an upload is steady and costs no memory.
CHUNK_BYTES = 2**20
_OVERHEAD_BYTES = 1024
_WIRE_SPLITS = dict(
    zip(
        SPLITS,
        (images_pb2.SPLIT_TRAIN, images_pb2.SPLIT_VALIDATION, images_pb2.SPLIT_TEST),
        strict=True,
    )
)


def to_dataset(data: Data) -> Dataset:
    """Returns what is to be trained on. Reads files where data is a SPEC.

    Raises DataError for files, InvalidInput for arrays that are no labelled images.
    """
    if isinstance(data, str | os.PathLike):
        return load_dataset(data)
    return data if isinstance(data, Dataset) else Dataset("arrays", _split(data))


def to_split(data: Data, split: str | None = None) -> Split:
    """Returns what is to be evaluated on: the split of a data set, by default its test split, without one its
    training images.

    Reads files where data is a SPEC. Raises as `to_dataset` does, and InvalidInput for a split it has not.
    """
    if isinstance(data, str | os.PathLike):
        data = load_dataset(data)
    if not isinstance(data, Dataset):
        return _split(data)
    if split is None:
        return data.train if data.test is None else data.test
    found: Split | None = getattr(data, split)
    if found is None:
        there = [name for name in SPLITS if getattr(data, name) is not None]
        raise InvalidInput.of("split", repr(split), f"one that {data.name} has: {', '.join(there)}")
    return found


def check_split(split: str | None) -> None:
    """Checks that there may be a split of this name. Raises InvalidInput."""
    if split is not None and split not in SPLITS:
        raise InvalidInput.of("split", repr(split), f"one of {', '.join(SPLITS)}")


def stored_name(data: Data) -> str | None:
    """Returns datasets/{sha256} if data is that, the name of a data set on the server; None if it is here."""
    if not isinstance(data, str) or not data.startswith("datasets/"):
        return None
    try:
        return expand_dataset(data)
    except ValueError:  # a path
        return None


def dataset_name(dataset: Dataset) -> str:
    """Returns the name that a data set has on every server: datasets/{sha256}, the hash of what it is.

    `mnist_proto.dataset_hash` says how it is made.
    """
    hashed = DatasetHash(*dataset.train.images.shape[1:])
    dtype = _label_type(dataset.largest_label)
    for name in SPLITS:
        split: Split | None = getattr(dataset, name)
        if split is not None:
            images, labels = np.ascontiguousarray(split.images), np.ascontiguousarray(split.labels, dtype)
            hashed.add(name, images.data, labels.data)
    return f"datasets/{hashed.hexdigest()}"


def name_classes(config: training_pb2.TrainingConfig, dataset: Dataset) -> None:
    """Says what the classes are called, where the data set knows it and nobody has said otherwise."""
    if not config.class_names:
        config.class_names.extend(dataset.class_names)


def train_requests(
    config: training_pb2.TrainingConfig, data: Dataset | str, limits: Limits
) -> Iterator[training_pb2.TrainRequest]:
    """Yields the messages of Train: the configuration, then the batches of every split.

    data: a name, datasets/{sha256}, is that of a data set which the server has: then there are no batches.
    """
    asked = training_pb2.TrainingConfig()
    asked.CopyFrom(config)
    if isinstance(data, str):
        asked.dataset = data
    yield training_pb2.TrainRequest(config=asked)
    if isinstance(data, Dataset):
        for batch in _all_batches(data, limits):
            yield training_pb2.TrainRequest(batch=batch)


def upload_requests(dataset: Dataset, limits: Limits) -> Iterator[dataset_pb2.UploadDatasetRequest]:
    """Yields the messages of UploadDataset: the batches of every split."""
    for batch in _all_batches(dataset, limits):
        yield dataset_pb2.UploadDatasetRequest(batch=batch)


def evaluate_requests(
    config: evaluation_pb2.EvaluationConfig, split: Split | None, limits: Limits
) -> Iterator[evaluation_pb2.EvaluateRequest]:
    """Yields the messages of Evaluate: the configuration, then batches; None: it names a data set."""
    yield evaluation_pb2.EvaluateRequest(config=config)
    if split is None:
        return
    dtype = _label_type(int(split.labels.max()))
    for batch in _batches(split, images_pb2.SPLIT_TEST, limits, dtype):
        yield evaluation_pb2.EvaluateRequest(batch=batch)


def evaluation_config(
    model: str, stored: str | None, split: str | None, *, return_images: bool
) -> evaluation_pb2.EvaluationConfig:
    """Returns the configuration of Evaluate; `stored` names a data set that the server has."""
    config = evaluation_pb2.EvaluationConfig(model=model, dataset=stored or "", return_images=return_images)
    if stored and split is not None:
        config.split = _WIRE_SPLITS[split]
    return config


def check_dataset(dataset: Dataset, limits: Limits) -> None:
    """Checks that the server takes a data set of this size. Raises InvalidInput."""
    splits = [split for split in (dataset.train, dataset.validation, dataset.test) if split is not None]
    check_image_size(dataset.train.images, limits)
    images = sum(len(split.images) for split in splits)
    if images > limits.max_dataset_images:
        raise InvalidInput.of("data", f"{images} images", f"at most {limits.max_dataset_images}")
    size = sum(split.images.nbytes for split in splits)
    if size > limits.max_dataset_bytes:
        raise InvalidInput.of("data", f"{size} bytes of pixels", f"at most {limits.max_dataset_bytes}")


def check_image_size(images: NDArray[np.uint8], limits: Limits) -> None:
    """Checks that the server takes images of this size. Raises InvalidInput."""
    if images[0].size > limits.max_image_pixels:
        raise InvalidInput.of(
            "images", f"{_size(images)} pixels", f"at most {limits.max_image_pixels} pixels an image"
        )


def _split(data: object) -> Split:
    if isinstance(data, Split):
        return data
    if not isinstance(data, tuple) or len(data) != 2:
        expected = "a SPEC, a path, a Dataset, a Split or (images, labels)"
        raise InvalidInput.of("data", type(data).__name__, expected)
    images = to_images("images", np.asarray(data[0]))
    labels = to_labels("labels", np.asarray(data[1]))
    if not len(images):
        raise InvalidInput.of("images", "0 images", "at least one")
    if len(images) != len(labels):
        expected = f"one for each of the {len(images)} images"
        raise InvalidInput.of("labels", f"{len(labels)} labels", expected)
    return Split(images, labels)


def _all_batches(dataset: Dataset, limits: Limits) -> Iterator[images_pb2.LabeledImages]:
    dtype = _label_type(dataset.largest_label)
    for name, wire in _WIRE_SPLITS.items():
        split: Split | None = getattr(dataset, name)
        if split is not None:
            yield from _batches(split, wire, limits, dtype)


def _batches(
    split: Split, wire: images_pb2.Split.ValueType, limits: Limits, dtype: "np.dtype[np.integer[Any]]"
) -> Iterator[images_pb2.LabeledImages]:
    count, height, width = split.images.shape
    room = min(CHUNK_BYTES, limits.max_message_bytes - _OVERHEAD_BYTES)
    most = max(room // (height * width + dtype.itemsize), 1)
    for start in range(0, count, most):
        batch = images_pb2.LabeledImages(
            pixels=array_to_pixels(split.images[start : start + most]),
            height=height,
            width=width,
            split=wire,
        )
        labels = split.labels[start : start + most].astype(dtype).tobytes()
        if dtype.itemsize == 1:
            batch.labels = labels
        else:
            batch.labels16 = labels
        yield batch


def _label_type(most: int) -> "np.dtype[np.integer[Any]]":
    """Of labels on the wire: bytes, or where one is larger, two bytes, the lower one first."""
    return np.dtype("<u2" if most > MAX_BYTE else "u1")


def _size(images: NDArray[np.uint8]) -> str:
    return f"{images.shape[1]} x {images.shape[2]}"
