"""`datasets`: the data sets that a server keeps, under the hashes of what they are."""

import sys

import click
import numpy as np

from mnist_client.batches import dataset_name
from mnist_client.cli.output import (
    TABLE,
    as_record,
    local_time,
    write_fields,
    write_record,
    write_records,
    write_table,
)
from mnist_client.cli.parameters import DATASET, Settings, pass_settings, read_data, shared_options
from mnist_client.datasets import Dataset
from mnist_client.errors import NotFound
from mnist_client.resources import StoredDataset
from mnist_client.terminal import draw_image, greys

_FIELDS = ("name", "create_time", "height", "width", "bytes", "splits")
_SPLITS = ("train", "validation", "test")


@click.group()
@shared_options()
def datasets() -> None:
    """List, show, upload and delete data sets on the server.

    A data set is called datasets/{sha256}, the same on every server; train --data and evaluate --data take
    that name. What train sends is kept, too.

    \b
    Example:
      mnist-client datasets list
    """


@datasets.command("list")
@shared_options()
@pass_settings
def list_datasets(settings: Settings) -> None:
    """List the data sets, the last stored first.

    \b
    Example:
      mnist-client datasets list
      mnist-client datasets list -o json
    """
    with settings.connect() as client:
        if settings.output != TABLE:
            write_records((as_record(each) for each in client.datasets()), settings.output, _FIELDS)
            return
        rows = []
        for dataset in client.datasets():
            counts = {split.split: f"{split.images:,}" for split in dataset.splits}
            rows.append(
                (
                    dataset.name,
                    *(counts.get(split, "-") for split in _SPLITS),
                    f"{dataset.height} x {dataset.width}",
                    f"{dataset.bytes:,}",
                    local_time(dataset.create_time),
                )
            )
        write_table(("DATA SET", "TRAIN", "VALIDATION", "TEST", "PIXELS", "BYTES", "STORED"), rows)


@datasets.command()
@click.argument("dataset", type=DATASET)
@shared_options()
@pass_settings
def show(settings: Settings, dataset: str) -> None:
    """Show one data set: images of each digit, blank ones, and the mean image of each split.

    \b
    Example:
      mnist-client datasets show ddc9689237773879e5a0b88dfcdf969ebeb18f9a3165a4291c2513a534612731
    """
    with settings.connect() as client:
        _write(client.dataset(dataset), settings)


@datasets.command()
@click.argument("spec", metavar="SPEC")
@shared_options()
@pass_settings
def upload(settings: Settings, spec: str) -> None:
    """Have the server keep the data set SPEC, which is as for train --data.

    What the server has already is not sent again.

    \b
    Example:
      mnist-client datasets upload mnist
      mnist-client datasets upload ./my-digits -o json
    """
    with settings.connect() as client:
        data = read_data(spec)
        if isinstance(data, Dataset):
            try:
                stored = client.dataset(dataset_name(data))
                click.echo("The server has it already: nothing was sent.", err=True)
            except NotFound:
                stored = client.upload_dataset(data)
        else:
            stored = client.dataset(data)
    _write(stored, settings)


@datasets.command()
@click.argument("dataset", type=DATASET)
@shared_options()
@pass_settings
def delete(settings: Settings, dataset: str) -> None:
    """Delete a data set. One that a job needs which has not ended stays, exit 8.

    \b
    Example:
      mnist-client datasets delete ddc9689237773879e5a0b88dfcdf969ebeb18f9a3165a4291c2513a534612731
    """
    with settings.connect() as client:
        client.delete_dataset(dataset)
    if settings.output != TABLE:
        write_record({"name": dataset}, settings.output)
    else:
        write_fields([("Deleted", dataset)])


def _write(dataset: StoredDataset, settings: Settings) -> None:
    if settings.output != TABLE:
        write_record(as_record(dataset), settings.output)
        return
    write_fields(
        (
            ("Data set", dataset.name),
            ("Images", f"{dataset.images:,} of {dataset.height} x {dataset.width} pixels"),
            ("Bytes", f"{dataset.bytes:,}"),
            ("Stored", local_time(dataset.create_time)),
        )
    )
    click.echo()
    classes = max(len(split.class_counts) for split in dataset.splits)
    write_table(
        ("SPLIT", "IMAGES", "BLANK", *(str(digit) for digit in range(classes))),
        (
            (
                split.split,
                str(split.images),
                str(split.constant_images),
                *(str(count) for count in split.class_counts),
                *("0" for _ in range(classes - len(split.class_counts))),
            )
            for split in dataset.splits
        ),
    )
    for split in dataset.splits:
        if split.mean_image is not None and sys.stdout.isatty():
            click.echo(f"\nMean image of {split.split}")
            for line in draw_image(np.rint(split.mean_image).astype(np.uint8), greys(sys.stdout)):
                click.echo(f"  {line}", color=True)
