import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mnist_client import Client
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode
from mnist_proto.v1 import training_pb2 as pb

CLIENT = str(Path(sys.executable).with_name("mnist-client"))
SECONDS = 60.0


def train(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, ["train", "--data", "mnist-5k", "--server", server, *words])


def test_without_options_it_is_the_classic_run(server: str) -> None:
    result = train(server, "--detach", "-o", "json")
    assert result.exit_code == ExitCode.DONE
    record = json.loads(result.stdout)
    assert (record["event"], record["sequence"]) == ("accepted", 1)
    with Client(server) as client:
        client.job(record["job"]).cancel()
    asked = record["config"]["hyperparameters"]
    assert {
        name: asked[name] for name in asked if name not in ("seed", "request_id", "model", "dataset")
    } == {
        "recipe": "classic",
        "base_model": None,
        "class_names": [],
        "hidden_layers": [30],
        "layers": "",
        "activation": "sigmoid",
        "output": "sigmoid",
        "loss": "quadratic",
        "initialization": "normal",
        "epochs": 30,
        "batch_size": 10,
        "learning_rate": 3.0,
        "weight_decay": 0.0,
        "momentum": 0.0,
        "optimizer": "sgd",
        "schedule": "constant",
        "warm_up": 0.0,
        "clip_norm": None,
        "augmentation": None,
        "patience": None,
        "until_accuracy": None,
        "time_budget": None,
        "keep_best": False,
        "validation_images": None,
        "dtype": "float32",
        "promote": False,
    }
    assert asked["model"] == record["job"].replace("jobs/", "models/")
    assert record["config"]["layer_sizes"] == [784, 30, 10]


def test_every_option_arrives(server: str) -> None:
    result = train(
        server,
        *("--name", "every-option", "--recipe", "quick", "--class-names", "a,b,c,d, e,f,g,h,i,j"),
        *("--layers", "20-D0.5-10", "--optimizer", "sgd", "--schedule", "cosine", "--warm-up", "0.2"),
        *("--clip-norm", "5", "--augmentation", "shift=1.5,elastic=24,elastic-sigma=5"),
        *("--epochs", "2", "--batch-size", "16"),
        *("--learning-rate", "0.1", "--activation", "relu", "--output-layer", "softmax"),
        *("--loss", "cross_entropy", "--initialization", "scaled", "--weight-decay", "0.001"),
        *("--momentum", "0.5", "--validation", "500", "--patience", "1", "--seed", "18446744073709551615"),
        *("--until-accuracy", "0.999", "--max-minutes", "1.5", "--keep-best"),
        *("--dtype", "float64", "--promote", "-o", "jsonl"),
    )
    assert result.exit_code == ExitCode.DONE, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    asked = records[0]["config"]["hyperparameters"]
    del asked["request_id"], asked["dataset"]
    assert asked == {
        "model": "models/every-option",
        "recipe": "quick",
        "base_model": None,
        "class_names": list("abcdefghij"),
        "hidden_layers": [],
        "layers": "20-D0.5-10",
        "activation": "relu",
        "output": "softmax",
        "loss": "cross_entropy",
        "initialization": "scaled",
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.1,
        "weight_decay": 0.001,
        "momentum": 0.5,
        "optimizer": "sgd",
        "schedule": "cosine",
        "warm_up": 0.2,
        "clip_norm": 5.0,
        "augmentation": {
            "rotation": 0.0,
            "scale": 0.0,
            "shear": 0.0,
            "shift": 1.5,
            "elastic": 24.0,
            "elastic_sigma": 5.0,
            "thickness": 0.0,
        },
        "patience": 1,
        "until_accuracy": 0.999,
        "time_budget": 90.0,
        "keep_best": True,
        "validation_images": 500,
        "seed": 2**64 - 1,
        "dtype": "float64",
        "promote": True,
    }
    assert records[0]["config"]["train_images"] == 3500
    epoch = records[2]
    assert (epoch["total"], epoch["validation_total"]) == (1000, 500)
    assert records[-1]["model_version"] == "models/every-option/versions/1"


