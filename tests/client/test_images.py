"""The images named on a command line: every kind of argument, and what is told of those that are nothing."""

import gzip
import io
import os
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client import images
from mnist_client.data_errors import DataError, DataNotFound
from mnist_client.images import find_images

ARRAY = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with image files whose contents are their names."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "sub/c.png", "sub/deep/d.webp", "notes.txt", ".hidden.png", "odd[1].png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(name.encode())
    return tmp_path


def find(*arguments: str) -> list[tuple[str, bytes]]:
    return [(name, image) for name, image in find_images(arguments) if isinstance(image, bytes)]


def named(*names: str) -> list[tuple[str, bytes]]:
    return [(name, name.encode()) for name in names]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["b.png"], ["b.png"]),
        (["notes.txt"], ["notes.txt"]),
        (["sub/c.png", "b.png", "b.png"], ["sub/c.png", "b.png", "b.png"]),
        (["."], ["a.JPG", "b.png", "odd[1].png"]),
        (["sub"], ["sub/c.png"]),
        (["sub/"], ["sub/c.png"]),
        (["*.png"], ["b.png", "odd[1].png"]),
        (["?.png"], ["b.png"]),
        (["[ab].*"], ["a.JPG", "b.png"]),
        (["**/*.png"], ["b.png", "odd[1].png", "sub/c.png"]),
        (["sub/**"], ["sub/c.png", "sub/deep/d.webp"]),
        (["odd[1].png"], ["odd[1].png"]),
    ],
)
def test_files_folders_and_globs(arguments: list[str], expected: list[str]) -> None:
    assert find(*arguments) == named(*expected)


def test_an_absolute_glob(folder: Path) -> None:
    assert [name for name, _ in find_images([f"{folder}/sub/*"])] == [f"{folder}/sub/c.png"]


def test_standard_input_holds_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"piped")))
    assert find("b.png", "-") == [("b.png", b"b.png"), ("-", b"piped")]
    with pytest.raises(DataError, match="-: found nothing; expected an image file"):
        find("-")


@pytest.mark.parametrize(
    ("name", "content"), [("x.idx", idx(ARRAY)), ("x.gz", gzip.compress(idx(ARRAY))), ("x.npy", None)]
)
def test_the_images_of_an_array_come_one_by_one(name: str, content: bytes | None) -> None:
    if content is None:
        np.save(name, ARRAY)
    else:
        Path(name).write_bytes(content)
    found = list(find_images([name]))
    assert [source for source, _ in found] == [f"{name}[0]", f"{name}[1]", f"{name}[2]"]
    batch = np.stack([np.asarray(image) for _, image in found])
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, ARRAY)


def test_one_image_in_a_npy_has_the_file_s_name() -> None:
    np.save("one.npy", np.asfortranarray(ARRAY[0]))
    [(name, image)] = find_images(["one.npy"])
    assert name == "one.npy"
    assert type(image) is np.ndarray
    np.testing.assert_array_equal(image, ARRAY[0])


@pytest.mark.parametrize("argument", ["absent.png", "*.bmp", "absent/*.png", "absent/", "sub/deep/../../x"])
def test_what_is_not_there_is_known_before_the_first_image(argument: str) -> None:
    with pytest.raises(DataNotFound, match="no such file, and none that matches") as caught:
        next(find_images(["b.png", argument]))
    assert str(caught.value).startswith(f"{argument}: ")


def test_a_folder_without_images(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(DataNotFound, match="empty: no image file in this folder"):
        next(find_images(["empty"]))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY / 255, r"found float64 of shape \(3, 4, 5\); expected uint8 of shape \(H, W\) or \(B, H, W\)"),
        (ARRAY.astype(np.int64), "found int64"),
        (ARRAY.ravel(), r"found uint8 of shape \(60,\)"),
        (ARRAY[None], r"found uint8 of shape \(1, 3, 4, 5\)"),
        (ARRAY[:0], "(found uint8 of shape|cannot be read)"),
        (np.array([None]), "cannot be read: .*[Pp]ython objects"),
    ],
)
def test_a_npy_of_other_contents(array: NDArray[np.generic], message: str) -> None:
    np.save("x.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=f"x.npy: {message}"):
        next(find_images(["x.npy"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found nothing; expected an image file of at most 67108864 bytes"),
        (idx(ARRAY[0, 0]), "found magic number 2049; expected 2051"),
        (idx(ARRAY)[:-1], "found 59 bytes of data; expected 60"),
        (gzip.compress(b"\x89PNG and so on, for more than 16 bytes"), "found magic number"),
        (b"\x93NUMPY\x01\x00", "cannot be read"),
        (
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '|u1', 'fortran_order': False, 'shape': (9, 9), }",
            "cannot be read",
        ),
    ],
)
def test_a_damaged_file(content: bytes, message: str) -> None:
    Path("x").write_bytes(content)
    with pytest.raises(DataError, match=f"x: {message}"):
        next(find_images(["x"]))


def test_a_npy_that_promises_more_than_it_has() -> None:
    np.save("x.npy", ARRAY)
    os.truncate("x.npy", Path("x.npy").stat().st_size - 1)
    with pytest.raises(DataError, match=r"x\.npy: cannot be read"):
        next(find_images(["x.npy"]))


def test_a_file_too_large_to_be_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MAX_ENCODED_BYTES", 4)
    with pytest.raises(DataError, match=r"b\.png: found more; expected an image file of at most 4 bytes"):
        next(find_images(["b.png"]))


def test_images_are_read_only_when_they_are_asked_for(folder: Path) -> None:
    found = find_images(["b.png", "a.JPG"])
    assert next(found)[0] == "b.png"
    (folder / "a.JPG").unlink()
    with pytest.raises(DataNotFound, match=r"a\.JPG: no such file"):
        next(found)
