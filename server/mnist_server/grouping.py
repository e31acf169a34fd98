"""Grouping: requests for one model that are there together are answered with one forward pass."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mnist_server.recurring import Content
from mnist_server.registry import Model
from mnist_server.rpc import LATER

# Images of a request that gain nothing by others' company, while putting them beside these would copy them.
ALONE = 256

Request = TypeVar("Request")
Item = TypeVar("Item")


def in_groups(
    requests: Sequence[Request],
    sort: Callable[[Request], tuple[Hashable, Item] | None],
    answer: Callable[[list[Item]], Sequence[bytes | Exception]],
) -> list[bytes | Exception]:
    """Answers requests, in their order; whatever is raised for one is its answer.

    sort: returns the group that a request belongs to, and what there is to answer; None leaves it for Later.
    answer: is given a group's items, and returns their answers.
    """
    answers: list[bytes | Exception] = [LATER] * len(requests)
    groups: dict[Hashable, tuple[list[int], list[Item]]] = {}
    for place, request in enumerate(requests):
        try:
            sorted_one = sort(request)
        except Exception as error:
            answers[place] = error
            continue
        if sorted_one is None:
            continue
        name, item = sorted_one
        group = groups.get(name)
        if group is None:
            group = groups[name] = ([], [])
        group[0].append(place)
        group[1].append(item)
    for places, items in groups.values():
        try:
            found = answer(items)
        except Exception as error:
            found = [error] * len(items)
        for place, one in zip(places, found, strict=True):
            answers[place] = one
    return answers


def joined(parts: Sequence[Content]) -> Content:
    """Returns the pixels of requests one after the other, of one request as they are."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def forward(
    model: Model,
    images: NDArray[np.uint8] | NDArray[np.float32],
    before_each: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Returns the probabilities (B, C) of images (B, H, W) or (B, H x W), a chunk at a time."""
    if not len(images):
        return np.empty((0, model.classes), dtype=np.float32)
    # What a message of floats lies at is any place: BLAS has it copied first, which should stay in the cache.
    chunk = model.chunk if images.flags.aligned else min(model.chunk, ALONE)
    if len(images) <= chunk:
        return model.network.predict(images).astype(np.float32, copy=False)
    probabilities = np.empty((len(images), model.classes), dtype=np.float32)
    for start in range(0, len(images), chunk):
        if before_each is not None:
            before_each()
        part = slice(start, start + chunk)
        probabilities[part] = model.network.predict(images[part])
    return probabilities
