"""Pixels: arrays of images, brought to one shape, (B, H, W), and judged before anything is sent."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_client.errors import InvalidInput

Labels = NDArray[np.uint8] | NDArray[np.uint16]
MAX_LABEL = 999
MAX_BYTE = 255  # the largest label that a byte holds


def to_images(parameter: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns images as a view of shape (B, H, W); B may be 0.

    array: uint8, 0 = paper, 255 = ink, of shape (H, W), (B, H, W), or (B, K) where K is a square number and
    not B: then each row is a square image. Raises InvalidInput, naming the parameter.
    """
    shape = " x ".join(map(str, array.shape)) or "a single number"
    if array.dtype != np.uint8:
        raise InvalidInput.of(parameter, f"an array of {array.dtype}", "uint8, 0 = paper, 255 = ink")
    if array.ndim == 2:
        rows, columns = array.shape
        side = math.isqrt(columns)
        flat = side * side == columns and rows != columns
        array = array.reshape(rows, side, side) if flat else array[np.newaxis]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InvalidInput.of(parameter, f"an array of {shape}", "(H, W), (B, H, W) or (B, H * H)")
    return array.view(np.uint8)


def to_labels(parameter: str, array: NDArray[Any]) -> Labels:
    """Returns labels of shape (N,) as uint8, or as uint16 where one is above 255, from integers of any type.

    Raises InvalidInput.
    """
    if array.ndim != 1 or array.dtype.kind not in "iu":
        shape = " x ".join(map(str, array.shape)) or "a single number"
        raise InvalidInput.of(parameter, f"an array of {shape} {array.dtype}", "whole numbers of shape (N,)")
    if array.size and (array.min() < 0 or array.max() > MAX_LABEL):
        place = int(((array < 0) | (array > MAX_LABEL)).argmax())
        raise InvalidInput.of(f"{parameter}[{place}]", array[place], f"a label from 0 to {MAX_LABEL}")
    if array.size and array.max() > MAX_BYTE:
        return array.astype(np.uint16, copy=False)
    return array.astype(np.uint8, copy=False)
