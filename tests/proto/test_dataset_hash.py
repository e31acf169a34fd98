"""The hash of a data set: made by hand it is the same, and whatever differs in the data differs in it."""

import hashlib
import itertools
import random

import pytest

from mnist_proto.dataset_hash import SPLITS, DatasetHash

Batch = tuple[str, bytes, bytes]
PIXELS = bytes(range(2 * 3 * 4))  # four images of 2 x 3
LABELS = bytes([7, 0, 9, 7])


def digest(batches: list[Batch], height: int = 2, width: int = 3) -> str:
    dataset = DatasetHash(height, width)
    for split, pixels, labels in batches:
        dataset.add(split, pixels, labels)
    return dataset.hexdigest()


def test_it_is_the_hash_that_its_description_gives() -> None:
    def sha256(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    text = (
        "mnist-grpc dataset 1\n"
        "size 2 3\n"
        f"train 3 {sha256(PIXELS[:18])} {sha256(LABELS[:3])}\n"
        f"test 1 {sha256(PIXELS[18:])} {sha256(LABELS[3:])}\n"
    )
    batches = [("train", PIXELS[:18], LABELS[:3]), ("test", PIXELS[18:], LABELS[3:])]
    assert digest(batches) == sha256(text.encode("ascii"))


def test_it_never_changes() -> None:
    # Jobs and data sets are stored under it.
    assert (
        digest([("train", PIXELS, LABELS)])
        == "3ba9d35d105616e2b99700906340e0af6fec8245c378f26057950e804b418c6c"
    )


def test_neither_the_size_of_batches_nor_the_order_of_splits_matters() -> None:
    whole = {split: digest([("train", PIXELS, LABELS), (split, PIXELS, LABELS)]) for split in SPLITS[1:]}
    for split, expected in whole.items():
        pieces = {
            name: [(name, PIXELS[6 * i : 6 * i + 6], LABELS[i : i + 1]) for i in range(4)]
            for name in ("train", split)
        }
        for seed in range(20):
            order = ["train"] * 4 + [split] * 4
            random.Random(seed).shuffle(order)
            queues = {name: iter(batches) for name, batches in pieces.items()}
            assert digest([next(queues[name]) for name in order]) == expected


def test_whatever_differs_in_the_data_differs_in_it() -> None:
    flipped = bytes([PIXELS[0] ^ 1]) + PIXELS[1:]
    variants = [
        digest([("train", PIXELS, LABELS)]),
        digest([("train", flipped, LABELS)]),
        digest([("train", PIXELS, LABELS[:3] + b"\x00")]),
        digest([("train", PIXELS[6:] + PIXELS[:6], LABELS[1:] + LABELS[:1])]),
        digest([("train", PIXELS, LABELS)], 3, 2),
        digest([("train", PIXELS, LABELS)], 1, 6),
        digest([("train", PIXELS[:18], LABELS[:3])]),
        digest([("train", PIXELS[:18], LABELS[:3]), ("test", PIXELS[18:], LABELS[3:])]),
        digest([("train", PIXELS[:18], LABELS[:3]), ("validation", PIXELS[18:], LABELS[3:])]),
        digest([("test", PIXELS, LABELS)]),
        digest([]),
    ]
    for first, second in itertools.combinations(variants, 2):
        assert first != second


def test_an_empty_batch_is_nothing() -> None:
    assert digest([("train", PIXELS, LABELS), ("test", b"", b"")]) == digest([("train", PIXELS, LABELS)])


def test_memory_is_as_good_as_bytes() -> None:
    dataset = DatasetHash(2, 3)
    dataset.add("train", memoryview(PIXELS), memoryview(LABELS))
    assert dataset.hexdigest() == digest([("train", PIXELS, LABELS)])


def test_it_can_be_asked_for_on_the_way() -> None:
    dataset = DatasetHash(2, 3)
    dataset.add("train", PIXELS[:6], LABELS[:1])
    before = dataset.hexdigest()
    assert dataset.hexdigest() == before
    dataset.add("train", PIXELS[6:], LABELS[1:])
    assert dataset.hexdigest() == digest([("train", PIXELS, LABELS)]) != before


def test_a_split_that_there_is_not_is_refused() -> None:
    with pytest.raises(KeyError, match="holdout"):
        DatasetHash(2, 3).add("holdout", PIXELS, LABELS)
