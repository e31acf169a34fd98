"""The canonical hash of a data set: the same images and labels, in the same order, have one name.

The hash is the SHA-256, in lower-case hexadecimal, of this ASCII text, each line ended by a line feed:

    mnist-grpc dataset 1
    size HEIGHT WIDTH
    train COUNT IMAGES LABELS
    validation COUNT IMAGES LABELS
    test COUNT IMAGES LABELS

HEIGHT, WIDTH and COUNT are decimal; IMAGES is the SHA-256 of the split's pixels (COUNT x HEIGHT x WIDTH
bytes, row-major, 0 = paper) and LABELS that of its labels (COUNT bytes; where the data set has a label above
255, two bytes for each of its labels, the lower one first), in hexadecimal. A split without images has no
line. So the hash can be made while batches arrive, whatever their sizes and however the splits are
interleaved.
"""

import hashlib

SPLITS = ("train", "validation", "test")


class DatasetHash:
    """Takes the batches of a data set, in order within each split, and names the whole."""

    def __init__(self, height: int, width: int) -> None:
        self._size = f"size {height} {width}\n"
        self._pixels = height * width
        self._images = {split: hashlib.sha256() for split in SPLITS}
        self._labels = {split: hashlib.sha256() for split in SPLITS}
        self._counts = dict.fromkeys(SPLITS, 0)

    def add(self, split: str, pixels: bytes | memoryview, labels: bytes | memoryview) -> None:
        """Adds a batch: B x height x width bytes of pixels and B labels, of one or two bytes, in C order."""
        self._images[split].update(pixels)
        self._labels[split].update(labels)
        self._counts[split] += memoryview(pixels).nbytes // self._pixels

    def parts(self, split: str) -> tuple[str, str]:
        """Returns IMAGES and LABELS of a split, each of 64 hexadecimal digits."""
        return self._images[split].hexdigest(), self._labels[split].hexdigest()

    def hexdigest(self) -> str:
        """Returns the hash of what was added, 64 hexadecimal digits."""
        lines = ["mnist-grpc dataset 1\n", self._size]
        lines += [
            f"{split} {count} {' '.join(self.parts(split))}\n"
            for split, count in self._counts.items()
            if count
        ]
        return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()
