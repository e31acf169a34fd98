"""Folders of images, a subfolder a label: what is read of them, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_client import image_folder
from mnist_client.data_errors import DataError, DataNotFound
from mnist_client.image_folder import IMAGE_SUFFIXES, image_files, read_image_folder

DIGIT = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)


def save(path: Path, array: object = DIGIT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array)).save(path)
    return path


def test_labels_come_in_their_order_and_files_in_theirs(tmp_path: Path) -> None:
    for name, shade in (("10/a.png", 4), ("2/b.png", 2), ("2/c.png", 3), ("0/z.png", 1)):
        save(tmp_path / name, np.full((6, 5), shade, dtype=np.uint8))
    images, labels, names = read_image_folder(tmp_path)
    assert names == ()
    assert images.shape == (4, 6, 5)
    assert images.dtype == labels.dtype == np.uint8
    assert labels.tolist() == [0, 2, 2, 10]
    assert images[:, 0, 0].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".gif", ".tif", ".pgm", ".tiff"])
def test_pixels_of_lossless_formats_are_as_they_were(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"7/digit{suffix}")
    images, labels, names = read_image_folder(tmp_path)
    assert names == ()
    np.testing.assert_array_equal(images, DIGIT[None])
    assert labels.tolist() == [7]


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp"])
def test_lossy_formats_are_read_too(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"7/digit{suffix}", np.full((6, 5), 200, dtype=np.uint8))
    assert abs(int(read_image_folder(tmp_path)[0].mean()) - 200) <= 2


def test_every_suffix_is_tested() -> None:
    assert {".png", ".bmp", ".gif", ".tif", ".pgm", ".tiff", ".jpg", ".jpeg", ".webp"} == IMAGE_SUFFIXES


def test_colour_becomes_grey_and_nothing_is_inverted(tmp_path: Path) -> None:
    save(tmp_path / "1/a.png", np.repeat(DIGIT[:, :, None], 3, axis=2))
    save(tmp_path / "1/b.png", DIGIT > 127)
    images, _, _ = read_image_folder(tmp_path)
    np.testing.assert_array_equal(images[0], DIGIT)
    np.testing.assert_array_equal(images[1], np.where(DIGIT > 127, 255, 0))


def test_other_files_and_hidden_names_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "3/a.PNG")
    save(tmp_path / "3/.b.png")
    save(tmp_path / ".cache/a.png")
    save(tmp_path / "loose.png")
    (tmp_path / "3" / "Thumbs.db").write_bytes(b"?")
    (tmp_path / "3" / "folder.png").mkdir()
    (tmp_path / "README.txt").write_text("")
    assert read_image_folder(tmp_path)[1].tolist() == [3]
    assert [path.name for path in image_files(tmp_path / "3")] == ["a.PNG"]


def test_images_of_two_sizes(tmp_path: Path) -> None:
    save(tmp_path / "1/a.png")
    path = save(tmp_path / "2/b.png", DIGIT.T)
    with pytest.raises(
        DataError, match=f"{path}: found 5 x 6 pixels; expected 6 x 5, as the first image has"
    ):
        read_image_folder(tmp_path)


def test_sixteen_bits_a_pixel_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "1/a.png", DIGIT.astype(np.uint16) * 257)
    with pytest.raises(DataError, match=f"{path}: found pixels of Pillow's mode 'I;16'; expected 8 bits"):
        read_image_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n"])
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1" / "a.png"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: cannot be decoded"):
        read_image_folder(tmp_path)


def test_an_image_cut_short(tmp_path: Path) -> None:
    path = save(tmp_path / "1/a.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=f"{path}: cannot be decoded"):
        read_image_folder(tmp_path)


def test_a_decompression_bomb(tmp_path: Path) -> None:
    path = tmp_path / "1" / "a.png"
    path.parent.mkdir()
    Image.new("1", (14_000, 14_000)).save(path)
    with pytest.raises(DataError, match=f"{path}: cannot be decoded: .*decompression bomb"):
        read_image_folder(tmp_path)


def test_more_than_the_most_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "MAX_BYTES", 59)
    save(tmp_path / "1/a.png")
    save(tmp_path / "1/b.png")
    with pytest.raises(DataError, match="found 6 x 5 pixels, in one of 2 images; expected at most 59 bytes"):
        read_image_folder(tmp_path)


def test_a_folder_empty_or_absent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: found no image; expected a subfolder a class"):
        read_image_folder(tmp_path)
    with pytest.raises(DataNotFound, match="absent: no such file"):
        read_image_folder(tmp_path / "absent")


def test_without_pillow_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "1/a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match="pip install pillow"):
        read_image_folder(tmp_path)


def test_formats_beyond_those_of_the_list_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "1" / "a.png"
    path.parent.mkdir()
    Image.fromarray(DIGIT).save(path, format="PCX")
    with pytest.raises(DataError, match=f"{path}: cannot be decoded: cannot identify image file"):
        read_image_folder(tmp_path)


def test_subfolders_that_are_no_numbers_are_names(tmp_path: Path) -> None:
    for name, shade in (
        ("train/b/1.png", 2),
        ("train/ä/1.png", 3),
        ("train/10/1.png", 1),
        ("test/b/1.png", 2),
    ):
        save(tmp_path / name, np.full((6, 5), shade, dtype=np.uint8))
    images, labels, names = read_image_folder(tmp_path / "train")
    assert names == ("10", "b", "ä")
    assert list(zip(labels.tolist(), images[:, 0, 0].tolist(), strict=True)) == [(0, 1), (1, 2), (2, 3)]
    # Another split may lack a class, but not have one more.
    _, labels, names = read_image_folder(tmp_path / "test", names)
    assert (labels.tolist(), names) == ([1], ("10", "b", "ä"))
    save(tmp_path / "test/c/1.png")
    with pytest.raises(DataError, match="found a folder 'c'; expected those of the training images"):
        read_image_folder(tmp_path / "test", names)


def test_labels_above_a_byte(tmp_path: Path) -> None:
    save(tmp_path / "3/a.png")
    save(tmp_path / "999/a.png")
    _, labels, _ = read_image_folder(tmp_path)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [3, 999]
    save(tmp_path / "1000/a.png")
    with pytest.raises(DataError, match="found a folder '1000'; expected labels, integers from 0 to 999"):
        read_image_folder(tmp_path)
