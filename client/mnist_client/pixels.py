"""Pixels: arrays of images, brought to one shape, (B, H, W), and judged before anything is sent."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_client.errors import InvalidInput


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


def to_labels(parameter: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Returns labels as uint8 of shape (N,), from integers of any type. Raises InvalidInput."""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        shape = " x ".join(map(str, array.shape)) or "a single number"
        raise InvalidInput.of(parameter, f"an array of {shape} {array.dtype}", "whole numbers of shape (N,)")
    if array.size and (array.min() < 0 or array.max() > 255):
        place = int(((array < 0) | (array > 255)).argmax())
        raise InvalidInput.of(f"{parameter}[{place}]", array[place], "a label from 0 to 255")
    return array.astype(np.uint8, copy=False)
