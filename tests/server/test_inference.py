import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client.datasets import Dataset
from mnist_core import InvalidValue, load_model
from mnist_proto.inference import inference_pb2 as pb
from mnist_proto.inference.inference_pb2_grpc import GRPCInferenceServiceStub
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import InvalidRequest
from mnist_server.inference import Inference
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics
from mnist_server.registry import ModelRegistry
from mnist_server.rpc import Later
from mnist_server.serving import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
DEADLINE = 5.0
Pixels = NDArray[np.uint8] | NDArray[np.float32]
Refused = Callable[..., Any]


@pytest.fixture
def stub(make_version: Callable[..., str], channel: grpc.Channel) -> GRPCInferenceServiceStub:
    """The service, with a network that was never trained as the model `mnist`."""
    make_version()
    return GRPCInferenceServiceStub(channel)


@pytest.fixture
def images(digits: Dataset) -> NDArray[np.uint8]:
    return digits.train.images[:25]


@pytest.fixture
def expected(directory: DataDirectory, stub: object, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network makes of the images."""
    [file] = directory.models.iterdir()
    return np.asarray(load_model(file)[0].predict(images), np.float32)


def ask(images: Pixels, datatype: str = "UINT8", **fields: Any) -> pb.ModelInferRequest:
    fields.setdefault("model_name", "mnist")
    request = pb.ModelInferRequest(raw_input_contents=[images.tobytes()], **fields)
    request.inputs.add(name="images", datatype=datatype, shape=images.shape)
    return request


def floats(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (images / 255).astype(np.float32)


def outputs(response: pb.ModelInferResponse) -> dict[str, tuple[str, list[int], bytes]]:
    """Each tensor's datatype, shape and bytes, by its name."""
    return {
        tensor.name: (tensor.datatype, list(tensor.shape), raw)
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def probabilities(response: pb.ModelInferResponse) -> NDArray[np.float32]:
    datatype, shape, raw = outputs(response)["probabilities"]
    assert datatype == "FP32"
    return np.frombuffer(raw, "<f4").reshape(shape)


def digit(response: pb.ModelInferResponse) -> list[int]:
    datatype, shape, raw = outputs(response)["digit"]
    assert datatype == "INT64"
    numbers = np.frombuffer(raw, "<i8")
    assert shape == [len(numbers)]
    return [int(number) for number in numbers]


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
@pytest.mark.parametrize("shape", [(25, 784), (25, 28, 28)])
def test_answers_with_probabilities_and_digits(
    stub: GRPCInferenceServiceStub,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    datatype: str,
    shape: tuple[int, ...],
) -> None:
    given: Pixels = images if datatype == "UINT8" else floats(images)
    response = stub.ModelInfer(ask(given.reshape(shape), datatype, id="of mine"), timeout=DEADLINE)
    assert (response.model_name, response.model_version, response.id) == ("mnist", "1", "of mine")
    np.testing.assert_allclose(probabilities(response), expected, atol=1e-5)
    assert digit(response) == expected.argmax(axis=1).tolist()
    assert [tensor.name for tensor in response.outputs] == ["probabilities", "digit"]
    assert not any(tensor.HasField("contents") for tensor in response.outputs)


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_typed_contents_are_understood_and_answered_raw(
    stub: GRPCInferenceServiceStub,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    datatype: str,
) -> None:
    request = ask(images, datatype)
    del request.raw_input_contents[:]
    if datatype == "UINT8":
        request.inputs[0].contents.uint_contents.extend(images.ravel().tolist())
    else:
        request.inputs[0].contents.fp32_contents.extend(floats(images).ravel().tolist())
    response = stub.ModelInfer(request, timeout=DEADLINE)
    np.testing.assert_allclose(probabilities(response), expected, atol=1e-5)
    assert len(response.raw_output_contents) == 2


@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_large_requests_are_answered_as_small_ones(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], expected: NDArray[np.float32], datatype: str
) -> None:
    many = np.tile(images, (60, 1, 1))  # 1,500: more than one product, and too many for some hot methods
    request = ask(many) if datatype == "UINT8" else ask(floats(many), datatype)
    response = stub.ModelInfer(request, timeout=DEADLINE)
    np.testing.assert_allclose(probabilities(response), np.tile(expected, (60, 1)), atol=1e-5)


def test_outputs_are_those_asked_for_in_that_order(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    request = ask(images)
    request.outputs.add(name="digit")
    response = stub.ModelInfer(request, timeout=DEADLINE)
    assert list(outputs(response)) == ["digit"]
    assert digit(response) == expected.argmax(axis=1).tolist()
    request.outputs.add(name="probabilities")
    assert list(outputs(stub.ModelInfer(request, timeout=DEADLINE))) == ["digit", "probabilities"]


@pytest.mark.parametrize(("classes", "answered"), [(3, 3), (10, 10), (2**62, 10)])
def test_classification_names_the_likeliest_classes(
    stub: GRPCInferenceServiceStub,
    images: NDArray[np.uint8],
    expected: NDArray[np.float32],
    classes: int,
    answered: int,
) -> None:
    request = ask(images[:2])
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = classes
    datatype, shape, raw = outputs(stub.ModelInfer(request, timeout=DEADLINE))["probabilities"]
    assert (datatype, shape) == ("BYTES", [2, answered])
    texts = []
    while raw:
        size = int.from_bytes(raw[:4], "little")
        texts.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    assert len(texts) == 2 * answered
    for row, numbers in zip((texts[:answered], texts[answered:]), expected[:2], strict=True):
        best = np.argsort(-numbers, kind="stable")[:answered]
        assert [int(text.split(":")[1]) for text in row] == best.tolist()
        np.testing.assert_allclose([float(text.split(":")[0]) for text in row], numbers[best], atol=2e-6)


def test_versions_are_numbers_aliases_or_the_default(
    stub: GRPCInferenceServiceStub, make_version: Callable[..., str], images: NDArray[np.uint8]
) -> None:
    make_version(seed=1)

    def answers(version: str) -> str:
        request = ask(images[:1], model_version=version)
        return stub.ModelInfer(request, timeout=DEADLINE).model_version

    assert [answers(version) for version in ("", "1", "2", "default")] == ["1", "1", "2", "1"]
    make_version(seed=2, promote=True)
    deadline = time.monotonic() + DEADLINE  # another process than the server promoted it
    while answers("") != "3":
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("nobody", "", ("nobody", "models/mnist")),
        ("no_body", "", ("no_body",)),
        ("mnist", "99", ("99", "models/mnist/versions/1")),
        ("mnist", "07", ("07",)),
        ("mnist", "1.0", ("1.0",)),
        ("mnist", "stable", ("stable",)),
    ],
)
def test_unknown_models_are_not_found(
    stub: GRPCInferenceServiceStub,
    images: NDArray[np.uint8],
    refused: Refused,
    name: str,
    version: str,
    words: tuple[str, ...],
) -> None:
    request = ask(images, model_name=name, model_version=version)
    refused(lambda: stub.ModelInfer(request, timeout=DEADLINE), NOT_FOUND, *words)
    described = pb.ModelMetadataRequest(name=name, version=version)
    refused(lambda: stub.ModelMetadata(described, timeout=DEADLINE), NOT_FOUND, *words)
    configured = pb.ModelConfigRequest(name=name, version=version)
    refused(lambda: stub.ModelConfig(configured, timeout=DEADLINE), NOT_FOUND, *words)
    counted = pb.ModelStatisticsRequest(name=name, version=version)
    refused(lambda: stub.ModelStatistics(counted, timeout=DEADLINE), NOT_FOUND, *words)
    ready = pb.ModelReadyRequest(name=name, version=version)
    assert not stub.ModelReady(ready, timeout=DEADLINE).ready


