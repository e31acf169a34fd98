"""A folder of images holds a subfolder a class, named by its label or its name: 0/ ... 9/, or a/ ... z/."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_client.data_errors import DataError, reading
from mnist_client.idx import MAX_BYTES
from mnist_client.pixels import MAX_BYTE, MAX_LABEL, Labels

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".tif", ".tiff", ".webp"})

# Pillow's names of those; its other readers are not let near a stranger's file.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


def read_image_folder(
    folder: Path, names: tuple[str, ...] = ()
) -> tuple[NDArray[np.uint8], Labels, tuple[str, ...]]:
    """Returns images (N, H, W) and labels (N,), in the order of the labels, then of the files' names, and
    what the classes are called: nothing where that is their labels.

    Subfolders are named by labels, integers from 0 to 999; or, if one of them is not, by the names of
    classes, whose labels are then their places in the order of the names. `names` are those of a split before
    this one: then there must be no others. Images become grey levels just as they are, 0 for paper and 255
    for ink: nothing is inverted, resized or centred, and transparency is ignored. Files of other kinds, and
    names that begin with a dot, are passed over. Raises DataError where a subfolder has another name, where
    an image cannot be decoded or is of another size than the first, and where Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(f"{folder}: reading image files takes Pillow: pip install pillow") from error
    with reading(folder):
        examples, names = _examples(folder, names)
    most = max(label for label, _ in examples)
    kind: Any = np.uint16 if most > MAX_BYTE else np.uint8
    labels = np.array([label for label, _ in examples], kind)
    images = np.empty((0, 0, 0), dtype=np.uint8)
    for index, (_, path) in enumerate(examples):
        try:
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
                if index == 0:
                    images = _allocate(path, len(examples), height, width)
                _check(path, image.mode, (height, width), images.shape[1:])
                images[index] = np.asarray(image.convert("L"))
        except DataError:
            raise
        except Exception as error:  # Pillow promises no list of what a damaged file raises
            raise DataError(f"{path}: cannot be decoded: {error}; expected an image file") from error
    return images, labels, names


def image_files(folder: Path) -> list[Path]:
    """Returns the image files inside a folder, told by their names' endings, sorted by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _examples(folder: Path, names: tuple[str, ...]) -> tuple[list[tuple[int, Path]], tuple[str, ...]]:
    """Labels and files, sorted, and the names of classes."""
    found = sorted(
        subfolder.name
        for subfolder in folder.iterdir()
        if not subfolder.name.startswith(".") and subfolder.is_dir()
    )
    if not names and not all(name.isascii() and name.isdecimal() for name in found):
        names = tuple(found)
    examples: list[tuple[int, Path]] = []
    for name in found:
        if names and name not in names:
            raise DataError(f"{folder}: found a folder {name!r}; expected those of the training images")
        if not names and (len(name) > 9 or int(name) > MAX_LABEL):
            raise DataError(
                f"{folder}: found a folder {name!r}; expected labels, integers from 0 to {MAX_LABEL}"
            )
        label = names.index(name) if names else int(name)
        examples += [(label, path) for path in image_files(folder / name)]
    if not examples:
        raise DataError(f"{folder}: found no image; expected a subfolder a class, with image files inside")
    return sorted(examples), names


def _allocate(path: Path, count: int, height: int, width: int) -> NDArray[np.uint8]:
    if count * height * width > MAX_BYTES:
        raise DataError(
            f"{path}: found {height} x {width} pixels, in one of {count} images; "
            f"expected at most {MAX_BYTES} bytes together"
        )
    return np.empty((count, height, width), dtype=np.uint8)


def _check(path: Path, mode: str, size: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if mode not in _EIGHT_BIT_MODES:
        raise DataError(f"{path}: found pixels of Pillow's mode {mode!r}; expected 8 bits a channel")
    if size != expected:
        raise DataError(
            f"{path}: found {size[0]} x {size[1]} pixels; "
            f"expected {expected[0]} x {expected[1]}, as the first image has"
        )
