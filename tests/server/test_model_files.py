import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import safetensors.numpy

from mnist_core import Network, TrainingConfig, calibrated, load_model, save_model
from mnist_core.checkpoint import _digest
from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1 import prediction_pb2
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_server import rpc
from mnist_server.data_directory import DataDirectory
from mnist_server.limits import Limits

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DATA_LOSS = grpc.StatusCode.DATA_LOSS
DEADLINE = 10.0
Refused = Callable[..., Any]
MakeVersion = Callable[..., str]

CONFIG = TrainingConfig(hidden_sizes=(5,), activation="relu", output="softmax", loss="cross_entropy")


@pytest.fixture
def limits() -> Limits:
    return Limits(max_model_bytes=200_000, max_parameters=25_000, max_image_pixels=1000)


@pytest.fixture
def stub(channel: grpc.Channel) -> ModelServiceStub:
    return ModelServiceStub(channel)


def network(config: TrainingConfig = CONFIG, inputs: int = 12) -> Network:
    return Network.initialize(
        (inputs, *config.hidden_sizes, config.classes),
        activation=config.activation,
        output=config.output,
        dtype=config.dtype,
        rng=np.random.default_rng(0),
    )


@pytest.fixture
def file(tmp_path: Path) -> bytes:
    """A model of 3 x 4 pixels, as a file."""
    save_model(tmp_path / "m", network(), CONFIG, {"job": "jobs/elsewhere"}, image=(3, 4))
    return (tmp_path / "m").read_bytes()


def messages(
    data: bytes, model: str = "models/new", chunk: int = 1000, **config: Any
) -> list[pb.ImportModelRequest]:
    fields: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} | config
    parts = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    first = pb.ImportModelRequest(config=pb.ImportConfig(model=model, **fields))
    return [first, *(pb.ImportModelRequest(chunk=part) for part in parts)]


def send(stub: ModelServiceStub, data: bytes, **config: Any) -> pb.ModelVersion:
    return stub.ImportModel(iter(messages(data, **config)), timeout=DEADLINE).version


def receive(stub: ModelServiceStub, name: str) -> tuple[pb.ModelFile, bytes]:
    first, *rest = stub.ExportModel(pb.ExportModelRequest(model=name), timeout=DEADLINE)
    assert all(0 < len(response.chunk) <= 2**20 for response in rest)
    return first.file, b"".join(response.chunk for response in rest)


