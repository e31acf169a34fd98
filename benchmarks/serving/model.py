"""The model that all serve: 784-100-10, trained for a moment on our own server."""

import shutil
import time
from pathlib import Path

import numpy as np
from benchmarks.serving.contender import Questions
from benchmarks.serving.process import Process
from benchmarks.serving.protocol import CLASSES, INPUTS, null_answers
from benchmarks.serving.recipes import ANSWERS, NETWORK, OUR_DATA, environment, free_port, program

from mnist_client import Client, MnistError
from mnist_client.datasets import Dataset, load_dataset
from mnist_core import load_model

HIDDEN, EPOCHS, LEARNING_RATE = 100, 3, 1.0
IMAGES = 1000
WAIT_SECONDS = 60


def make_model(shared: Path, cores: list[int]) -> tuple[Questions, Dataset]:
    """Writes what the contenders find in the shared folder; returns the questions and the data set.

    Raises mnist_client's errors, and DataError where there is no data set.
    """
    dataset = load_dataset("mnist-5k")
    folder = shared / "trained"
    folder.mkdir()
    address = f"127.0.0.1:{free_port()}"
    command = [program("mnist-server"), "serve", "--port", address.rsplit(":", 1)[1], "--data-dir", "data"]
    command.append("--no-pretrained")
    with Process(command, environment(shared, {}), cores, folder), Client(address) as client:
        wait_for(client)
        job = client.train(
            dataset.train,
            name="mnist",
            hidden=HIDDEN,
            epochs=EPOCHS,
            learning_rate=LEARNING_RATE,
            initialization="scaled",
            seed=1,
        )
        job.result(timeout=WAIT_SECONDS)
    shutil.move(folder / "data", shared / OUR_DATA)
    [file] = (shared / OUR_DATA / "models").glob("*.safetensors")
    network, _, _ = load_model(file)
    first, last = network.layers
    np.savez(shared / NETWORK, w1=first.weights, b1=first.biases, w2=last.weights, b2=last.biases)
    images = dataset.train.images[:IMAGES].reshape(-1, INPUTS)
    right = network.predict(images)
    assert right.shape == (IMAGES, CLASSES)
    (shared / ANSWERS).mkdir()
    for method, answer in null_answers(right[:1]).items():
        (shared / ANSWERS / method).write_bytes(answer)
    return Questions(images, right), dataset


def wait_for(client: Client) -> None:
    """Waits until the server answers. Raises what its last refusal raised."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            client.info()
            return
        except MnistError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
