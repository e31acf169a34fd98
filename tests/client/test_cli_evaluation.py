import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mnist_client import Client, Dataset
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode


def evaluate(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["evaluate", "--data", "mnist-5k", "--server", server, *words])


def test_json_says_all(trained: str, digits: Dataset) -> None:
    result = evaluate(trained, "-o", "json")
    assert result.exit_code == ExitCode.DONE
    record = json.loads(result.stdout)
    assert {"correct", "total", "accuracy", "loss", "confusion_matrix", "per_class", "ece", "model"} < set(
        record
    )
    matrix = np.array(record["confusion_matrix"])
    assert digits.test is not None
    with Client(trained) as client:
        predicted = client.predict(digits.test.images).digits
    assert record["correct"] == int((predicted == digits.test.labels).sum()) == int(np.trace(matrix))
    assert record["total"] == 1000 == int(matrix.sum())
    assert record["accuracy"] == record["correct"] / 1000
    assert [each["support"] for each in record["per_class"]] == matrix.sum(axis=1).tolist()
    assert set(record["per_class"][0]) == {"precision", "recall", "f1", "support"}
    for mistake in record["mistakes"]:
        assert mistake["label"] == digits.test.labels[mistake["index"]] != mistake["predicted"]


def test_the_table_says_it_to_people(trained: str) -> None:
    record = json.loads(evaluate(trained, "-o", "json").stdout)
    lines = evaluate(trained, "--model", "mnist@1").stdout.splitlines()
    assert lines[0].split() == ["Model", "models/mnist/versions/1"]
    assert lines[1].endswith(
        f"{record['accuracy']:.2%}".replace("%", " %") + f"  ({record['correct']} / 1000)"
    )
    start = lines.index("DIGIT  PRECISION  RECALL      F1  IMAGES") + 1
    for digit, line in enumerate(lines[start : start + 10]):
        words = line.split()
        assert words[0] == str(digit)
        assert float(words[2]) == pytest.approx(record["per_class"][digit]["recall"], abs=1e-4)
    start = next(index for index, line in enumerate(lines) if line.startswith("Confusion")) + 2
    for digit, line in enumerate(lines[start : start + 10]):
        counts = [0 if word == "." else int(word) for word in line.split()[1:]]
        assert counts == record["confusion_matrix"][digit]
    mistake = record["mistakes"][0]
    shown = lines[lines.index("Most confident mistakes") + 2].split()
    assert shown[:3] == [str(mistake[name]) for name in ("index", "label", "predicted")]


def test_fail_under_is_a_condition(trained: str) -> None:
    accuracy = json.loads(evaluate(trained, "-o", "json").stdout)["accuracy"]
    below = evaluate(trained, "--fail-under", f"{accuracy + 0.001:.4f}", "-o", "jsonl")
    assert below.exit_code == ExitCode.CONDITION
    assert json.loads(below.stdout)["accuracy"] == accuracy  # the answer is printed all the same
    assert "--fail-under" in below.stderr
    assert evaluate(trained, "--fail-under", str(accuracy)).exit_code == ExitCode.DONE


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--model", "nobody"], ExitCode.NOT_FOUND),
        (["--data", "nowhere"], ExitCode.NOT_FOUND),
        (["--data", __file__], ExitCode.BAD_INPUT),
        (["--fail-under", "1.5"], ExitCode.USAGE),
        (["--server", "127.0.0.1:1"], ExitCode.UNREACHABLE),
    ],
)
def test_what_is_wrong_has_its_exit_code(trained: str, words: list[str], code: ExitCode) -> None:
    result = evaluate(trained, *words)
    assert result.exit_code == code
    assert result.stdout == ""
