"""Images and labels as they come over the wire, judged before anything is done with them."""

import numpy as np
from numpy.typing import NDArray

from mnist_core import InvalidValue
from mnist_core.dataset import Labels
from mnist_proto.arrays import pixels_to_array
from mnist_proto.v1 import images_pb2
from mnist_server.limits import Limits


def read_pixels(
    pixels: bytes | memoryview, height: int, width: int, limits: Limits, *, prefix: str = ""
) -> NDArray[np.uint8]:
    """Returns a request's pixels as images, a view of shape (B, H, W). Raises InvalidValue.

    `prefix` is the path of the message that holds the fields, for the error.
    """
    if not pixels:
        raise InvalidValue(f"{prefix}pixels", "0 bytes", "at least one image")
    for field, value in (("height", height), ("width", width)):
        if value < 1:
            raise InvalidValue(f"{prefix}{field}", value, "at least 1 pixel")
    if height * width > limits.max_image_pixels:
        raise InvalidValue(
            f"{prefix}height",
            height,
            f"height x width of at most {limits.max_image_pixels} pixels, not {height} x {width}",
        )
    if len(pixels) % (height * width):
        raise InvalidValue(
            f"{prefix}pixels",
            f"{len(pixels)} bytes",
            f"a multiple of height x width = {height} x {width} = {height * width} bytes",
        )
    return pixels_to_array(pixels, height, width)


def read_batch(
    batch: images_pb2.LabeledImages, limits: Limits, classes: int
) -> tuple[NDArray[np.uint8], Labels]:
    """Returns a batch's images and labels, views of shape (B, H, W) and (B,). Raises InvalidValue."""
    images = read_pixels(batch.pixels, batch.height, batch.width, limits, prefix="batch.")
    field, data, width = "labels", batch.labels, 1
    if batch.labels16:
        if data:
            raise InvalidValue("batch.labels16", f"{len(batch.labels16)} bytes", "none beside labels")
        field, data, width = "labels16", batch.labels16, 2
    if len(data) != width * len(images):
        expected = f"one for each of the {len(images)} images"
        raise InvalidValue(f"batch.{field}", f"{len(data) / width:g} labels", expected)
    labels: Labels = np.frombuffer(data, "<u2" if width == 2 else "u1")
    if int(labels.max()) >= classes:
        place = int(np.argmax(labels >= classes))
        raise InvalidValue(f"batch.{field}[{place}]", int(labels[place]), f"a label from 0 to {classes - 1}")
    return images, labels
