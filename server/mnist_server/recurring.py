"""Recurring requests: those that are, but for the pixels, the same as one that was parsed before.

A client that asks again and again sends one message with other pixels in it. A parser reads a message from
its start and takes a field of bytes by its length, unseen; so two that are the same before and after the
bytes of one field say the same, but for that field. What a message says besides is then known without parsing
it, which costs more than its forward pass: https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

# Kinds of one length that are remembered, and lengths.
_KINDS, _LENGTHS = 4, 64
# Of messages of no known kind one in so many is learnt from, which costs as much as parsing it.
_LEARN_ONE_IN = 8
# Of longer messages the parsing is the least.
_MAX_BYTES = 2**14
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5

Parsed = TypeVar("Parsed")


class _Kind(NamedTuple, Generic[Parsed]):
    """Messages of one length that start and end alike, and what is between."""

    head: bytes
    tail: bytes
    between: slice
    parsed: Parsed


class Recurring(Generic[Parsed]):
    """Parses messages of one type, whose bulk is in one field of bytes of theirs."""

    def __init__(self, field: int, parse: Callable[[bytes], tuple[Parsed, bytes]]) -> None:
        """field: that field's number. parse: returns what a message says besides, and its bytes; what it
        raises, `read` does."""
        self._field = field
        self._parse = parse
        self._kinds: dict[int, list[_Kind[Parsed]]] = {}
        self._unknown = 0

    def read(self, data: bytes) -> tuple[Parsed, bytes]:
        """Returns what a message says besides, one object for all of its kind, and the bytes in its field."""
        for head, tail, between, parsed in self._kinds.get(len(data), ()):
            if data.startswith(head) and data.endswith(tail):
                return parsed, data[between]
        parsed, content = self._parse(data)
        if self._unknown % _LEARN_ONE_IN == 0 and len(data) <= _MAX_BYTES:
            self._learn(data, parsed)
        self._unknown += 1
        return parsed, content

    def _learn(self, data: bytes, parsed: Parsed) -> None:
        between = find(data, self._field)
        if between is None:
            return
        if len(self._kinds) >= _LENGTHS:
            self._kinds.clear()
        kinds = self._kinds.setdefault(len(data), [])
        del kinds[_KINDS - 1 :]
        kinds.insert(0, _Kind(data[: between.start], data[between.stop :], between, parsed))


def find(data: bytes, field: int) -> slice | None:
    """Returns where the bytes of a field are in a message that has been parsed; None if it is not there
    exactly once."""
    found = None
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = divmod(key, 8)
        if kind == _LENGTH_DELIMITED:
            size, place = _varint(data, place)
            if number == field:
                if found is not None:
                    return None
                found = slice(place, place + size)
            place += size
        elif kind == _VARINT:
            _, place = _varint(data, place)
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:  # a group, which nobody uses any more
            return None
    return found


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
