import csv
import io
import json

import pytest
from click.testing import CliRunner, Result

from mnist_client import Client, Dataset
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode


def run(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["models", *words, "--server", server])


@pytest.fixture(scope="module")
def two_versions(trained: str, digits: Dataset) -> str:
    """The address of a server whose model models/two has two versions, the first of them the default."""
    with Client(trained) as client:
        for seed in (1, 2):
            client.train(digits, name="two", hidden=5, epochs=1, seed=seed).result(timeout=60)
    return trained


def test_list_has_each_model_with_its_newest_version(two_versions: str) -> None:
    header, *rows = run(two_versions, "list").stdout.splitlines()
    assert header.split() == ["MODEL", "NEWEST", "ALIASES", "NETWORK", "ACCURACY", "MADE", "JOB"]
    row = next(row for row in rows if row.startswith("models/two "))
    assert row.split()[1:4] == ["2", "default@1", "784-5-10"]
    records = json.loads(run(two_versions, "list", "-o", "json").stdout)
    names = [record["name"] for record in records]
    assert names == sorted(names)
    assert {"models/mnist", "models/two"} <= set(names)
    table = csv.DictReader(io.StringIO(run(two_versions, "list", "-o", "csv").stdout))
    assert json.loads(next(row for row in table if row["name"] == "models/two")["aliases"]) == {"default": 1}


def test_show_lists_versions_newest_first(two_versions: str) -> None:
    lines = run(two_versions, "show", "two").stdout.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["2", "1"]
    record = json.loads(run(two_versions, "show", "two", "-o", "json").stdout)
    assert [version["version"] for version in record["versions"]] == [2, 1]
    assert record["aliases"] == {"default": 1}


@pytest.mark.parametrize(
    ("name", "version"), [("two@2", 2), ("two@default", 1), ("models/two/versions/1", 1)]
)
def test_show_has_one_version_whole(two_versions: str, name: str, version: int) -> None:
    text = run(two_versions, "show", name).stdout
    fields = dict(line.split(maxsplit=1) for line in text.splitlines() if line[0] != " ")
    assert fields["Version"] == f"models/two/versions/{version}"
    assert fields["Parameters"] == "3,985"  # 784 x 5 + 5 + 5 x 10 + 10
    assert f"seed {version}" in fields["Training"]
    (record,) = json.loads(run(two_versions, "show", name, "-o", "json").stdout)["versions"]
    assert fields["Weights"] == f"sha256 {record['weights_hash']}"


@pytest.mark.parametrize("name", ["nobody", "two@9", "two@stable"])
def test_what_is_not_there_is_not_found(two_versions: str, name: str) -> None:
    result = run(two_versions, "show", name)
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stdout == ""
