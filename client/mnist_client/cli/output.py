"""Output: the same records as a table for people, or as JSON, JSON lines or CSV for programs.

json is one document (an array where there may be many), jsonl an object a line as soon as it is known, csv a
header and a row a record. Numbers that JSON cannot hold (NaN, infinite) are null; times are ISO 8601 in UTC;
in csv a list or an object is JSON in its cell, and null is empty.
"""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import click
import numpy as np

TABLE, JSON, JSONL, CSV = FORMATS = ("table", "json", "jsonl", "csv")

Record = Mapping[str, object]
# A list of numbers over several lines. A line never ends inside a string of JSON.
_FLAT_LIST = re.compile(r'\[\n[^\[\]{}"]*\n *\]')


def write_records(records: Iterable[Record], output: str, fields: Sequence[str]) -> None:
    """Writes records, each as soon as it comes, as json, jsonl or csv. fields are the columns of csv."""
    if output == JSON:
        _write_array(records)
        return
    if output == CSV:
        click.echo(to_csv(fields))
    for record in records:
        click.echo(to_csv([record.get(field) for field in fields]) if output == CSV else to_json(record))


def write_record(record: Record, output: str) -> None:
    """Writes one record as json, jsonl or csv."""
    if output == JSON:
        click.echo(to_json(record, indent=2))
    else:
        write_records([record], output, list(record))


def write_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Writes rows of text under a header, columns aligned: numbers to the right, the rest to the left."""
    lines = [list(header), *(list(row) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [len(column) > 1 and all(_is_number(cell) for cell in column[1:]) for column in columns]
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        aligned = (cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in cells)
        click.echo("  ".join(aligned).rstrip())


def write_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Writes what is known of one thing, a name and a value a line; values of None are left out."""
    known = [(name, str(value)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        click.echo(f"{name.ljust(width)}  {value}".rstrip())


def to_json(value: object, indent: int | None = None) -> str:
    """Returns value as JSON: on one line, or indented, with only its lists of plain values each on one."""
    text = json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    return _FLAT_LIST.sub(
        lambda match: " ".join(match[0].split()).replace("[ ", "[").replace(" ]", "]"), text
    )


def to_csv(values: Sequence[object]) -> str:
    """Returns values as one line of CSV (RFC 4180), without its end."""
    cells = [plain(value) for value in values]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        json.dumps(cell, ensure_ascii=False, allow_nan=False)
        if isinstance(cell, (list, dict, bool))
        else ""
        if cell is None
        else cell
        for cell in cells
    )
    return line.getvalue()


def plain(value: object) -> object:
    """Returns value as what JSON knows: dataclasses as objects, arrays and tuples as lists, times as text."""
    if isinstance(value, (np.ndarray, np.generic)):
        # float32 by way of its shortest text: 0.1 and not 0.10000000149011612, and the same float32 again.
        exact = value.astype(str).astype(np.float64) if value.dtype == np.float32 else value
        return plain(exact.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def as_record(thing: object) -> dict[str, object]:
    """Returns a dataclass as a record: its fields, in their order."""
    record = plain(thing)
    if not isinstance(record, dict):
        raise TypeError(f"{type(thing).__name__} is not a dataclass")
    return record


def percent(share: float | None, digits: int = 2) -> str:
    """Returns a share, 0 to 1, as people read it: '95.31 %'; '-' for None."""
    return "-" if share is None else f"{share:.{digits}%}".replace("%", " %")


def local_time(time: datetime | None) -> str:
    """Returns a time in the reader's own zone, to the second; '-' for None."""
    return "-" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _write_array(records: Iterable[Record]) -> None:
    """A JSON array that is whole even if the records end early with an error."""
    written = 0
    try:
        for record in records:
            click.echo(("[" if written == 0 else ",") + "\n" + to_json(record), nl=False)
            written += 1
    finally:
        click.echo("\n]" if written else "[]")


def _is_number(cell: str) -> bool:
    return cell in ("-", ".") or cell.removesuffix("%").strip().replace(",", "").replace(".", "", 1).isdigit()
