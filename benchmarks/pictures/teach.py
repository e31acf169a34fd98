"""What the pretrained model is taught beside MNIST: digits that MNIST lacks, of the teaching half alone.

`python -m benchmarks.pictures.teach FILE.npz`; needs MNIST_DATA and what .venv-pictures holds. Some are clean
shapes, written by habits that MNIST's writers did not have, by other writers and in fonts that look written;
some are pictures of every kind. All are prepared as a server prepares a picture, so that the model sees what
it will be asked about, marks of the preparing and all.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import numpy as np
from benchmarks.pictures import habits, halves, kinds, shapes, strokes
from numpy.typing import NDArray

from mnist_core.pictures import read
from mnist_core.pictures.normalization import normalize

# Clean shapes, where from, and pictures of each kind.
SHAPES = {"habits": 5000, "display": 600, "strokes": 1400, "writers": 2000, "font": 3000}
PICTURES = 300
_TOGETHER = 50


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Make them, and write FILE: images (N, 28, 28) and labels (N,)."""
    asked = [(source, number) for source, count in SHAPES.items() for number in range(count)]
    asked += [(kind, number) for kind in kinds.KINDS for number in range(PICTURES)]
    images, labels = [], []
    with (
        ProcessPoolExecutor(os.cpu_count()) as pool,
        click.progressbar(pool.map(_make, asked, chunksize=_TOGETHER), len(asked)) as made,
    ):
        for image, label in made:
            if image.any():  # a picture of which nothing was left teaches nothing
                images.append(image)
                labels.append(label)
    np.savez_compressed(file, images=np.stack(images), labels=np.array(labels, np.uint8))
    click.echo(f"{len(images)} of {len(asked)} are digits")


def _make(asked: tuple[str, int]) -> tuple[NDArray[np.uint8], int]:
    source, number = asked
    if source in kinds.KINDS:
        picture = kinds.picture(halves.TEACHING, source, number)
        return read(picture.encoded).digit, picture.label
    random = np.random.default_rng((halves.TEACHING.seed, list(SHAPES).index(source), number))
    width = random.uniform(0.04, 0.18)
    if source in ("habits", "display"):
        label = int(random.integers(10))
        way = habits.way(label, random) if source == "habits" else habits.display(label, random)
        shape = shapes.trim(strokes.draw([way], 150, width, random))
    else:
        own = width if random.random() < 0.5 else None
        shape, label, _ = shapes.digit(halves.TEACHING, random, own, source)
    return normalize(shape.astype(np.float32)), label


if __name__ == "__main__":
    main()
