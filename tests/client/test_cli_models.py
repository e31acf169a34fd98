import csv
import io
import json
from pathlib import Path

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


@pytest.fixture(scope="module")
def exported(two_versions: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "two.safetensors"
    result = run(two_versions, "export", "two@2", str(path), "-o", "json")
    record = json.loads(result.stdout)
    assert (record["file"], record["name"]) == (str(path), "models/two/versions/2")
    assert path.exists()
    return str(path)


def test_a_file_becomes_a_version_that_can_be_promoted_and_deleted(two_versions: str, exported: str) -> None:
    for number in (1, 2):
        record = json.loads(run(two_versions, "import", exported, "--name", "cli", "-o", "json").stdout)
        assert (record["name"], record["job"]) == (f"models/cli/versions/{number}", None)
        assert record["network"]["layer_sizes"] == [784, 5, 10]
    text = run(two_versions, "show", "cli@1").stdout
    assert "imported" in text
    assert "784-5-10" in text
    assert "784-5-10" in run(two_versions, "show", "cli").stdout
    assert run(two_versions, "alias", "cli@2", "candidate").exit_code == 0
    record = json.loads(run(two_versions, "alias", "cli@candidate", "default", "-o", "json").stdout)
    assert record["aliases"] == {"default": 2, "candidate": 2}
    stale = run(two_versions, "alias", "cli@1", "default", "--etag", "1")
    assert stale.exit_code == ExitCode.CONDITION
    assert "etag" in stale.stderr
    refused = run(two_versions, "delete", "cli@2")
    assert refused.exit_code == ExitCode.CONDITION
    assert "models/cli/aliases/default" in refused.stderr
    changed = run(two_versions, "alias", "cli", "candidate", "--remove", "--etag", record["etag"])
    assert "default@2" in changed.stdout
    assert "candidate" not in changed.stdout
    assert json.loads(run(two_versions, "delete", "cli@1", "-o", "json").stdout) == {
        "name": "models/cli/versions/1",
        "versions": 1,
    }
    assert run(two_versions, "delete", "cli").exit_code == ExitCode.CONDITION
    assert "models/cli" in run(two_versions, "delete", "cli", "--force").stdout
    assert run(two_versions, "show", "cli").exit_code == ExitCode.NOT_FOUND


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("alias", "two", "stable"), ExitCode.USAGE),
        (("alias", "two@1", "stable", "--remove"), ExitCode.USAGE),
        (("alias", "two@1", "Stable"), ExitCode.USAGE),
        (("alias", "two@9", "stable"), ExitCode.NOT_FOUND),
        (("alias", "two@none", "stable"), ExitCode.NOT_FOUND),
        (("alias", "two", "none", "--remove"), ExitCode.NOT_FOUND),
        (("alias", "two", "default", "--remove"), ExitCode.CONDITION),
        (("delete", "two@9"), ExitCode.NOT_FOUND),
        (("delete", "two@default"), ExitCode.BAD_INPUT),
        (("delete", "two@1", "--force"), ExitCode.BAD_INPUT),
        (("export", "nobody", "FOLDER/m"), ExitCode.NOT_FOUND),
        (("export", "two", "FOLDER/none/m"), ExitCode.BAD_INPUT),
        (("import", "FOLDER/none", "--name", "two"), ExitCode.NOT_FOUND),
        (("import", "FOLDER/empty", "--name", "two"), ExitCode.BAD_INPUT),
        (("import", "FOLDER/text", "--name", "two"), ExitCode.BAD_INPUT),
        (("import", "FOLDER/text", "--name", "two@1"), ExitCode.BAD_INPUT),
        (("import", "FOLDER/text"), ExitCode.USAGE),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(
    two_versions: str, tmp_path: Path, words: tuple[str, ...], code: ExitCode
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no model")
    before = run(two_versions, "show", "two", "-o", "json").stdout
    files = set(tmp_path.iterdir())
    result = run(two_versions, *(word.replace("FOLDER", str(tmp_path)) for word in words))
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr
    assert run(two_versions, "show", "two", "-o", "json").stdout == before
    assert set(tmp_path.iterdir()) == files
