"""The pretrained model: a server with an empty directory has it, and nobody takes it away."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from mnist_client.datasets import Dataset
from mnist_core import read_model
from mnist_proto.v1 import evaluation_pb2, images_pb2, model_pb2, prediction_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceStub
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server import pretrained
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.serving import Server

TIMEOUT = 30.0
MAX_BYTES = 500_000
FILE = Path(pretrained.__file__).with_name(pretrained.FILE)
Refused = Callable[..., grpc.RpcError]


@pytest.fixture
def server(directory: DataDirectory) -> Server:
    """Begins with the pretrained model. Not started here: a test may want what is there before."""
    return Server(directory, "127.0.0.1", 0, pretrained=True)


@pytest.fixture
def channel(server: Server) -> grpc.Channel:
    return grpc.insecure_channel(server.address, options=[("grpc.enable_http_proxy", 0)])


@pytest.fixture(autouse=True)
def _running(server: Server, channel: grpc.Channel) -> object:
    server.start()
    yield
    channel.close()
    server.stop()


def get(channel: grpc.Channel) -> model_pb2.Model:
    request = model_pb2.GetModelRequest(model="models/mnist")
    return ModelServiceStub(channel).GetModel(request, timeout=TIMEOUT).model


def test_an_empty_directory_has_it_as_version_1_of_mnist(channel: grpc.Channel) -> None:
    model = get(channel)
    assert dict(model.aliases) == {"default": 1}
    [version] = model.versions
    saved = read_model(FILE)
    assert version.name == "models/mnist/versions/1"
    assert version.weights_hash == saved.network.weights_hash()
    assert (version.job, version.HasField("config")) == ("", False)
    assert dict(version.provenance) == saved.provenance
    assert list(version.network.layer_sizes) == list(saved.network.sizes)


def test_it_names_real_digits_without_a_model_s_name(channel: grpc.Channel, digits: Dataset) -> None:
    assert digits.test is not None
    request = prediction_pb2.PredictRequest(pixels=digits.test.images.tobytes(), height=28, width=28)
    answer = PredictionServiceStub(channel).Predict(request, timeout=TIMEOUT)
    assert answer.model == "models/mnist/versions/1"
    right = sum(a == b for a, b in zip(answer.digits, digits.test.labels.tolist(), strict=True))
    assert right >= 990  # of 1,000; it has seen these, or most of them, when it learnt

    batch = images_pb2.LabeledImages(
        pixels=digits.test.images.tobytes(), height=28, width=28, labels=digits.test.labels.tobytes()
    )
    judged = EvaluationServiceStub(channel).Evaluate(
        iter(
            [
                evaluation_pb2.EvaluateRequest(config=evaluation_pb2.EvaluationConfig()),
                evaluation_pb2.EvaluateRequest(batch=batch),
            ]
        ),
        timeout=TIMEOUT,
    )
    assert judged.evaluation.correct == right


def test_it_is_small_enough_to_come_along() -> None:
    assert FILE.stat().st_size <= MAX_BYTES


def test_what_is_trained_under_its_name_is_version_2_and_waits_to_be_promoted(
    channel: grpc.Channel, make_messages: Callable[..., list[pb.TrainRequest]]
) -> None:
    stub = TrainingServiceStub(channel)
    for promote, default in ((False, 1), (True, 3)):
        messages = make_messages(train=100, test=0, epochs=1, model="models/mnist", promote=promote)
        *_, last = (answer.event for answer in stub.Train(iter(messages), timeout=TIMEOUT))
        assert last.succeeded.model_version == f"models/mnist/versions/{3 if promote else 2}"
        assert dict(get(channel).aliases) == {"default": default}


@pytest.mark.parametrize(
    ("model", "force"),
    [("models/mnist/versions/1", False), ("models/mnist", False), ("models/mnist", True)],
)
def test_it_cannot_be_deleted(
    channel: grpc.Channel,
    make_version: Callable[..., str],
    refused: Refused,
    model: str,
    force: bool,
) -> None:
    make_version("mnist", promote=True)
    request = model_pb2.DeleteModelRequest(model=model, force=force)
    refused(
        lambda: ModelServiceStub(channel).DeleteModel(request, timeout=TIMEOUT),
        grpc.StatusCode.FAILED_PRECONDITION,
        f"{model} cannot be deleted",
        "pretrained model came with the server",
    )
    assert {version.version for version in get(channel).versions} == {1, 2}


def test_versions_beside_it_can_be_deleted(channel: grpc.Channel, make_version: Callable[..., str]) -> None:
    made = make_version("mnist")
    request = model_pb2.DeleteModelRequest(model=made)
    assert ModelServiceStub(channel).DeleteModel(request, timeout=TIMEOUT).versions == 1


def test_it_is_exported_as_any_other(channel: grpc.Channel) -> None:
    request = model_pb2.ExportModelRequest(model="models/mnist")
    first, *rest = ModelServiceStub(channel).ExportModel(request, timeout=TIMEOUT)
    assert first.file.version.version == 1
    assert b"".join(message.chunk for message in rest) == FILE.read_bytes()


def test_it_comes_once(directory: DataDirectory, database: Database) -> None:
    stamp = (directory.models / pretrained.FILE).stat()
    assert not pretrained.install(database, directory.models)
    assert (directory.models / pretrained.FILE).stat() == stamp


def test_it_does_not_come_to_where_there_was_a_model(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "other")
    directory.create()
    database = directory.database()
    try:
        with database.write() as connection:
            connection.execute("INSERT INTO models VALUES ('gone', 3, 7)")
        assert not pretrained.install(database, directory.models)
        assert not list(directory.models.iterdir())
    finally:
        database.close()
