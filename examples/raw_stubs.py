"""Trains, watches, evaluates and predicts with the generated stubs alone, without the SDK.

python examples/raw_stubs.py digits.npz [HOST:PORT]

digits.npz holds `images`, uint8 of shape (N, 28, 28), and `labels`, uint8 of shape (N,). The last fifth is
tested on. The SDK adds what this does without: retries, taking up a lost watch, limits, other files.
"""

import sys
from collections.abc import Iterator
from itertools import chain

import grpc
import numpy as np

from mnist_proto.arrays import array_to_pixels
from mnist_proto.v1 import (
    evaluation_pb2,
    evaluation_pb2_grpc,
    images_pb2,
    prediction_pb2,
    prediction_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)

BATCH = 1000  # images a message, far below the server's limit of bytes
SECONDS = 60  # no call without a deadline, but the watch of a job

path, server = [*sys.argv[1:], "127.0.0.1:50051"][:2]
with np.load(path, allow_pickle=False) as arrays:
    images, labels = arrays["images"], arrays["labels"]
tested = len(labels) // 5


def batches(start: int, stop: int, split: images_pb2.Split.ValueType) -> Iterator[images_pb2.LabeledImages]:
    """Yields images start to stop in messages of one split."""
    for at in range(start, stop, BATCH):
        part = slice(at, min(at + BATCH, stop))
        yield images_pb2.LabeledImages(
            pixels=array_to_pixels(images[part]),
            height=images.shape[1],
            width=images.shape[2],
            labels=labels[part].tobytes(),
            split=split,
        )


first_tested = len(labels) - tested
train = batches(0, first_tested, images_pb2.SPLIT_TRAIN)
test = list(batches(first_tested, len(labels), images_pb2.SPLIT_TEST))

with grpc.insecure_channel(server) as channel:
    training = training_pb2_grpc.TrainingServiceStub(channel)
    config = training_pb2.TrainingConfig(model="models/raw", epochs=5, seed=1)
    requests = chain(
        [training_pb2.TrainRequest(config=config)],
        (training_pb2.TrainRequest(batch=batch) for batch in chain(train, test)),
    )
    stream = training.Train(requests, timeout=SECONDS)
    accepted = next(response.event for response in stream if response.HasField("event"))
    print(f"{accepted.job} learns with layers {list(accepted.accepted.config.layer_sizes)}")
    # The job goes on: this was one view of it.
    stream.cancel()

    watch = training_pb2.WatchTrainingRequest(job=accepted.job, after_sequence=accepted.sequence)
    for response in training.WatchTraining(watch):
        match response.event.WhichOneof("event"):
            case "epoch_finished":
                finished = response.event.epoch_finished
                print(f"Epoch {finished.epoch} : {finished.correct} / {finished.total}")
            case "succeeded":
                print(f"It made {response.event.succeeded.model_version}")
            case "failed":
                sys.exit(f"It failed: {response.event.failed.reason}")

    judged = evaluation_pb2_grpc.EvaluationServiceStub(channel).Evaluate(
        chain(
            [evaluation_pb2.EvaluateRequest(config=evaluation_pb2.EvaluationConfig(model="models/raw"))],
            (evaluation_pb2.EvaluateRequest(batch=batch) for batch in test),
        ),
        timeout=SECONDS,
    )
    print(f"{judged.evaluation.correct} / {judged.evaluation.total} right")

    request = prediction_pb2.PredictRequest(
        model="models/raw",
        pixels=array_to_pixels(images[-10:]),
        height=images.shape[1],
        width=images.shape[2],
    )
    answer = prediction_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=SECONDS)
    print(f"It says {list(answer.digits)} of {labels[-10:].tolist()}")
