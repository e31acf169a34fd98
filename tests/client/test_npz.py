"""Archives of NumPy arrays: what is read of them, and what is refused."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnist_client import npz
from mnist_client.data_errors import DataError, DataNotFound
from mnist_client.npz import read_npz

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
LABELS = np.array([5, 0, 4, 1, 9], dtype=np.uint8)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_reads_both_splits(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "digits.npz"
    save(path, images=IMAGES, labels=LABELS, images_test=IMAGES[:2], labels_test=LABELS[:2], other=LABELS)
    train, test, names = read_npz(path)
    assert test is not None
    assert names == ()
    for (images, labels), count in ((train, 5), (test, 2)):
        assert images.dtype == labels.dtype == np.uint8
        np.testing.assert_array_equal(images, IMAGES[:count])
        np.testing.assert_array_equal(labels, LABELS[:count])


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.reshape(5, 16),
        IMAGES.astype(np.int64),
        IMAGES.astype(">u2"),
        IMAGES.astype(np.uint64).reshape(5, 16),
        np.asfortranarray(IMAGES),
    ],
)
def test_takes_other_integers_flat_rows_and_other_orders(tmp_path: Path, images: Any) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, images=images, labels=LABELS.astype(np.int32))
    (read, labels), test, _ = read_npz(path)
    assert test is None
    assert read.dtype == labels.dtype == np.uint8
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": IMAGES, "y_train": LABELS}, "found arrays x_train, y_train; expected images and labels"),
        ({}, "found arrays none; expected images and labels"),
        (
            {"images": IMAGES, "labels": LABELS, "images_test": IMAGES},
            "found arrays images, labels, images_test; expected images_test and labels_test",
        ),
        (
            {"images": IMAGES / 255, "labels": LABELS},
            "images: found float64; expected integers from 0 to 255",
        ),
        ({"images": IMAGES > 0, "labels": LABELS}, "images: found bool"),
        ({"images": IMAGES, "labels": LABELS.astype(str)}, "labels: found <U"),
        ({"images": IMAGES.astype(int) - 1000, "labels": LABELS}, "images: found -[0-9]+; expected integers"),
        (
            {"images": IMAGES, "labels": LABELS.astype(np.int16) + 995},
            "labels: found 1000; expected integers",
        ),
        ({"images": IMAGES.reshape(5, 2, 2, 4), "labels": LABELS}, r"images: found shape \(5, 2, 2, 4\)"),
        (
            {"images": IMAGES.reshape(10, 8), "labels": LABELS},
            r"images: found shape \(10, 8\); expected \(N, H",
        ),
        ({"images": IMAGES.ravel(), "labels": LABELS}, r"images: found shape \(80,\)"),
        ({"images": np.array(7), "labels": LABELS}, r"images: found shape \(\)"),
    ],
)
def test_a_wrong_archive_is_an_error_that_names_the_array(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_npz(path)


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, images=np.array([Harm()], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read_npz(path)
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(DataError, match="found no zip archive"):
        read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", pickle.dumps(Harm()))
        archive.writestr("labels", b"not an array")
    with pytest.raises(DataError, match=f"{path}: images: found "):
        read_npz(path)


def test_a_size_over_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, images=np.zeros((1000, 100, 100), dtype=np.uint8), labels=LABELS)
    monkeypatch.setattr(npz, "MAX_BYTES", 1_000_000)
    with pytest.raises(DataError, match=r"found 10000\d\d\d bytes uncompressed; expected at most 1000000"):
        read_npz(path)


@pytest.mark.parametrize("shape", [(99_999_999,), (99_999_999, 99_999_999, 9_999)])
def test_a_header_that_promises_more_than_there_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "digits.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(10))
        archive.writestr("labels.npy", b"")
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        read_npz(path)


def test_a_file_absent_damaged_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such file"):
        read_npz(tmp_path / "absent.npz")
    path = tmp_path / "digits.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    data = bytearray(path.read_bytes())
    data[200] ^= 1  # a pixel: the archive's own check sum no longer holds
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: cannot be read: Bad CRC-32"):
        read_npz(path)
    path.write_bytes(data[:300])
    with pytest.raises(DataError, match="found no zip archive"):
        read_npz(path)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match="found no zip archive"):
        read_npz(path)


def test_names_of_classes_and_labels_above_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "signs.npz"
    np.savez(path, images=IMAGES, labels=LABELS.astype(int) * 100, class_names=["a", "ß", "third"])
    (_, labels), _, names = read_npz(path)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [500, 0, 400, 100, 900]
    assert names == ("a", "ß", "third")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": np.array([0, 1, 2, 3, 1000])}, "labels: found 1000; expected integers from 0 to 999"),
        ({"class_names": np.arange(5)}, r"class_names: found int64 of shape \(5,\); expected texts"),
        ({"class_names": np.array("a")}, r"class_names: found <U1 of shape \(\); expected texts"),
    ],
)
def test_what_is_neither_label_nor_name(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = tmp_path / "signs.npz"
    np.savez(path, **({"images": IMAGES, "labels": LABELS} | changed))
    with pytest.raises(DataError, match=message):
        read_npz(path)