def test_a_model_must_be_named(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], refused: Refused
) -> None:
    request = ask(images, model_name="")
    refused(lambda: stub.ModelInfer(request, timeout=DEADLINE), INVALID, field="model_name")


def change(request: pb.ModelInferRequest, how: str) -> None:
    """Makes a request for 25 images of UINT8 wrong."""
    tensor = request.inputs[0]
    raw = request.raw_input_contents
    size = 25 * 784
    if how == "both contents":
        tensor.contents.uint_contents.extend([0] * size)
    elif how == "no contents":
        del raw[:]
    elif how == "typed otherwise":
        del raw[:]
        tensor.contents.int_contents.extend([0] * size)
    elif how == "typed too few":
        del raw[:]
        tensor.contents.uint_contents.extend([0] * 5)
    elif how == "typed too large":
        del raw[:]
        tensor.contents.uint_contents.extend([0] * 3 + [256] + [0] * (size - 4))
    elif how == "a byte more":
        raw[0] += b"x"
    elif how == "two raw":
        raw.append(b"")
    elif how == "no input":
        del request.inputs[:]
    elif how == "two inputs":
        request.inputs.append(tensor)
    elif how == "an unknown input":
        tensor.name = "pictures"
    elif how == "a datatype":
        tensor.datatype = "INT8"
    elif how == "no images":
        tensor.shape[:] = [0, 784]
        raw[0] = b""
    elif how == "minus one":
        tensor.shape[0] = -1
    elif how == "one dimension":
        tensor.shape[:] = [784]
    elif how == "other images":
        tensor.shape[:] = [25, 14, 56]
    elif how == "too many":
        tensor.shape[0] = 10**12
    elif how == "an unknown output":
        request.outputs.add(name="logits")
    elif how == "an output twice":
        request.outputs.add(name="digit")
        request.outputs.add(name="digit")
    elif how == "classes of digit":
        request.outputs.add(name="digit").parameters["classification"].int64_param = 3
    elif how == "no classes":
        request.outputs.add(name="probabilities").parameters["classification"].int64_param = 0
    elif how == "classes as text":
        request.outputs.add(name="probabilities").parameters["classification"].string_param = "3"
    elif how == "shared memory in":
        tensor.parameters["shared_memory_region"].string_param = "region"
    elif how == "shared memory out":
        request.outputs.add(name="digit").parameters["shared_memory_region"].string_param = "region"
    else:
        raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "field", "words"),
    [
        ("both contents", "inputs[0].contents", ("none beside raw_input_contents",)),
        ("no contents", "inputs[0].contents", ("nothing", "uint_contents", "raw_input_contents")),
        ("typed otherwise", "inputs[0].contents", ("int_contents", "uint_contents", "UINT8")),
        ("typed too few", "inputs[0].contents.uint_contents", ("5 numbers", "19600")),
        ("typed too large", "inputs[0].contents.uint_contents[3]", ("256", "0 to 255")),
        ("a byte more", "raw_input_contents[0]", ("19601 bytes", "19600 bytes", "[25, 28, 28]")),
        ("two raw", "raw_input_contents", ("2 entries", "1 inputs")),
        ("no input", "inputs", ("[]", "one tensor", "images")),
        ("two inputs", "inputs", ("one tensor", "images")),
        ("an unknown input", "inputs[0].name", ("pictures", "images")),
        ("a datatype", "inputs[0].datatype", ("INT8", "UINT8 or FP32")),
        ("no images", "inputs[0].shape", ("[0, 784]", "1 to 16384")),
        ("minus one", "inputs[0].shape", ("[-1, 28, 28]", "1 to 16384")),
        ("one dimension", "inputs[0].shape", ("[784]", "[-1, 784] or [-1, 28, 28]")),
        ("other images", "inputs[0].shape", ("[25, 14, 56]", "[-1, 28, 28]")),
        ("too many", "inputs[0].shape", ("1000000000000", "1 to 16384")),
        ("an unknown output", "outputs[0].name", ("logits", "probabilities", "digit")),
        ("an output twice", "outputs[1].name", ("digit", "once")),
        ("classes of digit", "outputs[0].parameters[classification]", ("digit", "probabilities")),
        ("no classes", "outputs[0].parameters[classification]", ("int64_param: 0", "at least 1")),
        ("classes as text", "outputs[0].parameters[classification]", ("string_param", "int64_param")),
        ("shared memory in", "inputs[0].parameters", ("shared_memory_region", "no shared memory")),
        ("shared memory out", "outputs[0].parameters", ("shared_memory_region", "no shared memory")),
    ],
)
def test_refusals_say_what_is_wrong(
    stub: GRPCInferenceServiceStub,
    images: NDArray[np.uint8],
    refused: Refused,
    how: str,
    field: str,
    words: tuple[str, ...],
) -> None:
    request = ask(images)
    change(request, how)
    for _ in range(2):  # the first loads the model, the second finds it in memory
        refused(lambda: stub.ModelInfer(request, timeout=DEADLINE), INVALID, *words, field=field)


