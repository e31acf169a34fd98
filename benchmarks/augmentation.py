"""What varying images costs: processor seconds of one core for MNIST's 60,000, all that there is switched on.

Beside it, SciPy's map_coordinates looking up as many pixels, an image at a time, at places that are given.
`OPENBLAS_NUM_THREADS=1 python benchmarks/augmentation.py`; nothing is written.
"""

import time

import click
import numpy as np
from scipy.ndimage import map_coordinates

from mnist_core.augmentation import Augmentation, augment

IMAGES, BATCH, ROUNDS = 60_000, 128, 3
ALL = Augmentation(rotation=12, scale=0.13, shear=0.2, shift=1.75, elastic=30, thickness=0.5)


def main() -> None:
    """Measures both, in turn, and prints the best round of each."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 28, 28), np.uint8)
    places = np.stack(np.meshgrid(np.arange(28), np.arange(28), indexing="ij")) + 0.3
    ours, scipys = [], []
    for _ in range(ROUNDS):
        rng, began = np.random.default_rng(0), time.process_time()
        for start in range(0, IMAGES, BATCH):
            augment(images[start : start + BATCH], ALL, rng)
        ours.append(time.process_time() - began)
        began = time.process_time()
        for image in images[: IMAGES // 10]:
            map_coordinates(image, places, order=1, output=np.float32)
        scipys.append(10 * (time.process_time() - began))
    click.echo(f"all of augment: {min(ours):.2f} s; map_coordinates alone: {min(scipys):.2f} s")


if __name__ == "__main__":
    main()
