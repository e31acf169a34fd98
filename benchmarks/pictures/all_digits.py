"""All digits of a page: how many are found, named rightly and put in reading order, and how well boxed."""

import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from benchmarks.pictures import halves, pages
from benchmarks.pictures.pages import Page, Placed

from mnist_core import Network
from mnist_core.pictures import DigitInPicture, mean_of_views, read_all, views

FOUND = 0.5  # a box that shares so much with a digit's own (intersection over union) is that digit's


class Reading(NamedTuple):
    """What was made of one page."""

    whole: bool  # all digits, named rightly, in reading order, and nothing else
    digits: int
    boxes: list[float]  # of each digit that was found, how much its box shares with its own
    right: int  # of those, how many were named rightly
    in_order: bool  # those come in the order of the page
    more: int  # boxes around no digit


def measure(network: Network, half: str, each: int) -> dict[str, Any]:
    """Returns how well a half's pages are read, so many of each kind."""
    asked = [(half, kind, number) for kind in pages.PAGES for number in range(each)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_found, asked, chunksize=4))
    readings = [(page.kind, judge(network, page, digits)) for page, digits in found]
    of_kinds = {
        kind: _figures([reading for name, reading in readings if name == kind]) for kind in pages.PAGES
    }
    return {**_figures([reading for _, reading in readings]), "kinds": of_kinds}


def judge(network: Network, page: Page, found: list[DigitInPicture]) -> Reading:
    """Compares what was found on a page with what is there."""
    images = np.array([digit.digit for digit in found], np.uint8).reshape(-1, 28, 28)
    named = mean_of_views(network.predict(views(images))).argmax(axis=1).tolist() if found else []
    shared = np.array([[overlap(digit, placed) for placed in page.digits] for digit in found])
    owners: list[int] = []  # of each that was found, the digit of the page that it is
    boxes, right, more = [], 0, 0
    for row, name in zip(shared, named, strict=True):
        owner = int(row.argmax())
        if row[owner] < FOUND or owner in owners:
            more += 1
            continue
        owners.append(owner)
        boxes.append(float(row[owner]))
        right += name == page.digits[owner].label
    whole = owners == list(range(len(page.digits))) and right == len(page.digits) and more == 0
    return Reading(whole, len(page.digits), boxes, right, owners == sorted(owners), more)


def overlap(one: DigitInPicture | Placed, other: DigitInPicture | Placed) -> float:
    """Returns the intersection of two boxes over their union, 0 to 1."""
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    both = max(down, 0) * max(across, 0)
    return both / (one.height * one.width + other.height * other.width - both)


def _found(asked: tuple[str, str, int]) -> tuple[Page, list[DigitInPicture]]:
    half, kind, number = asked
    page = pages.page(halves.HALVES[half], kind, number)
    return page._replace(encoded=b""), read_all(page.encoded)


def _figures(readings: list[Reading]) -> dict[str, Any]:
    digits = sum(reading.digits for reading in readings)
    boxes = [box for reading in readings for box in reading.boxes]
    return {
        "pages": len(readings),
        "digits": digits,
        "whole": sum(reading.whole for reading in readings) / len(readings),
        "found": len(boxes) / digits,
        "found_and_right": sum(reading.right for reading in readings) / digits,
        "in_order": sum(reading.in_order for reading in readings) / len(readings),
        "overlap": float(np.mean(boxes)) if boxes else 0.0,
        "more": sum(reading.more for reading in readings),
    }