@pytest.mark.parametrize(
    ("number", "said"),
    [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf"), (1.5, "1.5"), (-0.5, "-0.5")],
)
def test_pixels_out_of_range_are_refused(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], refused: Refused, number: float, said: str
) -> None:
    wrong = floats(images)
    wrong[1, 0, 2] = number
    request = ask(wrong, "FP32")
    words = (said, "finite", "0 to 1", "number 786")
    for _ in range(2):
        refused(lambda: stub.ModelInfer(request, timeout=DEADLINE), INVALID, *words, field="inputs[0]")


def test_a_negative_nought_is_a_nought(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    pixels = floats(images)
    pixels[pixels == 0] = -0.0
    assert np.signbit(pixels).any()
    response = stub.ModelInfer(ask(pixels, "FP32"), timeout=DEADLINE)
    np.testing.assert_allclose(probabilities(response), expected, atol=1e-5)


def test_what_is_no_message_is_refused(stub: object, channel: grpc.Channel, refused: Refused) -> None:
    call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    refused(lambda: call(b"\xff", timeout=DEADLINE), INVALID, "1 bytes", field="request")


def test_a_stream_answers_in_order_and_outlives_a_bad_message(
    stub: GRPCInferenceServiceStub, images: NDArray[np.uint8], expected: NDArray[np.float32]
) -> None:
    def requests() -> Iterator[pb.ModelInferRequest]:
        for place in range(5):
            request = ask(images[place : place + 1], id=str(place))
            if place == 2:
                request.inputs[0].datatype = "INT8"
            yield request

    answers = list(stub.ModelStreamInfer(requests(), timeout=DEADLINE))
    assert [answer.infer_response.id for answer in answers] == list("01234")
    for place, answer in enumerate(answers):
        if place == 2:
            assert "INT8" in answer.error_message
            assert not answer.infer_response.outputs
        else:
            assert not answer.error_message
            np.testing.assert_allclose(
                probabilities(answer.infer_response), expected[place : place + 1], atol=1e-5
            )
            assert answer.infer_response.parameters["triton_final_response"].bool_param


def test_describes_server_and_model(
    stub: GRPCInferenceServiceStub, make_version: Callable[..., str], limits: Limits
) -> None:
    make_version(seed=1)
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=DEADLINE).live
    assert stub.ServerReady(pb.ServerReadyRequest(), timeout=DEADLINE).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="mnist"), timeout=DEADLINE).ready
    server = stub.ServerMetadata(pb.ServerMetadataRequest(), timeout=DEADLINE)
    assert server.name == "mnist-server"
    assert "statistics" in server.extensions
    model = stub.ModelMetadata(pb.ModelMetadataRequest(name="mnist"), timeout=DEADLINE)
    assert (model.name, list(model.versions)) == ("mnist", ["2", "1"])
    one = stub.ModelMetadata(pb.ModelMetadataRequest(name="mnist", version="1"), timeout=DEADLINE)
    assert list(one.versions) == ["1"]
    config = stub.ModelConfig(pb.ModelConfigRequest(name="mnist"), timeout=DEADLINE).config
    assert config.max_batch_size == limits.max_images_per_request
    configured: list[Any] = [*config.input, *config.output]
    # The same tensors, with and without the number of images.
    described = [(t.name, list(t.shape)) for t in (*model.inputs, *model.outputs)]
    assert described == [("images", [-1, 784]), ("probabilities", [-1, 10]), ("digit", [-1])]
    assert [(t.name, [-1, *t.dims]) for t in configured] == described
    types = [pb.DataType.Name(t.data_type) for t in configured]
    assert types == [f"TYPE_{t.datatype}" for t in (*model.inputs, *model.outputs)]


