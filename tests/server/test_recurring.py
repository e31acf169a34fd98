"""Recurring requests are read as parsing them would; tried on messages of every make."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from mnist_proto.inference import inference_pb2
from mnist_proto.v1 import prediction_pb2 as pb
from mnist_server.recurring import _KINDS, _LEARN_ONE_IN, _LENGTHS, _MAX_BYTES, Recurring, find

PIXELS = pb.PredictRequest.PIXELS_FIELD_NUMBER


class Parser:
    """Parses, and counts how often."""

    def __init__(self) -> None:
        self.parsed = 0

    def __call__(self, data: bytes) -> pb.PredictRequest:
        self.parsed += 1
        return pb.PredictRequest.FromString(data)


def request(pixels: bytes, **fields: object) -> bytes:
    fields = {"height": 28, "width": 28} | fields
    return pb.PredictRequest(pixels=pixels, **fields).SerializeToString()  # type: ignore[arg-type]  # as given


def same(read: tuple[pb.PredictRequest, bytes | memoryview | None], data: bytes) -> bool:
    """Whether what was read is what parsing says."""
    message, content = read
    assert content is None or not message.pixels
    whole = pb.PredictRequest(pixels=bytes(content or b""))
    whole.MergeFrom(message)
    return whole == pb.PredictRequest.FromString(data)


def test_the_second_of_a_kind_is_not_parsed_and_has_its_own_pixels() -> None:
    parser = Parser()
    recurring = Recurring(PIXELS, parser)
    first, second = request(bytes(784)), request(bytes(range(196)) * 4)
    assert same(recurring.read(first), first)
    assert same(recurring.read(second), second)
    assert parser.parsed == 1


@pytest.mark.parametrize(
    "other",
    [
        {"height": 27},
        {"width": 29},
        {"return_inputs": True},
        {"model": "models/mnist"},
        {"encoded_images": [b"a"]},
        {"height": 0},
    ],
)
def test_what_differs_besides_is_parsed(other: dict[str, object]) -> None:
    recurring = Recurring(PIXELS, Parser())
    recurring.read(request(bytes(784)))
    for pixels in (bytes(784), b"\xff" * 784, b"\xff" * 783, b"\xff" * 785):
        data = request(pixels, **other)
        assert same(recurring.read(data), data)
        recurring = Recurring(PIXELS, Parser())
        recurring.read(request(bytes(784)))


def test_pixels_that_look_like_fields_are_pixels() -> None:
    recurring = Recurring(PIXELS, Parser())
    nested = request(bytes(100))
    for pixels in (bytes(784), (nested * 8)[:784], b"\x12\x90\x06" * 261 + b"\x12"):
        data = request(pixels)
        assert same(recurring.read(data), data)


def test_a_field_that_comes_twice_or_never_teaches_nothing() -> None:
    parser = Parser()
    recurring = Recurring(PIXELS, parser)
    twice, never = request(bytes(10)) + request(bytes(10)), request(b"")
    for data in (twice, twice, never, never):
        assert same(recurring.read(data), data)
    assert parser.parsed == 4


def test_what_is_no_message_is_refused_each_time() -> None:
    recurring = Recurring(PIXELS, Parser())
    good = request(bytes(784))
    recurring.read(good)
    cut_off = request(bytes(2**15))[:-3]
    for bad in (
        cut_off,
        good[:100],
        good[:2],
        b"\x12" + good[1:-1] + b"\xff",
        b"\x0a\xff\xff",
        b"\xff" * len(good),
        b"\xff" * len(good),
    ):
        with pytest.raises(DecodeError):
            recurring.read(bad)


def test_any_messages_are_read_as_parsing_reads_them() -> None:
    random = np.random.default_rng(0)
    parser = Parser()
    recurring = Recurring(PIXELS, parser)
    sizes = [1, 127, 128, 784, 16_384]
    for _ in range(3000):
        fields: dict[str, object] = {}
        if random.random() < 0.3:
            fields["model"] = "models/" + "ab"[random.integers(2)]
        if random.random() < 0.2:
            fields["return_inputs"] = True
        if random.random() < 0.1:
            fields["encoded_images"] = [random.bytes(3)]
        data = request(random.bytes(sizes[random.integers(len(sizes))]), **fields)
        if random.random() < 0.1:  # unknown fields, of every type that there is
            data += b"\xa0\x06\x05" + b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4)
        assert same(recurring.read(data), data)
    assert parser.parsed < 1500


def test_it_remembers_a_bounded_number_and_nothing_large() -> None:
    parser = Parser()
    recurring = Recurring(PIXELS, parser)
    for size in range(1, 2 * _LENGTHS * _LEARN_ONE_IN):
        recurring.read(request(bytes(size)))
    for name in range(100):
        for _ in range(_LEARN_ONE_IN):
            recurring.read(request(bytes(784), model=f"models/m{name:03}"))
    assert len(recurring._kinds) <= _LENGTHS
    assert max(map(len, recurring._kinds.values())) <= _KINDS
    large = request(bytes(_MAX_BYTES + 1))
    parser.parsed = 0
    for _ in range(2 * _LEARN_ONE_IN):
        _, content = recurring.read(large)
        assert isinstance(content, memoryview)
        assert content.obj is large  # not a copy
    assert parser.parsed == 2 * _LEARN_ONE_IN


def test_a_kind_that_comes_late_is_learnt_too() -> None:
    parser = Parser()
    recurring = Recurring(PIXELS, parser)
    for number in range(1000):
        recurring.read(request(bytes(784), model=f"models/m{number:03}"))
    parser.parsed = 0
    for _ in range(3 * _LEARN_ONE_IN):
        recurring.read(request(bytes(784), model="models/late"))
    assert parser.parsed <= _LEARN_ONE_IN


def test_finds_one_entry_of_a_repeated_field() -> None:
    message = inference_pb2.ModelInferRequest(model_name="mnist", raw_input_contents=[b"abc"])
    message.inputs.add(name="images", datatype="UINT8", shape=[1, 784])
    field = inference_pb2.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
    data = message.SerializeToString()
    message_without = inference_pb2.ModelInferRequest(model_name="mnist", inputs=message.inputs)
    place = find(data, field)
    assert place is not None
    start, between = place
    assert data[between] == b"abc"
    assert inference_pb2.ModelInferRequest.FromString(data[:start] + data[between.stop :]) == message_without
    message.raw_input_contents.append(b"d")
    assert find(message.SerializeToString(), field) is None
    assert find(b"\x0b\x0c" + data, field) is None  # a group
