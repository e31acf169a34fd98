import hashlib
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_core import InvalidValue
from mnist_proto.v1 import training_pb2 as pb
from mnist_server import dataset_description
from mnist_server.data_directory import DataDirectory
from mnist_server.dataset_files import StoredSplit, Upload, open_dataset
from mnist_server.errors import Corrupt
from mnist_server.limits import Limits

Splits = dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]

COUNTS = {"train": 7, "validation": 2, "test": 3}


@pytest.fixture
def data() -> Splits:
    """Images of 4 x 3 and labels of each split."""
    rng = np.random.default_rng(0)
    return {
        split: (rng.integers(0, 256, (count, 4, 3), np.uint8), rng.integers(0, 10, count, np.uint8))
        for split, count in COUNTS.items()
    }


@pytest.fixture
def upload(directory: DataDirectory) -> Iterator[Upload]:
    upload = Upload(directory.datasets, Limits())
    yield upload
    upload.abandon()


def blank(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images of 4 x 3 without ink, and their labels, all 0."""
    return np.zeros((count, 4, 3), np.uint8), np.zeros(count, np.uint8)


def digest(upload: Upload) -> str:
    return upload.describe().name.removeprefix("datasets/")


def fill(upload: Upload, data: Splits, batch_size: int = 2) -> None:
    for split, (images, labels) in data.items():
        for start in range(0, len(labels), batch_size):
            batch = slice(start, start + batch_size)
            upload.add(split, images[batch], labels[batch])


def test_a_data_set_lies_under_the_hash_of_what_it_is(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, data)
    upload.finish()
    text = "mnist-grpc dataset 1\nsize 4 3\n"
    for split, (images, labels) in data.items():
        text += f"{split} {len(labels)} {hashlib.sha256(images.tobytes()).hexdigest()} "
        text += f"{hashlib.sha256(labels.tobytes()).hexdigest()}\n"
    assert digest(upload) == hashlib.sha256(text.encode()).hexdigest()
    assert [entry.name for entry in directory.datasets.iterdir()] == [digest(upload)]
    folder = directory.datasets / digest(upload)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        **{f"{split}-images": images.tobytes() for split, (images, _) in data.items()},
        **{f"{split}-labels": labels.tobytes() for split, (_, labels) in data.items()},
    }
    assert upload.counts == COUNTS
    assert (
        upload.describe().bytes == sum(file.stat().st_size for file in folder.iterdir()) == 12 * (4 * 3 + 1)
    )


def test_the_same_images_in_other_batches_are_the_same_data_set(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, data)
    again = Upload(directory.datasets, Limits())
    fill(again, dict(reversed(data.items())), batch_size=3)
    said, said_again = upload.describe(), again.describe()
    said.ClearField("create_time")
    said_again.ClearField("create_time")
    assert said_again == said
    again.abandon()


def test_what_lies_where_a_data_set_belongs_and_no_row_names_is_replaced(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, data)
    torn = directory.datasets / digest(upload)
    torn.mkdir()
    (torn / "train-images").write_bytes(b"half")
    upload.finish()
    assert len(list(torn.iterdir())) == 6
    open_dataset(directory.datasets, resolved(upload))


def test_an_upload_that_is_abandoned_leaves_nothing(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, data)
    assert list(directory.datasets.iterdir())
    upload.abandon()
    upload.abandon()
    assert not list(directory.datasets.iterdir())


def test_a_finished_upload_cannot_be_abandoned(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, data)
    upload.finish()
    upload.abandon()
    assert len(list((directory.datasets / digest(upload)).iterdir())) == 6


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 100 bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_upload_that_the_disk_cannot_hold_leaves_nothing(directory: DataDirectory) -> None:
    upload = Upload(directory.datasets, Limits())
    upload.add("train", *blank(100))
    with full_disk():
        with pytest.raises(OSError, match="large"):
            upload.finish()
        upload.abandon()  # its files hold what they could not write; closing them tries once more
    assert not list(directory.datasets.iterdir())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_dataset_images=4), "batch: 'image 5' is not valid: expected at most 4 images"),
        (Limits(max_dataset_bytes=59), "batch: 'byte 60' is not valid: expected at most 59 bytes"),
    ],
)
def test_a_data_set_that_is_too_large_is_refused(
    directory: DataDirectory, limits: Limits, message: str
) -> None:
    upload = Upload(directory.datasets, limits)
    upload.add("train", *blank(3))
    upload.add("test", *blank(1))
    with pytest.raises(InvalidValue) as raised:
        upload.add("test", *blank(1))
    assert str(raised.value) == message
    upload.abandon()


def resolved(upload: Upload, held_back: int = 0) -> pb.ResolvedConfig:
    """The configuration of a job on an upload: `held_back` of its training images are for validation."""
    config = pb.ResolvedConfig(
        dataset=f"datasets/{digest(upload)}",
        height=4,
        width=3,
        train_images=upload.counts["train"] - held_back,
        validation_images=upload.counts["validation"] or held_back,
        test_images=upload.counts["test"],
    )
    if held_back:
        config.config.validation_images = held_back
    return config


def test_a_data_set_is_read_as_it_was_sent(directory: DataDirectory, upload: Upload, data: Splits) -> None:
    fill(upload, data)
    upload.finish()
    dataset = open_dataset(directory.datasets, resolved(upload))
    for split, (images, labels) in data.items():
        found = getattr(dataset, split)
        np.testing.assert_array_equal(found.images, images)
        np.testing.assert_array_equal(found.labels, labels)
    assert not dataset.train.images.flags.writeable  # mapped: nobody changes what is on the disk


def test_labels_above_a_byte_are_kept_as_two(directory: DataDirectory, upload: Upload, data: Splits) -> None:
    wide: Any = {split: (images, labels.astype(np.uint16) * 111) for split, (images, labels) in data.items()}
    fill(upload, wide)
    described = upload.describe()
    upload.finish()
    assert described.bytes == sum(COUNTS.values()) * (4 * 3 + 2)
    assert (directory.dataset(described.name) / "train-labels").read_bytes() == wide["train"][1].tobytes()
    dataset = open_dataset(directory.datasets, resolved(upload))
    np.testing.assert_array_equal(dataset.train.labels, wide["train"][1])
    assert dataset_description.labels(described) == max(int(each.max()) for _, each in wide.values()) + 1


def test_labels_are_all_of_one_kind_and_no_larger_than_needed(upload: Upload) -> None:
    images, small = blank(2)
    upload.add("train", images, small.astype(np.uint16))
    with pytest.raises(InvalidValue, match=r"batch\.labels: '2 labels' .*labels16, as in the batches before"):
        upload.add("train", images, small)
    with pytest.raises(InvalidValue, match=r"batch\.labels16: 'labels up to 0' .*a byte an image"):
        upload.describe()


def test_the_last_training_images_are_held_back(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    images, labels = data["train"]
    upload.add("train", images, labels)
    upload.finish()
    dataset = open_dataset(directory.datasets, resolved(upload, held_back=2))
    assert dataset.validation is not None
    np.testing.assert_array_equal(dataset.train.images, images[:5])
    np.testing.assert_array_equal(dataset.train.labels, labels[:5])
    np.testing.assert_array_equal(dataset.validation.images, images[5:])
    np.testing.assert_array_equal(dataset.validation.labels, labels[5:])
    assert dataset.test is None


def test_a_data_set_of_training_images_alone_has_no_other_split(
    directory: DataDirectory, upload: Upload, data: Splits
) -> None:
    fill(upload, {"train": data["train"]})
    upload.finish()
    dataset = open_dataset(directory.datasets, resolved(upload))
    assert (len(dataset.train), dataset.validation, dataset.test) == (7, None, None)


def test_a_split_is_read_in_parts_of_its_map(directory: DataDirectory) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_000, 32, 32), np.uint8)  # 10 MB
    labels = rng.integers(0, 10, 10_000).astype(np.uint8)
    upload = Upload(directory.datasets, Limits())
    upload.add("test", images, labels)
    dataset = upload.describe()
    upload.finish()
    parts = list(StoredSplit(directory.dataset(dataset.name), dataset, dataset.splits[0]))
    assert [len(part) for part, _ in parts] == [4096, 4096, 1808]
    assert not any(part.flags.owndata or part.flags.writeable for part, _ in parts)  # the map's own
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


@pytest.mark.parametrize(
    "file", ["train-images", "train-labels", "validation-images", "test-images", "test-labels"]
)
@pytest.mark.parametrize("damage", ["gone", "an image short", "a byte long", "empty"])
def test_a_damaged_data_set_is_corrupt(
    directory: DataDirectory,
    upload: Upload,
    data: Splits,
    file: str,
    damage: str,
) -> None:
    fill(upload, data)
    upload.finish()
    path = directory.datasets / digest(upload) / file
    contents = path.read_bytes()
    path.unlink()
    if damage != "gone":
        short = contents[: -12 if file.endswith("images") else -1]
        path.write_bytes({"an image short": short, "a byte long": contents + b"1", "empty": b""}[damage])
    with pytest.raises(Corrupt, match=rf"{file} .*: expected {len(contents)}"):
        open_dataset(directory.datasets, resolved(upload))


def test_a_data_set_is_corrupt_when_both_its_files_lack_an_image(
    directory: DataDirectory, upload: Upload, make_config: Callable[..., pb.ResolvedConfig]
) -> None:
    upload.add("train", *blank(7))
    upload.finish()
    config = resolved(upload)
    config.train_images = 8
    with pytest.raises(Corrupt, match="train-images has 84 bytes: expected 96"):
        open_dataset(directory.datasets, config)
