"""Prediction: images of any kind as requests, and the answers in columns, in the order of the images."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import grpc
import numpy as np
from numpy.typing import NDArray

from mnist_client.batches import CHUNK_BYTES, check_image_size
from mnist_client.data_errors import reading
from mnist_client.errors import InternalError, InvalidInput
from mnist_client.pixels import to_images
from mnist_client.resources import Limits
from mnist_client.results import Predictions
from mnist_proto.arrays import array_to_pixels, pixels_to_array
from mnist_proto.v1 import prediction_pb2 as pb

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture: TypeAlias = str | os.PathLike[str] | bytes | Image
else:
    Picture: TypeAlias = Any
Images: TypeAlias = "NDArray[np.uint8] | Picture | Sequence[NDArray[np.uint8] | Picture]"
"""What can be predicted: uint8 arrays, as `to_images` takes them; pictures as files, bytes or PIL images;
or a sequence of those."""

Positions: TypeAlias = NDArray[np.intp]

_PICTURE = re.compile(r"\bencoded_images\[(\d+)\]")
# What a message holds besides pixels or pictures, and what an answer holds an image: probabilities and digit.
_OVERHEAD_BYTES = 4096
_ANSWER_BYTES = 64
# A picture's tag and length in the message.
_FIELD_BYTES = 6
# PNG holds these as they are; others are converted.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def predict_requests(
    images: Images,
    limits: Limits,
    *,
    return_inputs: bool = False,
    score: bool = False,
    all_digits: bool = False,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[tuple[Positions, pb.PredictRequest]]:
    """Yields requests that the server takes, each with the positions of its images among all of them.

    Arrays are cut to chunks of about so many bytes. Files are read as their request is made.
    Raises InvalidInput for what is no image, or too large, DataError for files.
    """
    arrays: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = {}
    pictures: list[tuple[int, str, Picture]] = []
    count = 0
    for name, item in _items(images):
        if isinstance(item, np.ndarray):
            block = to_images(name, item)
            arrays.setdefault(block.shape[1:], []).append((count, block))
            count += len(block)
        else:
            pictures.append((count, name, item))
            count += 1
    if not count:
        raise InvalidInput.of("images", "no image", "at least one")
    for blocks in arrays.values():
        check_image_size(blocks[0][1], limits)
        for positions, batch in _cut(blocks, _most_images(blocks[0][1], limits, chunk_bytes)):
            yield (
                positions,
                pb.PredictRequest(
                    pixels=array_to_pixels(batch),
                    height=batch.shape[1],
                    width=batch.shape[2],
                    return_inputs=return_inputs,
                    score_digits=score,
                    all_digits=all_digits,
                ),
            )
    for positions, encoded in _gather(pictures, limits):
        yield (
            positions,
            pb.PredictRequest(
                encoded_images=encoded,
                return_inputs=return_inputs,
                score_digits=score,
                all_digits=all_digits,
            ),
        )


def to_predictions(
    answers: Iterable[tuple[Positions, pb.PredictResponse]], *, all_digits: bool = False
) -> Predictions:
    """Returns the answers to the requests of all images, put in the order of the images.

    all_digits: the digits on each image were asked for, however many there are.

    Raises InternalError if they do not answer every image.
    """
    parts = [_columns(response, positions, all_digits) for positions, response in answers]
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([positions for positions, _ in parts]), kind="stable")

    def joined(column: Callable[[Predictions], NDArray[Any] | None]) -> Any:
        arrays = [array for _, part in parts if (array := column(part)) is not None]
        return np.concatenate(arrays)[order] if arrays else None

    return Predictions(
        parts[0][1].model,
        joined(lambda part: part.digits),
        joined(lambda part: part.confidences),
        joined(lambda part: part.probabilities),
        joined(lambda part: part.inputs),
        parts[0][1].class_names,
        joined(lambda part: part.scores),
        joined(lambda part: part.are_digits),
        joined(lambda part: part.images),
        joined(lambda part: part.boxes),
    )


def in_terms_of_images(error: InvalidInput, positions: Positions) -> InvalidInput:
    """Returns a server's complaint about a request's pictures as one about the images that were given."""

    def rename(text: str) -> str:
        return _PICTURE.sub(lambda match: f"images[{positions[int(match[1])]}]", text)

    violations = tuple((rename(field), rename(text)) for field, text in error.violations)
    return InvalidInput(
        error.code,
        rename(error.message),
        details=error.details,
        violations=violations,
        server=error.server,
    )


def _columns(
    response: pb.PredictResponse, positions: Positions, all_digits: bool
) -> tuple[Positions, Predictions]:
    """Returns an answer, and the position, among all images, of that which each of its rows is about."""
    if all_digits:
        positions = positions[np.array(response.pictures, dtype=np.intp)]
    count = len(positions)
    probabilities = np.asarray(response.probabilities, dtype=np.float32)
    found = len(response.digits), len(response.confidences), probabilities.size
    if found != (count, count, count * response.classes):
        message = f"an answer of {found} digits, confidences and probabilities for {count} images"
        raise InternalError(grpc.StatusCode.INTERNAL, message)
    inputs = None
    if response.input_height:
        inputs = pixels_to_array(response.inputs, response.input_height, response.input_width)
    boxes = response.box_tops, response.box_lefts, response.box_heights, response.box_widths
    return positions, Predictions(
        response.model,
        np.array(response.digits, dtype=np.int64),
        np.asarray(response.confidences, dtype=np.float32),
        probabilities.reshape(count, response.classes),
        inputs,
        tuple(response.class_names),
        np.asarray(response.digit_scores, dtype=np.float32) if response.digit_scores else None,
        np.array(response.is_digit, dtype=bool) if response.is_digit else None,
        positions if all_digits else None,
        np.array(boxes, dtype=np.int64).T if all_digits else None,
    )


def _items(images: Images) -> Iterator[tuple[str, NDArray[np.uint8] | Picture]]:
    if _is_image(images):
        yield "images", images
        return
    if not isinstance(images, Sequence):
        raise InvalidInput.of("images", type(images).__name__, _EXPECTED)
    for index, image in enumerate(images):
        if not _is_image(image):
            raise InvalidInput.of(f"images[{index}]", type(image).__name__, _EXPECTED)
        yield f"images[{index}]", image


_EXPECTED = "uint8 arrays, paths, bytes or PIL images, one or a sequence of them"


def _is_image(image: object) -> TypeGuard[NDArray[np.uint8] | Picture]:
    return isinstance(image, np.ndarray | str | os.PathLike | bytes) or _is_pil(image)


def _is_pil(image: object) -> bool:
    # Whoever holds a PIL image has imported Pillow, so it need not be imported to know one.
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def _most_images(images: NDArray[np.uint8], limits: Limits, chunk_bytes: int) -> int:
    """How many images of this size a request may hold, so that its answer is not too large either."""
    each = int(images[0].size) + _ANSWER_BYTES
    room = min(chunk_bytes, limits.max_message_bytes - _OVERHEAD_BYTES)
    return max(min(limits.max_images_per_request, room // each), 1)


def _cut(
    blocks: list[tuple[int, NDArray[np.uint8]]], most: int
) -> Iterator[tuple[Positions, NDArray[np.uint8]]]:
    """Joins small blocks and cuts large ones, each with the position of its first image, to `most` images."""
    positions: list[Positions] = []
    pieces: list[NDArray[np.uint8]] = []
    room = most
    for first, block in blocks:
        start = 0
        while start < len(block):
            piece = block[start : start + room]
            positions.append(np.arange(first + start, first + start + len(piece)))
            pieces.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room:
                yield np.concatenate(positions), _join(pieces)
                positions, pieces, room = [], [], most
    if pieces:
        yield np.concatenate(positions), _join(pieces)


def _join(pieces: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def _gather(
    pictures: list[tuple[int, str, Picture]], limits: Limits
) -> Iterator[tuple[Positions, list[bytes]]]:
    """Encodes pictures, and joins as many as a request may hold."""
    room = limits.max_message_bytes - _OVERHEAD_BYTES
    positions: list[int] = []
    batch: list[bytes] = []
    size = 0
    for position, name, picture in pictures:
        encoded = _encode(picture, room)
        if len(encoded) > room:
            found = picture if isinstance(picture, str | os.PathLike) else "a picture"
            raise InvalidInput.of(name, f"{found} of {len(encoded)} bytes or more", f"at most {room} bytes")
        if batch and size + len(encoded) > room:
            yield np.array(positions), batch
            positions, batch, size = [], [], 0
        positions.append(position)
        batch.append(encoded)
        size += len(encoded) + _FIELD_BYTES
        if len(batch) == limits.max_encoded_images:
            yield np.array(positions), batch
            positions, batch, size = [], [], 0
    if batch:
        yield np.array(positions), batch


def _encode(picture: Picture, most: int) -> bytes:
    """Returns a picture's bytes; of a file, no more than one byte over `most`."""
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, str | os.PathLike):
        with reading(picture), Path(picture).open("rb") as file:
            return file.read(most + 1)
    if picture.mode not in _PNG_MODES:
        picture = picture.convert("RGB")
    data = io.BytesIO()
    # With its EXIF, which says which side is up.
    picture.save(data, "PNG", exif=picture.getexif())
    return data.getvalue()
