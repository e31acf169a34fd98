import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from mnist_client.datasets import Dataset
from mnist_core import Evaluation, load_model
from mnist_proto.v1 import evaluation_pb2 as pb
from mnist_proto.v1 import images_pb2, prediction_pb2
from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_server.data_directory import DataDirectory
from mnist_server.limits import Limits
from mnist_server.rpc import Silence

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TIMEOUT = 10.0
Refused = Callable[..., Any]

CONFIG = pb.EvaluateRequest(config=pb.EvaluationConfig())


@pytest.fixture
def stub(make_version: Callable[..., str], channel: grpc.Channel) -> EvaluationServiceStub:
    """The service, with a network that was never trained as models/mnist."""
    make_version()
    return EvaluationServiceStub(channel)


def batch(**fields: Any) -> pb.EvaluateRequest:
    """A batch of two black images, but for the fields given."""
    values: dict[str, Any] = {"pixels": bytes(2 * 784), "height": 28, "width": 28, "labels": b"\0\1"} | fields
    return pb.EvaluateRequest(batch=images_pb2.LabeledImages(**values))


def batches(digits: Dataset, size: int) -> list[pb.EvaluateRequest]:
    test = digits.test
    assert test is not None
    return [
        batch(pixels=test.images[i : i + size].tobytes(), labels=test.labels[i : i + size].tobytes())
        for i in range(0, len(test.images), size)
    ]


def test_judges_a_model_by_real_digits(
    stub: EvaluationServiceStub, directory: DataDirectory, digits: Dataset
) -> None:
    [file] = directory.models.iterdir()
    expected = Evaluation(10, "quadratic")
    assert digits.test is not None
    expected.add_images(load_model(file)[0], digits.test.images, digits.test.labels)
    found = stub.Evaluate(iter([CONFIG, *batches(digits, 300)]), timeout=TIMEOUT).evaluation
    assert found.model == "models/mnist/versions/1"
    assert (found.correct, found.total, found.classes) == (expected.correct, 1000, 10)
    assert found.accuracy == expected.accuracy == found.correct / 1000
    assert found.loss == pytest.approx(expected.loss)
    confusion = np.array(found.confusion_matrix).reshape(10, 10)
    np.testing.assert_array_equal(confusion, expected.confusion)
    assert confusion.trace() == found.correct
    np.testing.assert_array_equal(confusion.sum(axis=1), np.bincount(digits.test.labels))
    assert [metrics.support for metrics in found.per_class] == np.bincount(digits.test.labels).tolist()
    np.testing.assert_allclose([metrics.precision for metrics in found.per_class], expected.precision)
    np.testing.assert_allclose([metrics.recall for metrics in found.per_class], expected.recall)
    np.testing.assert_allclose([metrics.f1 for metrics in found.per_class], expected.f1)
    assert found.expected_calibration_error == pytest.approx(expected.ece)
    assert len(found.mistakes) == 20
    for mistake in found.mistakes:
        assert mistake.label == digits.test.labels[mistake.index] != mistake.predicted
    confidences = [mistake.confidence for mistake in found.mistakes]
    assert confidences == sorted(confidences, reverse=True)


def test_how_the_images_are_batched_changes_nothing(stub: EvaluationServiceStub, digits: Dataset) -> None:
    whole, *others = (
        stub.Evaluate(iter([CONFIG, *batches(digits, size)]), timeout=TIMEOUT).evaluation
        for size in (1000, 333, 17)
    )
    for other in others:
        assert list(other.confusion_matrix) == list(whole.confusion_matrix)
        assert other.loss == pytest.approx(whole.loss)


@pytest.mark.parametrize(
    ("messages", "field", "words"),
    [
        ([], "config", ("no message at all",)),
        ([CONFIG], "batch", ("no image", "at least one batch")),
        ([batch()], "message", ("a batch before the configuration",)),
        ([pb.EvaluateRequest()], "message", ("before the configuration",)),
        ([CONFIG, batch(), CONFIG], "config", ("a second configuration",)),
        ([CONFIG, pb.EvaluateRequest()], "batch.pixels", ("0 bytes", "at least one image")),
        ([CONFIG, batch(pixels=b"")], "batch.pixels", ("0 bytes", "at least one image")),
        ([CONFIG, batch(pixels=bytes(1567))], "batch.pixels", ("1567 bytes", "784")),
        ([CONFIG, batch(labels=b"\0")], "batch.labels", ("1 labels", "2 images")),
        ([CONFIG, batch(labels=b"\0\1\2")], "batch.labels", ("3 labels", "2 images")),
        ([CONFIG, batch(), batch(labels=b"\0\x0a")], "batch.labels[1]", ("10", "0 to 9")),
        ([CONFIG, batch(height=0)], "batch.height", ("0", "at least 1")),
        ([CONFIG, batch(width=100_000)], "batch.height", ("28 x 100000", "65536")),
        ([CONFIG, batch(height=14, width=56)], "batch.height", ("14 x 56", "28 x 28", "models/mnist")),
        (
            [pb.EvaluateRequest(config=pb.EvaluationConfig(model="mnist@3"))],
            "config.model",
            ("'mnist@3'", "models/{m}/versions/{n}"),
        ),
    ],
)
def test_bad_input_is_refused(
    stub: EvaluationServiceStub,
    refused: Refused,
    messages: list[pb.EvaluateRequest],
    field: str,
    words: tuple[str, ...],
) -> None:
    refused(lambda: stub.Evaluate(iter(messages), timeout=TIMEOUT), INVALID, *words, field=field)
    assert stub.Evaluate(iter([CONFIG, batch()]), timeout=TIMEOUT).evaluation.total == 2


def test_an_unknown_model_is_refused_before_its_images_come(
    stub: EvaluationServiceStub, refused: Refused
) -> None:
    refusal = threading.Event()

    def messages() -> Iterator[pb.EvaluateRequest]:
        yield pb.EvaluateRequest(config=pb.EvaluationConfig(model="models/unknown"))
        assert refusal.wait(TIMEOUT), "the server waits for images that it cannot use"

    refused(
        lambda: stub.Evaluate(messages(), timeout=TIMEOUT),
        grpc.StatusCode.NOT_FOUND,
        "models/unknown",
        "mnist",
    )
    refusal.set()


def test_a_message_over_the_limit_ends_the_call_and_nothing_else(
    stub: EvaluationServiceStub, make_messages: Callable[..., Any]
) -> None:
    count = Limits().max_message_bytes // 784 + 1
    large = batch(pixels=bytes(count * 784), labels=bytes(count))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Evaluate(iter([CONFIG, batch(), large]), timeout=30)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Evaluate(iter([CONFIG, batch()]), timeout=TIMEOUT).evaluation.total == 2


def test_a_client_that_falls_silent_is_sent_away(
    stub: EvaluationServiceStub, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_server.evaluation.Silence", partial(Silence, seconds=0.2))
    done = threading.Event()

    def messages() -> Iterator[pb.EvaluateRequest]:
        yield CONFIG
        yield batch()
        done.wait(30)

    with pytest.raises(grpc.RpcError) as caught:
        stub.Evaluate(messages(), timeout=30)
    done.set()
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.CANCELLED
    request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
    assert PredictionServiceStub(channel).Predict(request, timeout=TIMEOUT).model
