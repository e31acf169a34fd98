"""Tensors: the images in a request of the Open Inference Protocol, and the answers to it, as its bytes.

Whatever a request can be wrong in is said here: contents both raw and typed, names, datatypes, shapes, byte
counts, pixels out of range.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mnist_core import InvalidValue
from mnist_proto.arrays import field_head
from mnist_proto.inference import inference_pb2 as pb
from mnist_server.limits import Limits
from mnist_server.recurring import Content
from mnist_server.registry import Model

IMAGES, PROBABILITIES, DIGIT = "images", "probabilities", "digit"
DTYPES: dict[str, np.dtype[Any]] = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}
_TYPED = {"UINT8": "uint_contents", "FP32": "fp32_contents"}
_DIGIT = np.dtype("<i8")
_ONE = np.ones((), np.float32).view(np.uint32)
_RAW = pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number

Images = NDArray[np.uint8] | NDArray[np.float32]


class Output(NamedTuple):
    """A tensor that is asked for."""

    name: str
    classes: int = 0  # the likeliest so many, as text; 0: all, as numbers


ALL = (Output(PROBABILITIES), Output(DIGIT))


class Asked(NamedTuple):
    """What a request is, but for its pixels."""

    images: int
    datatype: str  # of DTYPES
    outputs: tuple[Output, ...]
    id: str
    work: int  # in images: a class as text takes about as long as one


def read(
    request: pb.ModelInferRequest, raw: Sequence[Content], model: Model, limits: Limits
) -> tuple[Asked, Content]:
    """Returns what a request asks for, and its pixels, as many as that needs. Raises InvalidValue.

    raw: its raw_input_contents, whether or not it still holds them itself.
    """
    inputs = request.inputs
    if len(inputs) != 1:
        names = [tensor.name for tensor in inputs[:10]]
        raise InvalidValue("inputs", names, f"one tensor, {IMAGES!r}")
    tensor = inputs[0]
    if tensor.name != IMAGES:
        raise InvalidValue("inputs[0].name", tensor.name, f"{IMAGES!r}, the one input there is")
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InvalidValue("inputs[0].datatype", tensor.datatype, " or ".join(DTYPES))
    _refuse_shared_memory(tensor, "inputs[0]")
    count = _count(list(tensor.shape), model, limits)
    size = count * model.height * model.width
    if raw:
        if tensor.HasField("contents"):
            raise InvalidValue("inputs[0].contents", "set", "none beside raw_input_contents")
        if len(raw) != 1:
            raise InvalidValue("raw_input_contents", f"{len(raw)} entries", "one for each of 1 inputs")
        pixels: Content = raw[0]
        if len(pixels) != size * dtype.itemsize:
            raise InvalidValue(
                "raw_input_contents[0]",
                f"{len(pixels)} bytes",
                f"{size * dtype.itemsize} bytes, {dtype.itemsize} a number of shape {list(tensor.shape)}",
            )
    else:
        pixels = _typed(tensor, size)
    outputs = _outputs(request, model)
    work = count * max(1, *(output.classes for output in outputs))
    return Asked(count, tensor.datatype, outputs, request.id, work), pixels


def check_range(images: Images) -> None:
    """Judges the pixels of images of any shape, of which uint8 are always good. Raises InvalidValue."""
    if images.dtype == np.uint8:
        return
    # In one pass: the bits of a float from 0 to 1 are a whole number up to that of 1, those of all else are a
    # larger one. What is negative has the first bit set (-0 too, which is judged below), and infinity and NaN
    # all of the exponent's.
    if images.view(np.uint32).max() <= _ONE:
        return
    with np.errstate(invalid="ignore"):
        least, most = images.min(), images.max()  # NaN if there is one
    if least >= 0 and most <= 1:
        return
    flat = images.ravel()
    place = int(np.argmin((flat >= 0) & (flat <= 1)))
    raise InvalidValue(
        "inputs[0]", float(flat[place]), f"finite numbers from 0 to 1 as FP32; this is number {place}"
    )


def encode(model: Model, probabilities: NDArray[np.float32], asked: Sequence[Asked]) -> list[bytes]:
    """Returns the ModelInferResponses to requests for probabilities (B, C) of all their images, on the wire.

    Their fields are put one after the other: what requests of a kind have in common is serialized once.
    """
    width = 4 * model.classes
    rows = probabilities.astype("<f4", copy=False).tobytes()
    digits = probabilities.argmax(axis=1).astype(_DIGIT, copy=False).tobytes()
    answers = []
    start = 0
    known: Asked | None = None
    for each in asked:
        count = each.images
        stop = start + count
        if each is not known:  # most are as the one before
            known = each
            own = _head(model.name, model.classes, count, each.outputs)
            if each.id:
                own += pb.ModelInferResponse(id=each.id).SerializeToString()
        fields = [own]
        for name, classes in each.outputs:
            if name == DIGIT:
                data = digits[_DIGIT.itemsize * start : _DIGIT.itemsize * stop]
            elif classes:
                data = _likeliest(probabilities[start:stop], classes, model.class_names)
            else:
                data = rows[width * start : width * stop]
            fields += (_raw_head(len(data)), data)
        answers.append(b"".join(fields))
        start = stop
    return answers


def _count(shape: list[int], model: Model, limits: Limits) -> int:
    height, width = model.height, model.width
    if shape[1:] not in ([height * width], [height, width]):
        expected = f"[-1, {height * width}] or [-1, {height}, {width}], the images of {model.name}"
        raise InvalidValue("inputs[0].shape", shape, expected)
    if not 1 <= shape[0] <= limits.max_images_per_request:
        expected = f"1 to {limits.max_images_per_request} images"
        raise InvalidValue("inputs[0].shape", shape, expected)
    return shape[0]


def _typed(tensor: pb.ModelInferRequest.InferInputTensor, size: int) -> bytes:
    field = _TYPED[tensor.datatype]
    there = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
    if there != [field]:
        found = ", ".join(there) or "nothing"
        expected = f"{field} of {tensor.datatype}, or raw_input_contents"
        raise InvalidValue("inputs[0].contents", found, expected)
    numbers = tensor.contents.uint_contents if tensor.datatype == "UINT8" else tensor.contents.fp32_contents
    if len(numbers) != size:
        expected = f"{size} numbers, of shape {list(tensor.shape)}"
        raise InvalidValue(f"inputs[0].contents.{field}", f"{len(numbers)} numbers", expected)
    array = np.asarray(numbers)
    if tensor.datatype == "UINT8" and array.max() > 255:
        place = int(np.argmax(array > 255))
        raise InvalidValue(f"inputs[0].contents.{field}[{place}]", int(array[place]), "0 to 255")
    data: bytes = array.astype(DTYPES[tensor.datatype]).tobytes()
    return data


def _outputs(request: pb.ModelInferRequest, model: Model) -> tuple[Output, ...]:
    if not request.outputs:
        return ALL
    outputs: list[Output] = []
    for place, tensor in enumerate(request.outputs):
        field = f"outputs[{place}]"
        if tensor.name not in (PROBABILITIES, DIGIT):
            raise InvalidValue(f"{field}.name", tensor.name, f"{PROBABILITIES!r} or {DIGIT!r}")
        if any(tensor.name == output.name for output in outputs):
            raise InvalidValue(f"{field}.name", tensor.name, "each output once")
        _refuse_shared_memory(tensor, field)
        classes = 0
        if "classification" in tensor.parameters:
            field += ".parameters[classification]"
            if tensor.name != PROBABILITIES:
                raise InvalidValue(field, tensor.name, f"it on {PROBABILITIES!r} only")
            parameter = tensor.parameters["classification"]
            if parameter.WhichOneof("parameter_choice") != "int64_param" or parameter.int64_param < 1:
                found = str(parameter).strip() or "nothing"
                raise InvalidValue(field, found, "an int64_param of at least 1: how many classes")
            classes = min(parameter.int64_param, model.classes)
        outputs.append(Output(tensor.name, classes))
    return tuple(outputs)


def _refuse_shared_memory(
    tensor: pb.ModelInferRequest.InferInputTensor | pb.ModelInferRequest.InferRequestedOutputTensor,
    field: str,
) -> None:
    if tensor.parameters:
        for name in tensor.parameters:
            if name.startswith("shared_memory"):
                raise InvalidValue(f"{field}.parameters", name, "contents in the message: no shared memory")


def _likeliest(probabilities: NDArray[np.float32], classes: int, names: Sequence[str]) -> bytes:
    """Returns BYTES (B, classes), each `probability:class`, or `probability:class:name` where classes have
    names, the likeliest first, on a tie the lowest."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :classes]
    values = np.take_along_axis(probabilities, best, axis=1)
    parts: list[bytes] = []
    for value, place in zip(values.ravel().tolist(), best.ravel().tolist(), strict=True):
        text = (f"{value:f}:{place}:{names[place]}" if names else f"{value:f}:{place}").encode()
        parts += (struct.pack("<I", len(text)), text)
    return b"".join(parts)


@lru_cache(1024)
def _head(model: str, classes: int, count: int, outputs: tuple[Output, ...]) -> bytes:
    """Returns what answers of a kind have in common: a response without id and contents."""
    _, name, _, version = model.split("/")
    response = pb.ModelInferResponse(model_name=name, model_version=version)
    for output in outputs:
        if output.name == DIGIT:
            response.outputs.add(name=DIGIT, datatype="INT64", shape=[count])
        else:
            shape = [count, output.classes or classes]
            response.outputs.add(
                name=output.name, datatype="BYTES" if output.classes else "FP32", shape=shape
            )
    return response.SerializeToString()


@lru_cache(1024)
def _raw_head(size: int) -> bytes:
    return field_head(_RAW, size)
