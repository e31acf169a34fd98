"""A half is what pictures are made of: one to tune and teach with, one to judge with, nothing in common."""

import gzip
import os
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FONTS = Path(__file__).resolve().parents[2] / ".venv-pictures" / "fonts"
LOOK_ALIKES = "OIlZSBgq"
LETTERS = "".join(
    letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if letter not in LOOK_ALIKES
)


@dataclass(frozen=True, eq=False)  # hashed by identity: slices cannot be hashed
class Half:
    """What the pictures of one half are made of."""

    name: str
    digits: slice  # of MNIST's test images
    writers: slice  # of scikit-learn's 8 x 8 digits
    ways: slice  # of strokes.WAYS
    fonts: tuple[str, ...]  # files, by the beginning of their names
    papers: tuple[str, ...]  # photographs that are written on, of scikit-image
    photographs: tuple[str, ...]  # photographs of something else, of scikit-image, scikit-learn or matplotlib
    seed: int
    train: bool = False  # whether its digits are of MNIST's training images instead


TUNING = Half(
    "tuning",
    slice(0, 5000),
    slice(0, 900),
    slice(0, None, 2),
    ("ComicNeue-Light.", "ComicNeue-Bold.", "DancingScript-R", "dkg.", "DejaVuSans.", "STIXGeneral."),
    ("page.png", "brick.png", "moon.png"),
    ("astronaut.png", "camera.png", "coffee.png", "motorcycle_left.png", "ihc.png", "hubble_deep_field.jpg"),
    1,
)  # fmt: skip
JUDGING = Half(
    "judging",
    slice(5000, 10000),
    slice(900, 1797),
    slice(1, None, 2),
    (
        "BecauseWe", "Ecolier", "Humor", "KaushanScript", "KleeOne-R", "Kristi", "Rufscript", "DejaVuSerif.",
        "cmr10.",
    ),
    ("text.png", "grass.png", "gravel.png"),
    (
        "chelsea.png", "rocket.jpg", "cell.png", "coins.png", "retina.jpg", "china.jpg", "flower.jpg",
    ),
    2,
)  # fmt: skip
# What networks are taught with, beside MNIST: the tuning half, but for MNIST's test images, which nothing is
# taught with, and with more fonts and photographs.
TEACHING = replace(
    TUNING,
    name="teaching",
    digits=slice(None),
    fonts=(
        *TUNING.fonts, "Breip.", "Delphine", "Havana", "kiloji.", "LeckerliOne", "lobster", "setofont.",
        "Steve", "summersby", "TomsonTalks", "YuseiMagic",
    ),
    photographs=(
        *TUNING.photographs, "clock_motion.png", "color.png", "grace_hopper.jpg", "horse.png", "phantom.png",
    ),
    seed=3,
    train=True,
)  # fmt: skip


HALVES = {half.name: half for half in (TUNING, JUDGING, TEACHING)}


@cache
def mnist(half: Half) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns digits of MNIST's test set, or of its training set, (N, 28, 28), and their labels.

    KeyError without MNIST_DATA.
    """
    folder, of = Path(os.environ["MNIST_DATA"]), "train" if half.train else "t10k"
    images, labels = (
        np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8, offset=offset)
        for name, offset in [(f"{of}-images-idx3-ubyte.gz", 16), (f"{of}-labels-idx1-ubyte.gz", 8)]
    )
    return images.reshape(-1, 28, 28)[half.digits], labels[half.digits]


@cache
def writers(half: Half) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Returns digits of 43 writers, (N, 8, 8), 0 to 16, and their labels (Alpaydin and Kaynak, 1998)."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.images.astype(np.uint8)[half.writers], bunch.target.astype(np.uint8)[half.writers]


@cache
def fonts(half: Half) -> tuple[Path, ...]:
    """Returns the files of a half's fonts. Raises FileNotFoundError for one that is not there."""
    matplotlib = Path(str(files("matplotlib"))) / "mpl-data" / "fonts" / "ttf"
    found = []
    for start in half.fonts:
        matches = sorted([*FONTS.rglob(f"{start}*[to]tf"), *matplotlib.glob(f"{start}*ttf")])
        if not matches:
            raise FileNotFoundError(f"no font {start}* in {FONTS}: run make bench-pictures")
        found += matches if start == "BecauseWe" else matches[:1]
    return tuple(found)


@cache
def photograph(name: str) -> NDArray[np.uint8]:
    """Returns a photograph that scikit-image, scikit-learn or matplotlib ships, (H, W, 3)."""
    drawing = files("matplotlib") / "mpl-data" / "sample_data"
    for folder in (files("skimage.data"), files("sklearn.datasets.images"), drawing):
        file = folder / name
        if file.is_file():
            with file.open("rb") as stream, Image.open(stream) as image:
                return np.asarray(image.convert("RGB"))
    raise FileNotFoundError(name)
