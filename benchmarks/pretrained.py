"""Makes the pretrained model: the recipe `best` learns MNIST and what is taught beside it, through a server.

`python -m benchmarks.pretrained FILE.npz [--seed 2] [--keep FILE]`; needs MNIST_DATA. FILE.npz is of
`benchmarks.pictures.teach`. Judged on MNIST's test images alone.
"""

from pathlib import Path

import click
import numpy as np
from benchmarks.accuracy.run import run, summary

from mnist_client.datasets import Dataset, Split, load_dataset


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--seed", default=2, show_default=True)
@click.option("--keep", type=click.Path(dir_okay=False, path_type=Path), help="Write the model's file there.")
def main(file: Path, seed: int, keep: Path | None) -> None:
    """Trains, and says what came of it."""
    mnist, taught = load_dataset("mnist"), load_dataset(file)
    both = Split(
        np.concatenate([mnist.train.images, taught.train.images]),
        np.concatenate([mnist.train.labels, taught.train.labels]),
    )
    found = run("best", seed, Dataset("mnist and more", both, test=mnist.test), click.echo, keep)
    click.echo(summary("best", found))


if __name__ == "__main__":
    main()
