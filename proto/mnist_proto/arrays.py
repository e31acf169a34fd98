"""Arrays as bytes: NumPy arrays into messages and back without a step a number.

A packed `repeated float` is, on the wire, its tag, its length and the array's own little-endian bytes
(https://protobuf.dev/programming-guides/encoding/#packed). Writing those directly costs one copy, where
assigning to the field costs a Python number each.
"""

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

_LENGTH_DELIMITED = 2


def set_packed(message: Message, field: str, values: NDArray[np.float32]) -> None:
    """Sets the empty packed float field of `message` to `values`, of any shape, in row-major order.

    Raises ValueError if the message has no such packed field of 32-bit floats.
    """
    descriptor = message.DESCRIPTOR.fields_by_name.get(field)
    if descriptor is None or not descriptor.is_packed or descriptor.type != descriptor.TYPE_FLOAT:
        raise ValueError(f"field: {field!r} is not a packed float field of {message.DESCRIPTOR.full_name}")
    data = np.ascontiguousarray(values, dtype="<f4").tobytes()
    message.MergeFromString(field_head(descriptor.number, len(data)) + data)


def field_head(number: int, size: int) -> bytes:
    """Returns what comes before the bytes of a field on the wire: of a packed, bytes or message field."""
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(size)


def pixels_to_array(pixels: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the bytes of B images as a read-only view of shape (B, height, width).

    Raises ValueError if the bytes are not a whole number of images.
    """
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, height, width)


def array_to_pixels(images: NDArray[np.uint8]) -> bytes:
    """Returns uint8 images of shape (B, H, W) as the bytes of a `pixels` field."""
    return np.ascontiguousarray(images, dtype=np.uint8).tobytes()


def varint(value: int) -> bytes:
    """Returns a number that is not negative as the wire has it, seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
