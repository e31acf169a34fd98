import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from mnist_client import Client, Dataset
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode
from mnist_client.terminal import Greys, draw_image
from mnist_proto.v1 import evaluation_pb2

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedServers


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


def test_the_interval_is_in_json_and_in_the_table(trained: str) -> None:
    record = json.loads(evaluate(trained, "-o", "json").stdout)
    low, high = record["accuracy_low"], record["accuracy_high"]
    assert 0 < low < record["accuracy"] < high < 1
    line = evaluate(trained).stdout.splitlines()[2]
    assert line.split(maxsplit=3)[:3] == ["95", "%", "interval"]
    assert line.endswith(f"{low:.2%} to {high:.2%}".replace("%", " %"))
    assert record["split"] is None
    assert set(record["mistakes"][0]) == {"index", "label", "predicted", "confidence"}


def test_mistakes_are_drawn_in_the_terminal(trained: str, digits: Dataset) -> None:
    record = json.loads(evaluate(trained, "-o", "json").stdout)
    first = record["mistakes"][0]
    result = CliRunner(env={"COLUMNS": "80"}).invoke(
        program, ["evaluate", "--data", "mnist-5k", "--server", trained, "--show"]
    )
    lines = result.stdout.splitlines()
    caption = f"{first['label']} taken for {first['predicted']}, {first['confidence']:.1%}".replace("%", " %")
    [at] = [index for index, line in enumerate(lines) if line.startswith(caption)]
    assert digits.test is not None
    drawn = draw_image(digits.test.images[first["index"]], Greys.CHARACTERS)
    assert [line[:28].rstrip() for line in lines[at - len(drawn) : at]] == [line.rstrip() for line in drawn]
    assert sum("taken for" in line for line in lines[at:]) == 4  # eight, two beside each other
    assert evaluate(trained, "--show", "-o", "json").exit_code == ExitCode.USAGE


def test_pictures_are_written(trained: str, tmp_path: Path) -> None:
    confusion, mistakes = tmp_path / "confusion.png", tmp_path / "mistakes.png"
    result = evaluate(
        trained, "--confusion-png", str(confusion), "--mistakes-png", str(mistakes), "-o", "json"
    )
    assert json.loads(result.stdout)["total"] == 1000
    assert result.stderr.splitlines() == [f"Written: {confusion}", f"Written: {mistakes}"]
    for path in (confusion, mistakes):
        with Image.open(path) as picture:
            assert picture.format == "PNG"
    nowhere = tmp_path / "no" / "folder.png"
    refused = evaluate(trained, "--confusion-png", str(nowhere))
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert f"{nowhere}: cannot be written" in refused.stderr


def test_a_data_set_on_the_server_is_judged_by_a_split_of_it(trained: str, digits: Dataset) -> None:
    with Client(trained) as client:
        name = client.upload_dataset(digits).name
    for words, split, total in (([], "test", 1000), (["--split", "train"], "train", 4000)):
        result = CliRunner().invoke(
            program, ["evaluate", "--data", name, "--server", trained, "-o", "json", *words]
        )
        record = json.loads(result.stdout)
        assert (record["split"], record["total"]) == (split, total)
        sent = json.loads(evaluate(trained, "-o", "json", *words).stdout)
        assert record["confusion_matrix"] == sent["confusion_matrix"]
    refused = evaluate(trained, "--split", "validation")
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "train, test" in refused.stderr


def test_of_many_classes_what_is_confused_most_is_told(serve: "ScriptedServers") -> None:
    matrix = np.diag(np.full(30, 50))
    matrix[7, 29], matrix[29, 7], matrix[3, 4] = 9, 11, 9
    judged = evaluation_pb2.Evaluation(
        model="models/m/versions/1",
        classes=30,
        total=int(matrix.sum()),
        confusion_matrix=matrix.ravel().tolist(),
        per_class=[evaluation_pb2.ClassMetrics()] * 30,
    )

    def answer(requests: Iterator[Any], context: Any) -> evaluation_pb2.EvaluateResponse:
        list(requests)
        return evaluation_pb2.EvaluateResponse(evaluation=judged)

    lines = evaluate(serve(Evaluate=answer), "--data", "mnist-5k").stdout.splitlines()
    start = lines.index("Confused most")
    rows = [line.split() for line in lines[start + 2 :]]
    assert rows == [["29", "7", "11"], ["3", "4", "9"], ["7", "29", "9"]]


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
