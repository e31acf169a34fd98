import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from mnist_client.datasets import Dataset
from mnist_core import Evaluation, load_model
from mnist_proto.v1 import dataset_pb2, images_pb2, prediction_pb2
from mnist_proto.v1 import evaluation_pb2 as pb
from mnist_proto.v1.dataset_pb2_grpc import DatasetServiceStub
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


def test_says_how_sure_the_accuracy_is_and_returns_images_of_mistakes_when_asked(
    stub: EvaluationServiceStub, digits: Dataset
) -> None:
    asking = pb.EvaluateRequest(config=pb.EvaluationConfig(return_images=True))
    found = stub.Evaluate(iter([asking, *batches(digits, 100)]), timeout=TIMEOUT).evaluation
    assert digits.test is not None
    assert 0 < found.accuracy_low < found.accuracy < found.accuracy_high < 1
    assert (found.height, found.width, found.split) == (28, 28, images_pb2.SPLIT_UNSPECIFIED)
    assert len(found.mistakes) == 20
    for mistake in found.mistakes:
        assert mistake.image == digits.test.images[mistake.index].tobytes()
    without = stub.Evaluate(iter([CONFIG, *batches(digits, 100)]), timeout=TIMEOUT).evaluation
    assert {mistake.image for mistake in without.mistakes} == {b""}


class TestStoredDataSets:
    @pytest.fixture
    def stored(self, channel: grpc.Channel, digits: Dataset) -> str:
        """5,000 real digits on the server, more than are read at a time."""
        test = digits.test
        assert test is not None
        batches = []
        for split, data in ((images_pb2.SPLIT_TRAIN, digits.train), (images_pb2.SPLIT_TEST, test)):
            labelled = batch(pixels=data.images.tobytes(), labels=data.labels.tobytes(), split=split).batch
            batches.append(dataset_pb2.UploadDatasetRequest(batch=labelled))
        service = DatasetServiceStub(channel)
        return service.UploadDataset(iter(batches), timeout=TIMEOUT).dataset.name

    @pytest.mark.parametrize(
        ("asked", "judged"),
        [
            (images_pb2.SPLIT_UNSPECIFIED, images_pb2.SPLIT_TEST),
            (images_pb2.SPLIT_TEST, images_pb2.SPLIT_TEST),
            (images_pb2.SPLIT_TRAIN, images_pb2.SPLIT_TRAIN),
        ],
    )
    def test_one_is_judged_by_as_if_it_were_sent(
        self,
        stub: EvaluationServiceStub,
        stored: str,
        digits: Dataset,
        asked: images_pb2.Split.ValueType,
        judged: images_pb2.Split.ValueType,
    ) -> None:
        named = pb.EvaluationConfig(dataset=stored, split=asked, return_images=True)
        found = stub.Evaluate(iter([pb.EvaluateRequest(config=named)]), timeout=TIMEOUT).evaluation
        data = digits.test if judged == images_pb2.SPLIT_TEST else digits.train
        assert data is not None
        sent = [
            batch(pixels=data.images[i : i + 500].tobytes(), labels=data.labels[i : i + 500].tobytes())
            for i in range(0, len(data.labels), 500)
        ]
        config = pb.EvaluateRequest(config=pb.EvaluationConfig(return_images=True))
        expected = stub.Evaluate(iter([config, *sent]), timeout=TIMEOUT).evaluation
        assert found.split == judged
        assert found.total == len(data.labels)
        expected.split = judged
        assert found.loss == pytest.approx(expected.loss)
        expected.loss = found.loss  # sums of other parts
        assert found.expected_calibration_error == pytest.approx(expected.expected_calibration_error)
        expected.expected_calibration_error = found.expected_calibration_error
        assert found == expected

    def test_without_a_test_split_it_is_the_training_images(
        self, stub: EvaluationServiceStub, channel: grpc.Channel, refused: Refused
    ) -> None:
        upload = dataset_pb2.UploadDatasetRequest(batch=batch(split=images_pb2.SPLIT_TRAIN).batch)
        name = DatasetServiceStub(channel).UploadDataset(iter([upload]), timeout=TIMEOUT).dataset.name
        config = pb.EvaluationConfig(dataset=name)
        found = stub.Evaluate(iter([pb.EvaluateRequest(config=config)]), timeout=TIMEOUT).evaluation
        assert (found.split, found.total) == (images_pb2.SPLIT_TRAIN, 2)
        config.split = images_pb2.SPLIT_TEST
        refused(
            lambda: stub.Evaluate(iter([pb.EvaluateRequest(config=config)]), timeout=TIMEOUT),
            INVALID,
            "SPLIT_TRAIN",
            field="config.split",
        )

    def test_what_does_not_fit_is_refused(
        self, stub: EvaluationServiceStub, channel: grpc.Channel, stored: str, refused: Refused
    ) -> None:
        def ask(name: str, *more: pb.EvaluateRequest) -> Callable[[], object]:
            config = pb.EvaluateRequest(config=pb.EvaluationConfig(dataset=name))
            return lambda: stub.Evaluate(iter([config, *more]), timeout=TIMEOUT)

        refused(ask("mnist"), INVALID, "datasets/{sha256}", field="config.dataset")
        refused(ask("datasets/" + "ab" * 32), grpc.StatusCode.NOT_FOUND, "datasets/abab")
        refused(ask(stored, batch()), INVALID, "beside", field="batch")
        small = images_pb2.LabeledImages(
            pixels=bytes(4), height=2, width=2, labels=b"\1", split=images_pb2.SPLIT_TEST
        )
        upload = dataset_pb2.UploadDatasetRequest(batch=small)
        name = DatasetServiceStub(channel).UploadDataset(iter([upload]), timeout=TIMEOUT).dataset.name
        refused(ask(name), INVALID, "2 x 2", "28 x 28", field="config.dataset")

    @pytest.mark.parametrize("file", ["test-images", "test-labels"])
    def test_one_that_was_damaged_is_found_out(
        self,
        stub: EvaluationServiceStub,
        directory: DataDirectory,
        stored: str,
        refused: Refused,
        file: str,
    ) -> None:
        path = directory.dataset(stored) / file
        contents = bytearray(path.read_bytes())
        contents[-1] ^= 1
        path.write_bytes(contents)
        config = pb.EvaluateRequest(config=pb.EvaluationConfig(dataset=stored))
        ask = lambda: stub.Evaluate(iter([config]), timeout=TIMEOUT)  # noqa: E731
        refused(ask, grpc.StatusCode.DATA_LOSS, "other images or labels")
        path.write_bytes(contents[:-1])
        refused(ask, grpc.StatusCode.DATA_LOSS, file)


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
