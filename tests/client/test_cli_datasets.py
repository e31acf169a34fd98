import csv
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mnist_client import Client, Dataset, Split, dataset_name
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode


def run(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, [*words, "--server", server])


@pytest.fixture(scope="module")
def stored(server: str, digits: Dataset) -> Iterator[str]:
    """The name of a data set on `server`: 30 digits to train, 10 to test, one of them blank."""
    images = digits.train.images[30:40].copy()
    images[3] = 0
    data = Dataset(
        "few",
        Split(digits.train.images[:30], digits.train.labels[:30]),
        test=Split(images, digits.train.labels[30:40]),
    )
    with Client(server) as client:
        yield client.upload_dataset(data).name


def test_list_has_each_data_set_with_its_counts(server: str, stored: str) -> None:
    header, *rows = run(server, "datasets", "list").stdout.splitlines()
    assert header.split()[:6] == ["DATA", "SET", "TRAIN", "VALIDATION", "TEST", "PIXELS"]
    row = next(row for row in rows if row.startswith(stored)).split()
    assert row[1:8] == ["30", "-", "10", "28", "x", "28", "31,400"]
    records = json.loads(run(server, "datasets", "list", "-o", "json").stdout)
    record = next(record for record in records if record["name"] == stored)
    assert [split["images"] for split in record["splits"]] == [30, 10]
    assert record["splits"][0]["mean_image"] is None
    table = csv.DictReader(io.StringIO(run(server, "datasets", "list", "-o", "csv").stdout))
    assert stored in [row["name"] for row in table]


@pytest.mark.parametrize("prefix", ["datasets/", ""])
def test_show_counts_digits_and_blank_images(server: str, stored: str, digits: Dataset, prefix: str) -> None:
    name = prefix + stored.removeprefix("datasets/")
    lines = run(server, "datasets", "show", name).stdout.splitlines()
    assert lines[0].split() == ["Data", "set", stored]
    assert lines[1].split(maxsplit=1)[1] == "40 of 28 x 28 pixels"
    header = next(index for index, line in enumerate(lines) if line.startswith("SPLIT"))
    counts = np.bincount(digits.train.labels[:30], minlength=10)
    assert lines[header + 1].split() == ["train", "30", "0", *map(str, counts)]
    assert lines[header + 2].split()[:3] == ["test", "10", "1"]
    record = json.loads(run(server, "datasets", "show", name, "-o", "json").stdout)
    mean = np.array(record["splits"][0]["mean_image"])
    np.testing.assert_allclose(mean, digits.train.images[:30].mean(axis=0), rtol=1e-6)


def test_upload_sends_once_and_delete_removes(server: str, digits: Dataset) -> None:
    name = dataset_name(digits)
    first = run(server, "datasets", "upload", "mnist-5k", "-o", "json")
    again = run(server, "datasets", "upload", "mnist-5k", "-o", "json")
    by_name = run(server, "datasets", "upload", name, "-o", "json")
    assert json.loads(first.stdout)["name"] == name
    assert again.stdout == by_name.stdout == first.stdout
    assert "nothing was sent" in again.stderr
    trained = run(server, "train", "--data", name, "--epochs", "1", "-o", "jsonl", "--seed", "0")
    assert trained.exit_code == 0, trained.stderr
    accepted, *_, last = map(json.loads, trained.stdout.splitlines())
    assert accepted["config"]["dataset"] == name
    assert last["event"] == "succeeded"
    assert run(server, "datasets", "delete", name).stdout.split() == ["Deleted", name]
    gone = run(server, "datasets", "delete", name)
    assert gone.exit_code == ExitCode.NOT_FOUND
    assert run(server, "train", "--data", name).exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("command", ["show", "delete"])
def test_a_name_that_is_none_is_a_usage_error(server: str, command: str) -> None:
    result = run(server, "datasets", command, "mnist")
    assert result.exit_code == ExitCode.USAGE
    assert "datasets/{sha256}" in result.stderr


def test_a_data_set_that_is_needed_stays(server: str, digits: Dataset) -> None:
    data = Dataset("needed", Split(digits.train.images[:500], digits.train.labels[:500]))
    with Client(server) as client:
        job = client.train(data, epochs=100_000)
        refused = run(server, "datasets", "delete", dataset_name(data))
        job.cancel()
    assert refused.exit_code == ExitCode.CONDITION
    assert job.name in refused.stderr
