"""Letters from digits: what it is worth to begin with the pretrained model where other things are to be read.

The capital letters are rendered in every TrueType font of a folder (Debian's fonts-dejavu are some twenty),
brought into MNIST's form as any picture is, thickened and warped. Every fourth font is kept for the test. A
server of our own then learns them twice, as often: from the pretrained model, and from drawn weights. Writes
results/letters.json beside this file, and with --keep the letters as an .npz that `mnist-client train` takes.
"""

import io
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from benchmarks.training.machine import machine
from benchmarks.training.through_server import server
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mnist_client import Client, EpochFinished
from mnist_client.datasets import Dataset, Split
from mnist_core.augmentation import Augmentation, augment
from mnist_core.pictures import to_digit

RESULTS = Path(__file__).parent / "results" / "letters.json"
LETTERS = string.ascii_uppercase
COPIES, TEST_COPIES = 10, 4  # of each letter in each font, all different
WARP = Augmentation(rotation=12, scale=0.12, shear=0.2, shift=1.5, elastic=34, thickness=1)
EPOCHS = (1, 3, 10)
SEED = 0


@click.command()
@click.option("--fonts", default="/usr/share/fonts", show_default=True, help="Folder of TrueType fonts.")
@click.option(
    "--keep", type=click.Path(dir_okay=False, path_type=Path), help="Write the letters there, as .npz."
)
def main(fonts: str, keep: Path | None) -> None:
    """Makes the letters, learns them both ways, and reports."""
    files = sorted(Path(fonts).rglob("*.ttf"))
    if len(files) < 4:
        raise click.ClickException(f"{fonts}: found {len(files)} fonts; expected four or more")
    dataset = letters(files)
    if keep is not None:
        assert dataset.test is not None
        np.savez_compressed(
            keep,
            images=dataset.train.images,
            labels=dataset.train.labels,
            images_test=dataset.test.images,
            labels_test=dataset.test.labels,
            class_names=dataset.class_names,
        )
    runs = []
    with (
        tempfile.TemporaryDirectory(prefix="mnist-letters-") as folder,
        server(Path(folder)) as address,
        Client(address) as client,
    ):
        for epochs in EPOCHS:
            for base in ("mnist", None):
                runs.append(learn(client, dataset, base, epochs))
                click.echo(
                    "{epochs} epochs {from}: {correct} of {total} right, {seconds} s".format_map(runs[-1])
                )
    RESULTS.write_text(
        json.dumps(
            {
                "command": "make bench-letters",
                "fonts": [file.stem for file in files],
                "train_images": len(dataset.train.images),
                "runs": runs,
                "machine": machine(),
            },
            indent=1,
        )
        + "\n"
    )


def letters(fonts: list[Path]) -> Dataset:
    """Returns the letters: of every fourth font those to test on, of the others those to learn from."""
    rng = np.random.default_rng(SEED)
    train = [font for place, font in enumerate(fonts) if place % 4]
    return Dataset(
        "letters",
        _split(train, COPIES, rng),
        test=_split(fonts[::4], TEST_COPIES, rng),
        class_names=tuple(LETTERS),
    )


def _split(fonts: list[Path], copies: int, rng: np.random.Generator) -> Split:
    images = np.stack([_letter(font, letter) for font in fonts for letter in LETTERS])
    labels = np.tile(np.arange(len(LETTERS), dtype=np.uint8), len(fonts))
    order = rng.permutation(len(images) * copies)
    return Split(augment(np.repeat(images, copies, 0), WARP, rng)[order], np.repeat(labels, copies)[order])


def _letter(font: Path, letter: str) -> NDArray[np.uint8]:
    picture = Image.new("L", (160, 160), 255)
    face = ImageFont.truetype(str(font), 96)
    ImageDraw.Draw(picture).text((80, 80), letter, fill=0, font=face, anchor="mm")
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    return to_digit(encoded.getvalue())


def learn(client: Client, dataset: Dataset, base: str | None, epochs: int) -> dict[str, Any]:
    """Trains the network of the recipe best, with or without what the pretrained one has learnt."""
    job = client.train(dataset, recipe="best", base_model=base, epochs=epochs, seed=SEED, batch_size=32)
    finished = [event for event in job.watch() if isinstance(event, EpochFinished)]
    last = finished[-1]
    return {
        "from": f"from {base}" if base else "from drawn weights",
        "epochs": epochs,
        "correct": last.correct,
        "total": last.total,
        "seconds": round(sum(event.seconds for event in finished), 1),
    }


if __name__ == "__main__":
    main()
