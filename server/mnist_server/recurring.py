"""Recurring requests: those that are, but for the pixels, the same as one that was parsed before.

A client that asks again and again sends one message with other pixels in it. A parser reads a message from
its start and takes a field of bytes by its length, unseen; so two that are the same before and after the
bytes of one field say the same, but for that field. What a message says besides is then known without parsing
it, which costs more than its forward pass: https://protobuf.dev/programming-guides/encoding/. Of other
messages all but that field is parsed: a parser would copy the bytes in it, which may be megabytes.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

# Kinds of one length that are remembered, and lengths.
_KINDS, _LENGTHS = 4, 64
# Of messages of no known kind one in so many is learnt from.
_LEARN_ONE_IN = 8
# Bytes of a field that are copied rather than seen in place; of longer messages the parsing is the least.
_MAX_BYTES = 2**14
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5

Parsed = TypeVar("Parsed")
Content = bytes | memoryview


class _Kind(NamedTuple, Generic[Parsed]):
    """Messages of one length that start and end alike, and what is between."""

    head: bytes
    tail: bytes
    between: slice
    parsed: Parsed


class Recurring(Generic[Parsed]):
    """Parses messages of one type, whose bulk is in one field of bytes of theirs."""

    def __init__(self, field: int, parse: Callable[[bytes], Parsed]) -> None:
        """field: that field's number. parse: returns what a message says; what it raises, `read` does."""
        self._field = field
        self._parse = parse
        self._kinds: dict[int, list[_Kind[Parsed]]] = {}
        self._unknown = 0

    def read(self, data: bytes) -> tuple[Parsed, Content | None]:
        """Returns what a message says besides, one object for all of its kind, and the bytes in its field.

        Where that is not there exactly once, there are none, and all of the message was parsed.
        """
        for head, tail, between, parsed in self._kinds.get(len(data), ()):
            if data.startswith(head) and data.endswith(tail):
                return parsed, data[between]
        rest, content, between = _parted(data, self._field)
        parsed = self._parse(rest)
        if content is not None and len(data) <= _MAX_BYTES:
            if self._unknown % _LEARN_ONE_IN == 0:
                self._learn(data, between, parsed)
            self._unknown += 1
        return parsed, content

    def _learn(self, data: bytes, between: slice, parsed: Parsed) -> None:
        if len(self._kinds) >= _LENGTHS:
            self._kinds.clear()
        kinds = self._kinds.setdefault(len(data), [])
        del kinds[_KINDS - 1 :]
        kinds.insert(0, _Kind(data[: between.start], data[between.stop :], between, parsed))


def parted(data: bytes, field: int) -> tuple[bytes, Content | None]:
    """Returns a message without a field of bytes, and these; the message as it is, and None, where it does
    not have that field exactly once, or is none."""
    rest, content, _ = _parted(data, field)
    return rest, content


def _parted(data: bytes, field: int) -> tuple[bytes, Content | None, slice]:
    found = find(data, field)
    if found is None:
        return data, None, slice(0)
    start, between = found
    large = between.stop - between.start > _MAX_BYTES
    content = memoryview(data)[between] if large else data[between]
    return data[:start] + data[between.stop :], content, between


def find(data: bytes, field: int) -> tuple[int, slice] | None:
    """Returns where a field of bytes begins in a message, and where its bytes are. None if it is not there
    exactly once, or the message is none that this understands."""
    found = None
    place, end = 0, len(data)
    try:
        while place < end:
            start = place
            key, place = data[place], place + 1  # most numbers are one byte
            if key > 0x7F:
                key, place = varint_at(data, start)
            kind = key & 7
            if kind == _LENGTH_DELIMITED:
                size, place = data[place], place + 1
                if size > 0x7F:
                    size, place = varint_at(data, place - 1)
                if key >> 3 == field:
                    if found is not None:
                        return None
                    found = start, slice(place, place + size)
                place += size
            elif kind == _VARINT:
                _, place = varint_at(data, place)
            elif kind in (_FIXED64, _FIXED32):
                place += 8 if kind == _FIXED64 else 4
            else:  # a group, which nobody uses any more
                return None
    except IndexError:  # it was cut off
        return None
    return found if place == end else None


def varint_at(data: bytes, place: int) -> tuple[int, int]:
    """Returns the number that begins at a place in a message, and the place after it. Raises IndexError."""
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
