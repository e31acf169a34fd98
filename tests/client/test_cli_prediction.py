import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mnist_client import Client, Dataset
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode
from mnist_client.terminal import Greys, draw_image
from mnist_proto.v1 import prediction_pb2 as pb


def predict(server: str, *words: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(program, ["predict", "--server", server, *words], input=stdin)


@pytest.fixture
def folder(tmp_path: Path, digits: Dataset) -> Path:
    """A folder of three test digits as PNG files, 0.png to 2.png, and, as an array, of all three."""
    image = pytest.importorskip("PIL.Image", reason="pictures are Pillow's to write")
    assert digits.test is not None
    for index in range(3):
        image.fromarray(digits.test.images[index]).save(tmp_path / f"{index}.png")
    np.save(tmp_path / "three.npy", digits.test.images[:3])
    return tmp_path


@pytest.fixture
def expected(trained: str, digits: Dataset) -> list[int]:
    """What the model says the three digits are."""
    assert digits.test is not None
    with Client(trained) as client:
        return [int(digit) for digit in client.predict(digits.test.images[:3]).digits]


def test_a_line_an_image_in_their_order(trained: str, folder: Path, expected: list[int]) -> None:
    names = [str(folder / f"{index}.png") for index in (2, 0, 1)]
    result = predict(trained, *names)
    assert result.exit_code == ExitCode.DONE
    for name, index, line in zip(names, (2, 0, 1), result.stdout.splitlines(), strict=True):
        assert re.fullmatch(rf"{re.escape(name)}: {expected[index]} \(\d+\.\d %\)", line)


def test_jsonl_is_an_object_an_image(trained: str, folder: Path, expected: list[int]) -> None:
    result = predict(trained, str(folder / "three.npy"), "-o", "jsonl", "--model", "mnist@default")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["source"] for record in records] == [f"{folder}/three.npy[{i}]" for i in range(3)]
    assert [record["digit"] for record in records] == expected
    for record in records:
        assert list(record) == ["source", "digit", "name", "confidence", "probabilities", "model"]
        assert len(record["probabilities"]) == 10
        assert sum(record["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert (
            record["confidence"] == max(record["probabilities"]) == record["probabilities"][record["digit"]]
        )
        assert re.fullmatch(r"models/mnist/versions/\d+", record["model"])


def test_json_and_csv_say_the_same(trained: str, folder: Path, expected: list[int]) -> None:
    source = str(folder / "three.npy")
    records = json.loads(predict(trained, source, "-o", "json").stdout)
    rows = list(csv.DictReader(io.StringIO(predict(trained, source, "-o", "csv").stdout)))
    assert [record["digit"] for record in records] == [int(row["digit"]) for row in rows] == expected
    for record, row in zip(records, rows, strict=True):
        assert json.loads(row["probabilities"]) == pytest.approx(record["probabilities"], abs=1e-6)
        assert row["source"] == record["source"]


def test_the_most_probable_come_first(trained: str, folder: Path) -> None:
    source = str(folder / "0.png")
    (record,) = json.loads(predict(trained, source, "-o", "json", "--top-k", "3").stdout)
    shares = [each["probability"] for each in record["top_k"]]
    assert shares == sorted(record["probabilities"], reverse=True)[:3]
    assert record["top_k"][0]["digit"] == record["digit"]
    line = predict(trained, source, "--top-k", "2").stdout
    first, second = record["top_k"][:2]
    words = [f"{each['digit']} ({100 * each['probability']:.1f} %)" for each in (first, second)]
    assert line == f"{source}: {', '.join(words)}\n"


def test_classes_are_called_by_their_names(serve: Callable[..., str]) -> None:
    def answer(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        return pb.PredictResponse(
            model="models/pets/versions/1",
            digits=[1],
            confidences=[0.75],
            probabilities=[0.25, 0.75],
            classes=2,
            class_names=["cat", "dog"],
        )

    server = serve(Predict=answer)
    [record] = json.loads(predict(server, "-", "-o", "json", "--top-k", "2", stdin=b"a picture").stdout)
    assert (record["digit"], record["name"]) == (1, "dog")
    assert [each["name"] for each in record["top_k"]] == ["dog", "cat"]
    line = predict(server, "-", "--top-k", "2", stdin=b"a picture").stdout
    assert line == "-: dog (75.0 %), cat (25.0 %)\n"


def test_of_equal_probabilities_the_lower_digit_comes_first(serve: Callable[..., str]) -> None:
    def answer(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        return pb.PredictResponse(
            model="models/mnist/versions/1",
            digits=[0],
            confidences=[0.1],
            probabilities=[0.1] * 10,
            classes=10,
        )

    result = predict(serve(Predict=answer), "-", "-o", "json", "--top-k", "10", stdin=b"a picture")
    assert [each["digit"] for each in json.loads(result.stdout)[0]["top_k"]] == list(range(10))


def test_standard_input(trained: str, folder: Path, expected: list[int]) -> None:
    result = predict(trained, "-", stdin=(folder / "1.png").read_bytes())
    assert result.stdout.startswith(f"-: {expected[1]} (")


def test_show_draws_what_the_network_saw(trained: str, folder: Path, expected: list[int]) -> None:
    result = predict(trained, "--show", str(folder / "0.png"))
    assert result.exit_code == ExitCode.DONE
    lines = result.stdout.splitlines()
    bars = [match for line in lines[1:] if (match := re.search(r"(\d) +(\d+\.\d) % ?(\S*)$", line))]
    assert [int(bar[1]) for bar in bars] == list(range(10))
    assert max(bars, key=lambda bar: float(bar[2]))[1] == str(expected[0])
    assert max(bars, key=lambda bar: len(bar[3]))[1] == str(expected[0])
    # Off a terminal: ten shades, no escape. The digit has ink in a handful of its fourteen lines at least.
    drawn = [line[2:30] for line in lines[1:15]]
    assert sum(any(shade in line for shade in "#%@") for line in drawn) >= 5
    assert "\x1b" not in result.stdout


def test_a_picture_fits_a_narrow_terminal(trained: str, folder: Path) -> None:
    for columns in (50, 60, 200):
        result = CliRunner(env={"COLUMNS": str(columns)}).invoke(
            program, ["predict", "--server", trained, "--show", str(folder / "0.png")]
        )
        widths = [len(line) for line in result.stdout.splitlines()[1:]]
        assert min(columns, 75) - 5 <= max(widths) <= min(columns, 75)


@pytest.mark.parametrize("shown", [Greys.TRUECOLOR, Greys.PALETTE])
def test_a_terminal_of_greys_gets_them(
    trained: str, folder: Path, monkeypatch: pytest.MonkeyPatch, digits: Dataset, shown: Greys
) -> None:
    monkeypatch.setattr("mnist_client.cli.prediction.greys", lambda stream: shown)
    lines = predict(trained, "--show", str(folder / "0.png")).stdout.splitlines()
    assert digits.test is not None
    for line, drawn in zip(lines[1:], draw_image(digits.test.images[0], shown), strict=False):
        assert drawn in line
    assert sum("\x1b[1;32m" in line for line in lines) == 1  # the digit that it is


def test_one_bad_image_does_not_take_the_others_with_it(
    trained: str, folder: Path, expected: list[int]
) -> None:
    bad = folder / "1.png"
    bad.write_bytes(b"no image")
    names = [str(folder / f"{index}.png") for index in range(3)]
    result = predict(trained, *names, "-o", "jsonl")
    assert result.exit_code == ExitCode.BAD_INPUT
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["source"] for record in records] == [names[0], names[2]]
    assert [record["digit"] for record in records] == [expected[0], expected[2]]
    (message,) = result.stderr.splitlines()
    assert message.startswith(f"Error: {bad}: ")
    assert "images[0]" not in message


@pytest.mark.parametrize("argument", ["", "*.png"])
def test_nor_does_a_bad_file_of_a_folder_or_a_glob(trained: str, folder: Path, argument: str) -> None:
    (folder / "1.png").write_bytes(b"")
    (folder / "three.npy").unlink()
    (folder / "more.png").mkdir()
    result = predict(trained, str(folder / argument))
    assert result.exit_code == ExitCode.BAD_INPUT
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [
        str(folder / "0.png"),
        str(folder / "2.png"),
    ]
    assert result.stderr.startswith(f"Error: {folder}/1.png: found nothing")


def test_an_argument_that_names_nothing_does_not_either(trained: str, folder: Path) -> None:
    result = predict(trained, "nowhere.png", str(folder / "0.png"), str(folder / "*.tiff"))
    assert result.exit_code == ExitCode.NOT_FOUND
    assert len(result.stdout.splitlines()) == 1
    first, second = result.stderr.splitlines()
    assert first.startswith("Error: nowhere.png: ")
    assert first.count("nowhere.png") == 1
    assert "*.tiff" in second


def test_images_of_another_size_are_refused_one_by_one(trained: str, folder: Path) -> None:
    np.save(folder / "wide.npy", np.zeros((2, 28, 30), np.uint8))
    result = predict(trained, str(folder / "wide.npy"), str(folder / "0.png"))
    assert result.exit_code == ExitCode.BAD_INPUT
    assert len(result.stdout.splitlines()) == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        f"{folder}/wide.npy[0]",
        f"{folder}/wide.npy[1]",
    ]


def test_many_images_are_answered_as_they_come_and_by_one_version(
    serve: Callable[..., str], folder: Path
) -> None:
    asked: list[str] = []

    def answer(request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        asked.append(request.model)
        count = len(request.pixels) // 784
        return pb.PredictResponse(
            model="models/mnist/versions/7",
            digits=[request.pixels[784 * index] for index in range(count)],
            confidences=[1.0] * count,
            probabilities=([1.0] + [0.0] * 9) * count,
            classes=10,
        )

    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 0, 0] = np.arange(200) % 10
    np.save(folder / "many.npy", images)
    result = predict(serve(Predict=answer), str(folder / "many.npy"), "-o", "jsonl")
    assert result.exit_code == ExitCode.DONE, result.stderr
    assert [json.loads(line)["digit"] for line in result.stdout.splitlines()] == [i % 10 for i in range(200)]
    assert asked == [""] + ["models/mnist/versions/7"] * (len(asked) - 1)
    assert len(asked) > 1


def test_what_was_answered_stays_when_the_server_goes(serve: Callable[..., str], folder: Path) -> None:
    answers: Iterator[int] = iter(range(1))

    def answer(request: pb.PredictRequest, context: grpc.ServicerContext) -> Any:
        if next(answers, None) is None:
            context.abort(grpc.StatusCode.INTERNAL, "internal error: log id 1")
        count = len(request.pixels) // 784
        return pb.PredictResponse(
            model="models/mnist/versions/7",
            digits=[3] * count,
            confidences=[1.0] * count,
            probabilities=([1.0] + [0.0] * 9) * count,
            classes=10,
        )

    np.save(folder / "many.npy", np.zeros((200, 28, 28), np.uint8))
    result = predict(serve(Predict=answer), str(folder / "many.npy"), "-o", "json")
    assert result.exit_code == ExitCode.UNEXPECTED
    assert "log id 1" in result.stderr
    assert 0 < len(json.loads(result.stdout)) < 200


def test_an_unknown_model_is_not_found_and_those_there_are_told(trained: str, folder: Path) -> None:
    result = predict(trained, str(folder / "0.png"), "--model", "nobody")
    assert result.exit_code == ExitCode.NOT_FOUND
    assert "'models/nobody' was not found: expected one of models/" in result.stderr


@pytest.mark.parametrize(
    "words", [["--show", "-o", "json", "-"], ["--top-k", "0", "-"], ["--model", "A", "-"]]
)
def test_what_does_not_go_together_is_a_usage_error(words: list[str]) -> None:
    result = predict("127.0.0.1:1", *words)
    assert result.exit_code == ExitCode.USAGE


@pytest.fixture
def page(tmp_path: Path, digits: Dataset) -> Path:
    """A page with three test digits in a row, dark on light, each on a square of 120 pixels."""
    image = pytest.importorskip("PIL.Image", reason="pictures are Pillow's to write")
    assert digits.test is not None
    row = np.zeros((40, 120), np.uint8)
    for place in range(3):
        row[6:34, place * 40 + 6 : place * 40 + 34] = digits.test.images[place]
    path = tmp_path / "page.png"
    image.fromarray(255 - np.kron(row, np.ones((3, 3), np.uint8))).save(path)
    return path


def test_all_digits_on_a_picture_with_their_boxes(trained: str, page: Path) -> None:
    with Client(trained) as client:
        expected = client.predict(str(page), all_digits=True).digits.tolist()
    assert len(expected) == 3
    result = predict(trained, "--all", str(page), "-o", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["source"] for record in records] == [str(page)] * 3
    assert [record["digit"] for record in records] == expected
    lefts = [record["box"]["left"] for record in records]
    assert [left // 120 for left in lefts] == [0, 1, 2]
    lines = predict(trained, "--all", str(page)).stdout.splitlines()
    for line, digit, left in zip(lines, expected, lefts, strict=True):
        assert re.fullmatch(
            rf"{re.escape(str(page))}: {digit} \(\d+\.\d %\), \d+ x \d+ pixels at {left}, \d+", line
        )


def test_show_draws_the_boxes(trained: str, page: Path) -> None:
    plain = predict(trained, "--all", str(page)).stdout.splitlines()
    shown = predict(trained, "--all", "--show", str(page)).stdout.splitlines()
    drawing = shown[: -len(plain)]
    assert shown[-len(plain) :] == plain
    assert len(drawing) in range(10, 25)
    edges = [line for line in drawing if re.search(r"([+@]{8,}.*){3}", line)]
    assert len(edges) >= 1, "\n".join(drawing)


def test_scores_are_told_when_asked(trained: str, folder: Path) -> None:
    np.save(folder / "blank.npy", np.zeros((28, 28), np.uint8))
    names = [str(folder / "0.png"), str(folder / "blank.npy")]
    result = predict(trained, "--score", *names, "-o", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["is_digit"] for record in records] == [True, False]
    assert records[1]["score"] == 0
    assert "score 0.00: no digit" in predict(trained, "--score", names[1]).stdout
