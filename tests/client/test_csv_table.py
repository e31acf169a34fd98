"""CSV tables of images: what is read of them, and the line that is named when one is wrong."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from mnist_client import csv_table
from mnist_client.csv_table import read_csv
from mnist_client.data_errors import DataError, DataNotFound

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 3), dtype=np.uint8)
LABELS = np.array([5, 0, 4, 1, 9, 255, 3], dtype=np.uint8)
LINES = [",".join(map(str, [label, *image.ravel()])) for label, image in zip(LABELS, IMAGES, strict=True)]
TEXT = "\n".join(LINES) + "\n"
HEADER = ",".join(["label", *(f"{row}x{column}" for row in range(3) for column in range(3))])


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("\n"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace(",", ", "),
        "\n" + TEXT.replace("\n", "\n\n"),
        f"{HEADER}\n{TEXT}",
        f"\ufeff{HEADER}\r\n{TEXT}",
        f"\ufeff{TEXT}",
        f'"label",0,1,2,3,4,5,6,7,8\n{TEXT}',
        f"étiquette,0,1,2,3,4,5,6,7,8\n{TEXT}",
    ],
)
@pytest.mark.parametrize("name", ["digits.csv", "digits.csv.gz"])
def test_reads_what_people_write(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    data = text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    images, labels = read_csv(path)
    assert images.dtype == labels.dtype == np.uint8
    assert images.flags.c_contiguous
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_the_label_may_be_said_to_come_last(tmp_path: Path) -> None:
    path = tmp_path / "digits.csv"
    path.write_text("1,2,3,4,9\n5,6,7,8,0\n")
    images, labels = read_csv(path, label_column=-1)
    assert images.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert labels.tolist() == [9, 0]


def test_blocks_are_joined_and_their_lines_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "_BLOCK_BYTES", 40)  # a line or two
    path = tmp_path / "digits.csv"
    path.write_text(f"{HEADER}\n{TEXT}")
    np.testing.assert_array_equal(read_csv(path)[0], IMAGES)
    path.write_text(f"{HEADER}\n{TEXT}1,2,3,4,5,6,7,8,9,x\n")
    with pytest.raises(DataError, match=f"{path}, line 9, value 10: found 'x'; expected an integer"):
        read_csv(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no row"),
        ("\n\n", "found no row"),
        (HEADER, "found no row"),
        ("1\n2\n", "found rows of 1 values; expected a label and the pixels of a square image"),
        ("1,2,3,4\n", "found rows of 4 values"),
        (f"{TEXT}1,2,3\n", "line 8: found 3 values; expected 10"),
        (f"1,2,3,4,5\n{TEXT}", "line 2: found 10 values; expected 5"),
        (
            f"{TEXT}\n\n1,2,3,4,5,6,7,8,9,256\n",
            "line 10, value 10: found '256'; expected an integer from 0 to",
        ),
        (f"{TEXT}300,2,3,4,5,6,7,8,9,1\n", "line 8, value 1: found '300'"),
        (f"{TEXT}1,-2,3,4,5,6,7,8,9,1\n", "line 8, value 2: found '-2'"),
        (f"{TEXT}1,2,,4,5,6,7,8,9,1\n", "line 8, value 3: found ''"),
        (f"{TEXT}1,2,0.5,4,5,6,7,8,9,1\n", "line 8, value 3: found '0.5'"),
        (f"{TEXT}1,2,99999999999999999999,4,5,6,7,8,9,1\n", "line 8, value 3: found '99999999999999999999'"),
        (f"{TEXT}1,2,\0,4,5,6,7,8,9,1\n", "line 8, value 3: found"),
        (f"3x,2,3,4,5,6,7,8,9,1\n{TEXT}", "line 1, value 1: found '3x'"),
        (TEXT.replace(",", ";"), "found rows of 1 values"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "digits.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=f"{path}(: |, ){message}"):
        read_csv(path)


def test_a_line_without_end_is_read_no_further(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(b"0," * 20_000_000, 1))
    with pytest.raises(DataError, match="found a line of 4194304 bytes or more"):
        read_csv(path)


def test_more_than_the_most_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_table, "MAX_BYTES", 69)  # the table has 70 values
    path = tmp_path / "digits.csv"
    path.write_text(TEXT)
    with pytest.raises(DataError, match="found more than 69 values"):
        read_csv(path)


def test_a_file_absent_or_cut_short(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such file"):
        read_csv(tmp_path / "absent.csv")
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode())[:-12])
    with pytest.raises(DataError, match=f"{path}: cannot be read"):
        read_csv(path)
    path.write_text(TEXT)
    with pytest.raises(DataError, match=f"{path}: cannot be read: Not a gzipped file"):
        read_csv(path)
