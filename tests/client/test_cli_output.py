import csv
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from mnist_client.cli.output import (
    as_record,
    percent,
    plain,
    to_csv,
    to_json,
    write_fields,
    write_record,
    write_records,
    write_table,
)


@dataclass(frozen=True)
class Inner:
    share: float


@dataclass(frozen=True, slots=True)
class Outer:
    name: str
    inner: Inner
    many: tuple[Inner, ...]
    when: datetime


NOON = datetime(2026, 1, 2, 12, 0, 0, 5000, tzinfo=timezone(timedelta(hours=2)))


def test_dataclasses_are_objects_and_times_are_utc() -> None:
    thing = Outer("a", Inner(0.5), (Inner(0.25),), NOON)
    assert as_record(thing) == {
        "name": "a",
        "inner": {"share": 0.5},
        "many": [{"share": 0.25}],
        "when": "2026-01-02T10:00:00.005Z",
    }
    with pytest.raises(TypeError, match="int"):
        as_record(3)


def test_float32_is_its_shortest_text_and_the_same_number_again() -> None:
    values = np.random.default_rng(0).random((3, 10), dtype=np.float32)
    written = json.loads(to_json({"a": values, "b": values[0, 0], "c": np.float32(0.1)}))
    assert np.array_equal(np.array(written["a"], dtype=np.float32), values)
    assert np.float32(written["b"]) == values[0, 0]
    assert written["c"] == 0.1
    assert to_json(np.float32(0.1)) == "0.1"


def test_counts_of_numpy_are_whole_numbers() -> None:
    assert to_json(np.arange(4).reshape(2, 2)) == "[[0, 1], [2, 3]]"
    assert to_json(np.int64(7)) == "7"


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), np.array([math.nan])])
def test_what_json_cannot_hold_is_null(value: object) -> None:
    assert "null" in to_json(value)


def test_json_of_many_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    write_records(({"n": n} for n in range(3)), "json", ["n"])
    assert json.loads(capsys.readouterr().out) == [{"n": 0}, {"n": 1}, {"n": 2}]
    write_records([], "json", ["n"])
    assert json.loads(capsys.readouterr().out) == []


def test_json_is_whole_though_the_records_end_in_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def records() -> Iterator[dict[str, object]]:
        yield {"n": 0}
        raise ConnectionError

    with pytest.raises(ConnectionError):
        write_records(records(), "json", ["n"])
    assert json.loads(capsys.readouterr().out) == [{"n": 0}]


def test_jsonl_is_written_record_by_record(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def records() -> Iterator[dict[str, object]]:
        for n in range(2):
            yield {"n": n, "word": "é\n"}
            seen.append(capsys.readouterr().out)

    write_records(records(), "jsonl", ["n"])
    assert seen == ['{"n": 0, "word": "é\\n"}\n', '{"n": 1, "word": "é\\n"}\n']


def test_csv_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "source": 'a, "b"\nc',
        "n": 3,
        "none": None,
        "list": np.array([0.1, 0.9], dtype=np.float32),
        "flag": True,
    }
    write_records([record, {"source": "d"}], "csv", list(record))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == {"source": 'a, "b"\nc', "n": "3", "none": "", "list": "[0.1, 0.9]", "flag": "true"}
    assert rows[1]["source"] == "d"
    assert rows[1]["list"] == ""


def test_one_record_is_an_object_a_line_or_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"a": 1, "b": [2]}
    write_record(record, "json")
    assert json.loads(capsys.readouterr().out) == record
    write_record(record, "jsonl")
    assert capsys.readouterr().out == '{"a": 1, "b": [2]}\n'
    write_record(record, "csv")
    assert capsys.readouterr().out == "a,b\n1,[2]\n"


def test_a_table_is_aligned_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("NAME", "COUNT", "SHARE"), [("a", "5", "95.10 %"), ("longer", "1,000", "-")])
    assert capsys.readouterr().out.splitlines() == [
        "NAME    COUNT    SHARE",
        "a           5  95.10 %",
        "longer  1,000        -",
    ]


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("NAME", "COUNT"), [])
    assert capsys.readouterr().out == "NAME  COUNT\n"


def test_fields_are_aligned_and_the_unknown_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    write_fields([("Name", "x"), ("Reason", None), ("Sequence", 0)])
    assert capsys.readouterr().out == "Name      x\nSequence  0\n"


def test_small_words() -> None:
    assert percent(0.95314) == "95.31 %"
    assert percent(None) == "-"
    assert percent(1.0, 1) == "100.0 %"
    assert to_csv(["a,b", None, 1.5]) == '"a,b",,1.5'
    assert plain(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"