def test_indexes_the_versions_of_all_models(
    stub: GRPCInferenceServiceStub,
    make_version: Callable[..., str],
    images: NDArray[np.uint8],
    refused: Refused,
) -> None:
    make_version(seed=1)
    make_version("another")
    stub.ModelInfer(ask(images, model_version="2"), timeout=DEADLINE)
    index = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=DEADLINE).models
    names = [(model.name, model.version) for model in index]
    assert names == [("another", "1"), ("mnist", "2"), ("mnist", "1")]
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=DEADLINE).models
    assert ("mnist", "2") in [(model.name, model.version) for model in ready if model.state == "READY"]
    elsewhere = pb.RepositoryIndexRequest(repository_name="elsewhere")
    refused(lambda: stub.RepositoryIndex(elsewhere, timeout=DEADLINE), NOT_FOUND, "elsewhere")


def test_statistics_count_requests_images_and_refusals(
    stub: GRPCInferenceServiceStub,
    make_version: Callable[..., str],
    images: NDArray[np.uint8],
    refused: Refused,
) -> None:
    make_version(seed=1)
    wrong = ask(images)
    wrong.inputs[0].datatype = "INT8"
    for _ in range(3):
        stub.ModelInfer(ask(images), timeout=DEADLINE)
    refused(lambda: stub.ModelInfer(wrong, timeout=DEADLINE), INVALID)
    both = stub.ModelStatistics(pb.ModelStatisticsRequest(name="mnist"), timeout=DEADLINE).model_stats
    assert [(each.name, each.version) for each in both] == [("mnist", "2"), ("mnist", "1")]
    unasked, asked = both
    assert (unasked.inference_count, unasked.last_inference) == (0, 0)
    assert (asked.inference_count, asked.execution_count) == (75, 3)
    assert asked.inference_stats.success.count == asked.inference_stats.compute_infer.count == 3
    assert asked.inference_stats.success.ns >= asked.inference_stats.compute_infer.ns > 0
    assert asked.inference_stats.fail.count == 1
    assert abs(asked.last_inference / 1000 - time.time()) < 60
    one = pb.ModelStatisticsRequest(name="mnist", version="1")
    assert list(stub.ModelStatistics(one, timeout=DEADLINE).model_stats) == [asked]
    every = pb.ModelStatisticsRequest()
    assert list(stub.ModelStatistics(every, timeout=DEADLINE).model_stats) == list(both)
    nameless = pb.ModelStatisticsRequest(version="1")
    refused(lambda: stub.ModelStatistics(nameless, timeout=DEADLINE), INVALID, field="name")


