"""The examples, each run as its first lines say, against a real server and on real digits."""

import gzip
import json
import os
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_client.datasets import Dataset, load_dataset

REPOSITORY = Path(__file__).resolve().parent.parent
EXAMPLES = REPOSITORY / "examples"
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("data")) as address:
        yield address


@contextmanager
def serving(data: Path, *options: str) -> Iterator[str]:
    """The address of a server in a process of its own, which must stop as it should."""
    process = subprocess.Popen(
        [PROGRAMS / "mnist-server", "serve", "--port", "0", "--data-dir", data, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready, "the server did not start within 30 s"
        line = process.stdout.readline()
        assert line.startswith("Serving on "), line
        yield line.removeprefix("Serving on ").strip()
        process.terminate()
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("mnist-5k")


@pytest.fixture(scope="module")
def pictures(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten test digits, dark on light, named by what they are."""
    assert digits.test is not None
    folder = tmp_path_factory.mktemp("pictures with spaces")
    paths = []
    for place, (image, label) in enumerate(
        zip(digits.test.images[:10], digits.test.labels[:10], strict=True)
    ):
        paths.append(folder / f"{place}-is-{label}.png")
        Image.fromarray(255 - image).resize((84, 84)).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def idx_folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample in the form of MNIST's own four files."""
    assert digits.test is not None
    folder = tmp_path_factory.mktemp("idx")
    for prefix, split in (("train", digits.train), ("t10k", digits.test)):
        for name, array in (("images-idx3", split.images), ("labels-idx1", split.labels)):
            with gzip.open(folder / f"{prefix}-{name}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(idx(array))
    return folder


def idx(array: NDArray[Any]) -> bytes:
    """An IDX file of bytes: magic number, sizes, contents."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def run(server: str, program: str, *arguments: str | Path) -> str:
    """Runs an example. Returns what it printed."""
    finished = subprocess.run(
        [sys.executable, EXAMPLES / program, *arguments],
        env={**os.environ, "MNIST_SERVER": server},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    return finished.stdout


@pytest.fixture(scope="module")
def trained(server: str, pictures: list[Path]) -> str:
    """What train_and_predict.py printed; it made the model `mnist`, which others ask."""
    return run(server, "train_and_predict.py", "mnist-5k", *pictures)


def named_rightly(output: str, pictures: list[Path]) -> int:
    """How many pictures were named, in their order, as their names say."""
    lines = output.splitlines()[-len(pictures) :]
    named = []
    for line, picture in zip(lines, pictures, strict=True):
        match = re.fullmatch(rf"{re.escape(str(picture))}: (\d) \(\d+\.\d%\)", line)
        assert match, line
        named.append(match[1] == picture.stem[-1])
    return sum(named)


def test_train_and_predict(trained: str, pictures: list[Path]) -> None:
    epochs = re.findall(r"^Epoch (\d+) : \d+ / 1000$", trained, re.MULTILINE)
    assert epochs == [str(epoch) for epoch in range(30)]
    judged = re.search(r"^(\d+\.\d+)% right$", trained, re.MULTILINE)
    assert judged
    # A stalled seed, one in seven, names some six to eight digits of ten.
    assert float(judged[1]) > 50
    assert named_rightly(trained, pictures) >= 5


def test_async_predict(server: str, trained: str, pictures: list[Path]) -> None:
    assert run(server, "async_predict.py", *pictures).splitlines() == trained.splitlines()[-len(pictures) :]


@pytest.mark.usefixtures("trained")
def test_watch_from_elsewhere(server: str) -> None:
    whole = run(server, "watch_from_elsewhere.py").splitlines()
    words = [line.split(maxsplit=2) for line in whole]
    assert [int(sequence) for sequence, *_ in words[:-1]] == list(range(1, len(whole)))
    assert [words[0][2], words[1][2], words[-2][2]] == ["Accepted", "Started", "Succeeded"]
    assert whole[-1].startswith("It made models/")

    newest = json.loads(
        subprocess.run(
            [PROGRAMS / "mnist-client", "--server", server, "jobs", "list", "-o", "json"],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
    )[0]
    assert run(server, "watch_from_elsewhere.py", newest["name"], "30").splitlines() == whole[30:]


def test_raw_stubs(server: str, digits: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "digits.npz", images=digits.train.images, labels=digits.train.labels)
    lines = run(server, "raw_stubs.py", tmp_path / "digits.npz", server).splitlines()
    assert re.fullmatch(r"jobs/[a-z0-9-]+ learns with layers \[784, 30, 10\]", lines[0])
    assert [line.split(" : ")[0] for line in lines[1:6]] == [f"Epoch {epoch}" for epoch in range(5)]
    assert lines[6] == "It made models/raw/versions/1"
    # The server's evaluation after the last epoch and ours are of the same images.
    assert lines[7] == lines[5].partition(" : ")[2] + " right"
    assert lines[8].startswith("It says [")


BUF = shutil.which("buf") or shutil.which("buf", path=str(REPOSITORY / ".venv-proto" / "bin"))


@pytest.mark.skipif(BUF is None, reason="buf is not installed: `make test` installs it")
def test_buf_curl(server: str, idx_folder: Path) -> None:
    finished = subprocess.run(
        [EXAMPLES / "buf_curl.sh", idx_folder, server],
        env={**os.environ, "BUF": str(BUF)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    trained, watched, judged, named = re.split(r"^# .*\n", finished.stdout, flags=re.MULTILINE)[1:]
    assert trained.count('"epochFinished"') == 5
    assert watched.count('"sequence"') == 2
    assert '"modelVersion": "models/buf/versions/1"' in watched
    evaluation = json.loads(judged)["evaluation"]
    assert evaluation["total"] == "1000"
    assert evaluation["accuracy"] > 0.5
    answer, _, labels = named.rpartition("}\n")
    assert len(json.loads(answer + "}")["digits"]) == len(labels.split()) == 3


def test_a_new_server_names_the_picture_of_the_readme_as_shown_there(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    with serving(tmp_path, "--pretrained") as server:
        told = subprocess.run(
            [PROGRAMS / "mnist-client", "predict", "--show", "examples/seven.png"],
            cwd=REPOSITORY,
            env=os.environ | {"MNIST_SERVER": server, "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
    assert told.returncode == 0, told.stderr
    assert f"```\n{told.stdout.rstrip()}\n```\n" in readme


def test_the_readme_shows_the_first_example_as_it_is() -> None:
    source = (EXAMPLES / "train_and_predict.py").read_text(encoding="utf-8")
    code = source.partition('"""\n\n')[2]
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"```python\n{code}```\n" in readme
    statements = [line for line in code.splitlines() if line]
    assert len(statements) <= 11


def test_every_example_is_tested() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    programs = [path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")]
    assert [name for name in programs if f'"{name}"' not in tests] == []