def rewrite(
    data: bytes,
    texts: dict[str, str | None] | None = None,
    config: dict[str, Any] | None = None,
    **tensors: Any,
) -> bytes:
    """The file with other texts, configuration or tensors, and a checksum that is right again."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    header["config"] = json.dumps(json.loads(header["config"]) | (config or {}))
    found = {key: text for key, text in (header | (texts or {})).items() if text is not None}
    arrays = {k: v for k, v in (safetensors.numpy.load(data) | tensors).items() if v is not None}
    found.pop("sha256", None)
    found["sha256"] = _digest(arrays, found)
    return safetensors.numpy.save(arrays, found)


def test_what_one_server_exports_another_name_imports_to_the_same_weights(
    stub: ModelServiceStub, make_version: MakeVersion, channel: grpc.Channel
) -> None:
    name = make_version(dtype="DTYPE_FLOAT64", output="OUTPUT_SOFTMAX", hidden_layers={"sizes": [7, 6]})
    described, data = receive(stub, name)
    assert (described.size, described.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    original = described.version
    version = send(stub, data)
    assert version.name == "models/new/versions/1"
    assert (
        version.weights_hash == original.weights_hash == receive(stub, "models/new")[0].version.weights_hash
    )
    assert version.network == original.network
    assert list(version.network.layer_sizes) == [784, 7, 6, 10]
    assert (version.network.height, version.network.width) == (28, 28)
    assert (version.parameters, version.provenance["job"]) == (original.parameters, original.job)
    assert not version.HasField("config")
    assert not version.job
    model = stub.GetModel(pb.GetModelRequest(model="models/new"), timeout=DEADLINE).model
    assert (list(model.versions), dict(model.aliases)) == ([version], {"default": 1})
    predict = PredictionServiceStub(channel).Predict
    image = np.random.default_rng(1).integers(0, 256, (1, 28, 28), dtype=np.uint8).tobytes()
    answers = [
        predict(
            prediction_pb2.PredictRequest(model=name, pixels=image, height=28, width=28), timeout=DEADLINE
        )
        for name in (name, version.name)
    ]
    assert answers[0].probabilities == answers[1].probabilities
    assert send(stub, data).name == "models/new/versions/2"
    assert dict(stub.GetModel(pb.GetModelRequest(model="models/new"), timeout=DEADLINE).model.aliases) == {
        "default": 1
    }


@pytest.mark.parametrize("config", [CONFIG, TrainingConfig(hidden_sizes=(), dtype="float64", classes=3)])
def test_images_need_not_be_square(
    stub: ModelServiceStub, tmp_path: Path, config: TrainingConfig, channel: grpc.Channel
) -> None:
    made = network(config)
    save_model(tmp_path / "m", made, config, {}, image=(3, 4))
    version = send(stub, (tmp_path / "m").read_bytes(), model="models/mnist")
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    request = prediction_pb2.PredictRequest(pixels=image.tobytes(), height=3, width=4)
    answer = PredictionServiceStub(channel).Predict(request, timeout=DEADLINE)
    assert answer.model == version.name
    np.testing.assert_allclose(
        np.reshape(answer.probabilities, (2, config.classes)), made.predict(image), atol=1e-5
    )


def test_a_temperature_comes_along_and_is_applied(
    stub: ModelServiceStub, tmp_path: Path, channel: grpc.Channel
) -> None:
    config = TrainingConfig(hidden_sizes=(), output="softmax", classes=3)
    made = network(config)
    save_model(tmp_path / "m", made, config, {}, image=(3, 4), temperature=2.5)
    version = send(stub, (tmp_path / "m").read_bytes(), model="models/mnist")
    assert version.temperature == 2.5
    assert version.weights_hash == made.weights_hash()
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    request = prediction_pb2.PredictRequest(pixels=image.tobytes(), height=3, width=4)
    answer = PredictionServiceStub(channel).Predict(request, timeout=DEADLINE)
    np.testing.assert_allclose(
        np.reshape(answer.probabilities, (2, 3)), calibrated(made, 2.5).predict(image), atol=1e-5
    )


def test_a_file_without_a_self_check_gets_one(
    stub: ModelServiceStub, file: bytes, directory: DataDirectory
) -> None:
    send(stub, rewrite(file, {"self_check": None}))
    [stored] = directory.models.iterdir()
    assert b"self_check" in stored.read_bytes()
    assert load_model(stored)[0].weights_hash() == network().weights_hash()


HOSTILE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty header": (lambda data: (2).to_bytes(8, "little") + b"{}", "safetensors"),
    "one byte": (lambda data: b"\0", "safetensors"),
    "truncated": (lambda data: data[:-1], "safetensors"),
    "grown": (lambda data: data + b"\0", "safetensors"),
    "header bomb": (lambda data: (150_000).to_bytes(8, "little") + b"[" * 150_000, "safetensors"),
    "header too long": (lambda data: (2**62).to_bytes(8, "little") + data[8:], "header has"),
    "offsets out of range": (lambda data: data.replace(b":[0,", b":[9,"), "safetensors"),
    "pickle": (lambda data: b"\x80\x04\x95" + data, "header has"),
    "no metadata": (lambda data: safetensors.numpy.save({"parameters": network().parameters}), "safetensors"),
    "another format": (lambda data: rewrite(data, {"format": "pt"}), "'pt', not"),
    "no config": (lambda data: rewrite(data, {"config": None}), "no 'config'"),
    "two tensors": (lambda data: rewrite(data, more=np.zeros(1, np.float32)), "tensors:"),
    "no tensor": (lambda data: rewrite(data, parameters=None), "tensors:"),
    "NaN": (lambda data: rewrite(data, parameters=np.full(125, np.nan, np.float32)), "finite"),
    "infinite": (lambda data: rewrite(data, parameters=np.full(125, np.inf, np.float32)), "finite"),
    "huge numbers": (lambda data: rewrite(data, parameters=np.full(125, 3e38, np.float32)), "finite"),
    "another dtype": (lambda data: rewrite(data, parameters=np.zeros(125)), "dtype float32"),
    "float16": (lambda data: rewrite(data, {"sha256": None}, parameters=np.zeros(125, np.float16)), "F16"),
    "too few": (lambda data: rewrite(data, parameters=np.zeros(124, np.float32)), "(125,)"),
    "two dimensions": (lambda data: rewrite(data, parameters=np.zeros((5, 25), np.float32)), "(125,)"),
    "other weights": (lambda data: rewrite(data, parameters=np.ones(125, np.float32)), "self_check"),
    "other inputs": (lambda data: rewrite(data, {"inputs": "11"}), "product is 11"),
    "endless inputs": (lambda data: rewrite(data, {"inputs": "9" * 5000}), "ValueError"),
    "inputs in words": (lambda data: rewrite(data, {"inputs": "many"}), "many"),
    "other size": (lambda data: rewrite(data, {"height": "4"}), "product is 12"),
    "negative size": (lambda data: rewrite(data, {"height": "-3", "width": "-4"}), "product is 12"),
    "half a size": (lambda data: rewrite(data, {"height": None}), "no 'height'"),
    "no size": (lambda data: rewrite(data, {"height": None, "width": None}), "height and width"),
    "unknown activation": (lambda data: rewrite(data, config={"activation": "gelu"}), "one of sigmoid"),
    "another activation": (lambda data: rewrite(data, config={"activation": "tanh"}), "self_check"),
    "unknown output": (lambda data: rewrite(data, config={"output": "linear"}), "output"),
    "unknown loss": (lambda data: rewrite(data, config={"loss": "hinge"}), "loss"),
    "unknown field": (lambda data: rewrite(data, config={"evil": 1}), "evil"),
    "other layers": (lambda data: rewrite(data, config={"hidden_sizes": [6]}), "(148,)"),
    "endless layers": (lambda data: rewrite(data, config={"hidden_sizes": [65536] * 32}), "parameters"),
    "deep config": (lambda data: rewrite(data, {"config": "[" * 100_000}), "RecursionError"),
    "config is a list": (lambda data: rewrite(data, {"config": "[]"}), "TypeError"),
    "provenance is a list": (lambda data: rewrite(data, {"provenance": "[]"}), "AttributeError"),
    "provenance of numbers": (lambda data: rewrite(data, {"provenance": '{"a": 1}'}), "provenance"),
    "much provenance": (lambda data: rewrite(data, {"provenance": f'{{"a": "{"x" * 4096}"}}'}), "4097 bytes"),
    "self-check of text": (lambda data: rewrite(data, {"self_check": "soon"}), "JSONDecodeError"),
    "self-check of nothing": (lambda data: rewrite(data, {"self_check": "[]"}), "self_check"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_leave_nothing(
    stub: ModelServiceStub, file: bytes, refused: Refused, directory: DataDirectory, kind: str
) -> None:
    make, word = HOSTILE[kind]
    bad = make(file)
    assert bad != file
    refused(lambda: send(stub, bad), INVALID, "file", word)
    assert list(directory.models.iterdir()) == []
    assert send(stub, file).name == "models/new/versions/1"


@pytest.mark.parametrize(
    ("made", "image", "word"),
    [
        (network(TrainingConfig(hidden_sizes=(70,)), inputs=400), (20, 20), "at most 25000"),
        (network(TrainingConfig(hidden_sizes=()), inputs=1001), (1, 1001), "at most 1000 pixels"),
    ],
)
def test_larger_models_than_the_server_takes_are_refused(
    stub: ModelServiceStub, refused: Refused, tmp_path: Path, made: Network, image: tuple[int, int], word: str
) -> None:
    config = TrainingConfig(hidden_sizes=made.sizes[1:-1])
    save_model(tmp_path / "m", made, config, {}, image=image)
    refused(lambda: send(stub, (tmp_path / "m").read_bytes()), INVALID, word)


def test_a_flipped_byte_is_a_loss_of_data_or_no_model(
    stub: ModelServiceStub, file: bytes, directory: DataDirectory, refused: Refused
) -> None:
    refused(lambda: send(stub, file, sha256="0" * 64), DATA_LOSS, "SHA-256", "0" * 64)
    for index in (*range(0, len(file), 97), len(file) - 1):
        bad = bytearray(file)
        bad[index] ^= 0x10
        with pytest.raises(grpc.RpcError) as caught:
            send(stub, bytes(bad))
        error: Any = caught.value
        assert error.code() in (DATA_LOSS, INVALID)
        if index == len(file) - 1:  # in the weights: a file of ours, damaged
            assert error.code() is DATA_LOSS
    assert list(directory.models.iterdir()) == []


FILE = b"x" * 100
FIRST, CHUNK = messages(FILE)


@pytest.mark.parametrize(
    ("sent", "field", "words"),
    [
        ([], "config", ("no message at all",)),
        ([CHUNK], "message", ("a chunk before the configuration",)),
        ([pb.ImportModelRequest()], "message", ("before the configuration",)),
        ([FIRST, FIRST], "config", ("a second configuration",)),
        ([FIRST, pb.ImportModelRequest()], "chunk", ("an empty one", "at least 1 byte")),
        ([FIRST, pb.ImportModelRequest(chunk=b"")], "chunk", ("an empty one", "at least 1 byte")),
        ([FIRST], "chunk", ("0 bytes in all", "100 bytes")),
        ([FIRST, pb.ImportModelRequest(chunk=b"x" * 99)], "chunk", ("99 bytes in all", "100 bytes")),
        ([FIRST, CHUNK, pb.ImportModelRequest(chunk=b"x")], "chunk", ("byte 101", "100 bytes")),
        ([*messages(FILE, size=0)], "config.size", ("0", "1 to 200000")),
        ([*messages(FILE, size=200_001)], "config.size", ("200001", "1 to 200000")),
        ([*messages(FILE, size=2**64 - 1)], "config.size", ("1 to 200000",)),
        ([*messages(FILE, sha256="")], "config.sha256", ("64 hexadecimal digits",)),
        ([*messages(FILE, sha256="A" * 64)], "config.sha256", ("64 hexadecimal digits",)),
        ([*messages(FILE, model="")], "config.model", ("models/{m}",)),
        ([*messages(FILE, model="new")], "config.model", ("'new'", "models/{m}")),
        ([*messages(FILE, model="models/new/versions/3")], "config.model", ("models/{m}",)),
        ([*messages(FILE, model="models/new/aliases/a")], "config.model", ("models/{m}",)),
    ],
)
def test_messages_that_make_no_import_are_refused(
    stub: ModelServiceStub,
    refused: Refused,
    directory: DataDirectory,
    sent: list[pb.ImportModelRequest],
    field: str,
    words: tuple[str, ...],
) -> None:
    refused(lambda: stub.ImportModel(iter(sent), timeout=DEADLINE), INVALID, *words, field=field)
    assert list(directory.models.iterdir()) == []


@pytest.mark.parametrize("whole", [False, True])
def test_a_stream_that_breaks_leaves_nothing(
    stub: ModelServiceStub, file: bytes, directory: DataDirectory, whole: bool
) -> None:
    sent, hold = threading.Event(), threading.Event()

    def broken() -> Iterator[pb.ImportModelRequest]:
        yield from messages(file)[: None if whole else 2]
        sent.set()
        hold.wait(DEADLINE)

    call = stub.ImportModel.future(broken(), timeout=DEADLINE)
    assert sent.wait(DEADLINE)
    wait_for(lambda: len(list(directory.models.iterdir())) == 1)  # the spool
    call.cancel()
    hold.set()
    wait_for(lambda: not list(directory.models.iterdir()))
    assert not stub.ListModels(pb.ListModelsRequest(), timeout=DEADLINE).models


def wait_for(condition: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(1000):
        if condition():
            return
        waiting.wait(0.01)
    pytest.fail("waited 10 s in vain")


def test_a_client_that_falls_silent_is_cut_off(
    stub: ModelServiceStub, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_server.models.Silence", lambda context: rpc.Silence(context, 0.2))
    hold = threading.Event()

    def silent() -> Iterator[pb.ImportModelRequest]:
        yield FIRST
        hold.wait(DEADLINE)

    with pytest.raises(grpc.RpcError) as caught:
        stub.ImportModel(silent(), timeout=DEADLINE)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.CANCELLED
    hold.set()
    wait_for(lambda: not list(directory.models.iterdir()))


def test_a_damaged_or_missing_file_is_not_exported(
    stub: ModelServiceStub, make_version: MakeVersion, directory: DataDirectory, refused: Refused
) -> None:
    name = make_version()
    [path] = directory.models.iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(lambda: receive(stub, name), DATA_LOSS, name, "checksum")
    make_version("other", seed=1)
    [other] = set(directory.models.iterdir()) - {path}
    path.write_bytes(other.read_bytes())
    refused(lambda: receive(stub, name), DATA_LOSS, name, "hash")
    path.unlink()
    refused(lambda: receive(stub, name), DATA_LOSS, name)
    refused(lambda: receive(stub, "models/none"), grpc.StatusCode.NOT_FOUND, "models/none")
    refused(lambda: receive(stub, "mnist"), INVALID, field="model")


def test_a_version_that_is_deleted_while_it_is_exported_arrives_whole(
    stub: ModelServiceStub,
    make_version: MakeVersion,
    directory: DataDirectory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mnist_server.model_files.CHUNK_BYTES", 1000)
    name = make_version("big")
    responses = stub.ExportModel(pb.ExportModelRequest(model=name), timeout=DEADLINE)
    described = next(responses).file
    stub.DeleteModel(pb.DeleteModelRequest(model="models/big", force=True), timeout=DEADLINE)
    assert list(directory.models.iterdir()) == []
    data = b"".join(response.chunk for response in responses)
    assert hashlib.sha256(data).hexdigest() == described.sha256
    assert len(data) > 4 * 23_860