def test_a_server_that_drains_is_not_ready(server: Server, stub: GRPCInferenceServiceStub) -> None:
    server._health.drain()
    assert not stub.ServerReady(pb.ServerReadyRequest(), timeout=DEADLINE).ready
    assert not stub.ModelReady(pb.ModelReadyRequest(name="mnist"), timeout=DEADLINE).ready
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=DEADLINE).live


class TestManyAtOnce:
    """The hot method itself."""

    @pytest.fixture
    def metrics(self) -> Metrics:
        return Metrics()

    @pytest.fixture
    def registry(self, database: Database, directory: DataDirectory) -> ModelRegistry:
        return ModelRegistry(database, directory.models)

    @pytest.fixture
    def inference(
        self, registry: ModelRegistry, metrics: Metrics, make_version: Callable[..., str]
    ) -> Inference:
        """With two versions, the default of which is in memory."""
        make_version()
        make_version(seed=1)
        registry.load("models/mnist", field="model")
        return Inference(registry, Limits(), metrics, 5e7)

    def test_each_is_answered_as_if_alone(
        self,
        inference: Inference,
        registry: ModelRegistry,
        metrics: Metrics,
        images: NDArray[np.uint8],
    ) -> None:
        registry.load("models/mnist/versions/2", field="model")
        requests = [
            ask(images[:3], id="a"),
            ask(floats(images[3:4]), "FP32"),
            ask(images[4:5], model_version="2"),
            ask(images[5:9].reshape(4, 784), id="b"),
            ask(floats(images[9:10]), "FP32", id="c"),
        ]
        requests[3].outputs.add(name="digit")
        data = [request.SerializeToString() for request in requests]
        together = [pb.ModelInferResponse.FromString(bytes_of(answer)) for answer in inference.infer(data)]
        passes = {name: model.passes for name, model in metrics.read().models.items()}
        assert passes == {"models/mnist/versions/1": 2, "models/mnist/versions/2": 1}
        for one, answer in zip(data, together, strict=True):
            [alone] = inference.infer([one])
            expected = pb.ModelInferResponse.FromString(bytes_of(alone))
            assert (answer.id, answer.model_version) == (expected.id, expected.model_version)
            assert list(answer.outputs) == list(expected.outputs)
            assert digit(answer) == digit(expected)
            if "probabilities" in outputs(expected):
                np.testing.assert_allclose(probabilities(answer), probabilities(expected), atol=1e-5)
        assert [answer.id for answer in together] == ["a", "", "", "b", "c"]

    def test_a_bad_one_does_not_touch_the_others(
        self, inference: Inference, images: NDArray[np.uint8], metrics: Metrics
    ) -> None:
        wrong = floats(images[:1])
        wrong[0, 5, 5] = np.nan
        data = [
            ask(floats(images[:1]), "FP32").SerializeToString(),
            ask(wrong, "FP32").SerializeToString(),
            b"\xff",
            ask(images[:1], "INT8").SerializeToString(),
            ask(floats(images[1:2]), "FP32").SerializeToString(),
        ]
        first, nan, no_message, datatype, last = inference.infer(data)
        assert isinstance(nan, InvalidValue)
        assert isinstance(no_message, InvalidRequest)
        assert isinstance(datatype, InvalidValue)
        [alone] = inference.infer(data[-1:])
        for answer, expected in ((first, inference.infer(data[:1])[0]), (last, alone)):
            np.testing.assert_allclose(
                probabilities(pb.ModelInferResponse.FromString(bytes_of(answer))),
                probabilities(pb.ModelInferResponse.FromString(bytes_of(expected))),
                atol=1e-5,
            )
        assert metrics.read().models["models/mnist/versions/1"].failures == 2

    def test_who_asks_after_a_model_was_loaded_is_answered_for_pixels_of_their_own(
        self, inference: Inference, registry: ModelRegistry, images: NDArray[np.uint8]
    ) -> None:
        first, second = (ask(images[n : n + 1], model_version="2").SerializeToString() for n in (0, 1))
        [answer] = inference.infer([first])
        assert isinstance(answer, Later)
        model = registry.load("models/mnist/versions/2", field="model")  # as Later does
        for place, data in ((1, second), (0, first)):
            [answer] = inference.infer([data])
            found = probabilities(pb.ModelInferResponse.FromString(bytes_of(answer)))
            np.testing.assert_allclose(found, model.network.predict(images[place : place + 1]), atol=1e-5)

    def test_what_takes_long_is_left_for_later(
        self,
        inference: Inference,
        registry: ModelRegistry,
        metrics: Metrics,
        images: NDArray[np.uint8],
    ) -> None:
        many = np.tile(images, (20, 1, 1))
        patient = Inference(registry, Limits(), metrics, 5e8)
        assert isinstance(patient.infer([ask(many).SerializeToString()])[0], bytes)
        classes = ask(many[:100])
        classes.outputs.add(name="probabilities").parameters["classification"].int64_param = 10
        requests = [ask(images, model_version="2"), ask(images, model_name="nobody"), ask(many), classes]
        answers = inference.infer([request.SerializeToString() for request in requests])
        assert all(isinstance(answer, Later) for answer in answers)


def bytes_of(answer: bytes | Exception) -> bytes:
    assert isinstance(answer, bytes), answer
    return answer
