"""Clients that go at every stage of an upload, and servers that come where there is one."""

import os
import signal
import subprocess
import sys
import time

from tests.faults.campaign import SHORT, Campaign
from tests.faults.checks import clean, succeeded
from tests.faults.machine import Machine, wait

from mnist_client import Client

# Says when it has sent so many messages, and waits there to be killed.
_CLIENT = """
import sys, time
import grpc
from mnist_client.batches import train_requests
from mnist_client.configuration import training_config
from mnist_client import Client, Dataset, Split
import numpy as np
server, seed, stage = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random = np.random.default_rng(seed)
images = random.integers(0, 256, (6000, 28, 28)).astype(np.uint8)
split = Split(images, (np.arange(6000) % 10).astype(np.uint8))
with Client(server) as client:
    from mnist_proto.v1 import images_pb2, training_pb2
    def messages():
        config = training_pb2.TrainingConfig(epochs=1, seed=1, request_id=f"gone-{seed}")
        yield training_pb2.TrainRequest(config=config)
        for start in range(0, 6000, 500):
            part = slice(start, start + 500)
            yield training_pb2.TrainRequest(batch=images_pb2.LabeledImages(
                pixels=split.images[part].tobytes(), height=28, width=28,
                labels=split.labels[part].tobytes(), split=images_pb2.SPLIT_TRAIN))
    def until():
        for number, message in enumerate(messages()):
            if number == stage:
                print("there", flush=True)
                time.sleep(600)
            yield message
        print("there", flush=True)
    for answer in client._training.Train(until()):
        print(answer.event.job, flush=True)
        time.sleep(600)
"""
BATCHES = 12


def uploads(campaign: Campaign) -> None:
    """A client is killed, or stopped until the server gives it up, after each number of messages."""
    asked = SHORT["quick"]
    expected, _ = campaign.undisturbed("quick", asked)
    with campaign.machine() as machine, machine.client() as client:
        succeeded(client, client.train(campaign.data, **asked).name, expected)
        kept = {path.name for path in (machine.data / "datasets").iterdir()}
        for stage in [*range(BATCHES + 2), *campaign.random.choices(range(BATCHES + 2), k=6)]:
            _leave(campaign, machine, client, stage, kept)
        clean(machine)


def _leave(campaign: Campaign, machine: Machine, client: Client, stage: int, kept: set[str]) -> None:
    seed = campaign.random.randrange(2**31)
    command = [sys.executable, "-c", _CLIENT, f"127.0.0.1:{machine.port}", str(seed), str(stage)]
    before = {job.name for job in client.jobs()}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    time.sleep(campaign.random.uniform(0, 0.3))
    os.kill(process.pid, signal.SIGKILL)
    said = process.communicate()[0].split()
    campaign.count(
        "a client gone in the middle of an upload" if stage <= BATCHES else "a client gone at its end"
    )
    if stage <= BATCHES:
        wait(
            lambda: {path.name for path in (machine.data / "datasets").iterdir()} == kept, "an upload is left"
        )
        assert {job.name for job in client.jobs()} == before
        return
    # The whole request had been sent: the job is there, or nothing of it; if it was told of, it is there.
    time.sleep(1.0)
    new = {job.name for job in client.jobs()} - before
    assert len(new) <= 1
    assert set(said) <= new
    for job in new:
        client.job(job).result(timeout=120)
        dataset = client.job(job).status().config.dataset
        client.job(job).delete()
        client.delete_dataset(dataset)
    wait(lambda: {path.name for path in (machine.data / "datasets").iterdir()} == kept, "an upload is left")


def second(campaign: Campaign) -> None:
    """A second server on the directory exits with 8 and names the first, which goes on."""
    asked = SHORT["momentum"]
    expected, _ = campaign.undisturbed("momentum", asked)
    with campaign.machine("--workers", "2") as machine, machine.client() as client:
        for turn in range(10):
            job = client.train(campaign.data, **asked).name
            port, machine.port = machine.port, machine.port if turn % 2 else 0
            process = machine.spawn()
            machine.port = port
            out, _ = process.communicate(timeout=60)
            assert (process.returncode, out) == (8, b"")
            said = machine.log.read_text()
            assert f'"address": "127.0.0.1:{port}"' in said, said[-500:]
            campaign.count("a second server on the directory")
            succeeded(client, job, expected)
        clean(machine)