def test_a_folder_of_idx_files_with_other_classes_takes_the_same_way(server: str, tmp_path: Path) -> None:
    # As Fashion-MNIST comes: MNIST's file names, other things on the images.
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 60), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 80, (count, 28, 28), np.uint8)
        images[np.arange(count), 2 * labels, :] = 255  # what a class looks like
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (tmp_path / f"{prefix}-{name}-ubyte").write_bytes(head + array.tobytes())
    names = "t-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
    words = ["--data", str(tmp_path), "--class-names", names, "--name", "fashion", "--recipe", "quick"]
    result = CliRunner().invoke(
        program, ["train", "--server", server, *words, "--epochs", "20", "--batch-size", "10", "-o", "jsonl"]
    )
    assert result.exit_code == ExitCode.DONE, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert records[0]["config"]["hyperparameters"]["class_names"] == names.split(",")
    assert (records[-2]["total"], records[-2]["correct"]) == (20, 20)
    with Client(server) as client:
        [image] = np.frombuffer(
            (tmp_path / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, 784, 16
        ).reshape(1, 28, 28)
        assert client.predict(image, model="fashion")[0].name == "t-shirt"


def test_options_come_from_the_environment_too(server: str) -> None:
    environ = {"MNIST_SERVER": server, "MNIST_TRAIN_DATA": "mnist-5k", "MNIST_TRAIN_EPOCHS": "1"}
    environ |= {"MNIST_TRAIN_HIDDEN": "none", "MNIST_OUTPUT": "jsonl", "MNIST_DATA": "/nowhere"}
    result = CliRunner(env=environ).invoke(program, ["train", "--epochs", "2"])
    assert result.exit_code == ExitCode.DONE, result.stderr
    config = json.loads(result.stdout.splitlines()[0])["config"]
    assert config["layer_sizes"] == [784, 10]
    assert config["hyperparameters"]["epochs"] == 2


def test_the_lines_of_a_run(server: str) -> None:
    result = train(server, "--epochs", "2", "--seed", "3")
    assert result.exit_code == ExitCode.DONE
    assert [line.split(" : ")[0] for line in result.stdout.splitlines()] == ["Epoch 0", "Epoch 1"]
    assert result.stderr.splitlines()[-1].startswith("Made models/job-")


@pytest.mark.parametrize("output", ["table", "jsonl", "csv"])
def test_detached_it_returns_with_the_event(server: str, output: str) -> None:
    result = train(server, "--epochs", "1", "--detach", "-o", output)
    assert result.exit_code == ExitCode.DONE
    jobs = CliRunner().invoke(program, ["jobs", "list", "--server", server, "-o", "jsonl"])
    name = json.loads(jobs.stdout.splitlines()[0])["name"]
    if output == "table":
        assert result.stdout.startswith(f"{name} accepted: 784-30-10")
        assert f"mnist-client jobs watch {name}" in result.stderr
    elif output == "jsonl":
        assert json.loads(result.stdout)["job"] == name
    else:
        header, row = result.stdout.splitlines()
        assert header == "sequence,job,event,time,config"
        assert row.startswith(f"1,{name},accepted,")
    with Client(server) as client:
        client.job(name).result(timeout=SECONDS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--epochs", "0"], ExitCode.BAD_INPUT, "epochs: 0"),
        (["--learning-rate", "nan"], ExitCode.BAD_INPUT, "learning_rate: nan"),
        (["--hidden", "30,0"], ExitCode.BAD_INPUT, "0"),
        (["--seed", "-1"], ExitCode.BAD_INPUT, "seed"),
        (["--name", "mnist@2"], ExitCode.BAD_INPUT, "models/mnist/versions/2"),
        (["--validation", "4000"], ExitCode.BAD_INPUT, "less than 4000"),
        (["--patience", "3"], ExitCode.BAD_INPUT, "patience"),
        (["--data", "/nowhere"], ExitCode.NOT_FOUND, "/nowhere"),
        (["--hidden", "many"], ExitCode.USAGE, "'many'"),
        (["--name", "Mnist"], ExitCode.USAGE, "'Mnist'"),
        (["--loss", "hinge"], ExitCode.USAGE, "'hinge'"),
    ],
)
def test_what_is_wrong_is_named(server: str, words: list[str], code: ExitCode, said: str) -> None:
    result = train(server, *words)
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert "Error: " in result.stderr
    assert result.stdout == ""


def test_nobody_there_is_exit_3() -> None:
    result = train("127.0.0.1:1", "--timeout", "5")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "127.0.0.1:1 is not available" in result.stderr
    assert "mnist-server serve" in result.stderr


def test_ctrl_c_before_acceptance_leaves_nothing(serve: Callable[..., str], tmp_path: Path) -> None:
    data = tmp_path / "few.npz"
    np.savez(data, images=np.zeros((20, 28, 28), np.uint8), labels=np.zeros(20, np.uint8))
    uploading, ended = threading.Event(), threading.Event()

    def receive(requests: Iterator[pb.TrainRequest], context: grpc.ServicerContext) -> Iterator[Any]:
        context.add_callback(ended.set)
        next(requests)
        uploading.set()
        ended.wait(SECONDS)
        yield from ()

    address = serve(Train=receive)
    with subprocess.Popen(
        [CLIENT, "train", "--data", str(data), "--server", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if not uploading.wait(SECONDS):
            process.kill()
            pytest.fail(f"no upload: {process.communicate()}")
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "nothing is left behind" in messages
    assert "Traceback" not in messages
    assert output == ""
    assert ended.wait(SECONDS)  # the upload's stream was ended, and did not linger
