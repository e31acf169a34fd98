"""Classes of any number and name, and models that begin with what another has learnt, through a server."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_client.datasets import Dataset
from mnist_core import Network, read_model
from mnist_proto.inference import inference_pb2
from mnist_proto.inference.inference_pb2_grpc import GRPCInferenceServiceStub
from mnist_proto.v1 import evaluation_pb2, images_pb2, model_pb2, prediction_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceStub
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.data_directory import DataDirectory

TIMEOUT = 60.0
NAMES = ("even", "odd", "ünlikely")
Refused = Callable[..., grpc.RpcError]
Train = Callable[..., pb.TrainingJob]


def batch(images: NDArray[np.uint8], labels: NDArray[Any]) -> images_pb2.LabeledImages:
    made = images_pb2.LabeledImages(
        pixels=images.tobytes(), height=28, width=28, split=images_pb2.SPLIT_TRAIN
    )
    if labels.max() > 255:
        made.labels16 = labels.astype("<u2").tobytes()
    else:
        made.labels = labels.astype(np.uint8).tobytes()
    return made


@pytest.fixture
def train(channel: grpc.Channel, digits: Dataset) -> Train:
    """train(labels=None, images=500, **fields of TrainingConfig) -> the job, which has succeeded."""
    stub = TrainingServiceStub(channel)

    def train(labels: NDArray[Any] | None = None, images: int = 500, **fields: Any) -> pb.TrainingJob:
        asked: dict[str, Any] = {"seed": 1, "epochs": 2, "recipe": "quick"} | fields
        learnt = digits.train.images[:images]
        given = digits.train.labels[:images] if labels is None else labels
        messages = [
            pb.TrainRequest(config=pb.TrainingConfig(**asked)),
            pb.TrainRequest(batch=batch(learnt, given)),
        ]
        *_, last = (answer.event for answer in stub.Train(iter(messages), timeout=TIMEOUT))
        assert last.HasField("succeeded"), last
        return stub.GetTrainingJob(pb.GetTrainingJobRequest(job=last.job), timeout=TIMEOUT).job

    return train


def parity(digits: Dataset, images: int = 500) -> NDArray[np.uint8]:
    return digits.train.labels[:images].astype(np.uint8) % 2


def network(directory: DataDirectory, job: pb.TrainingJob) -> Network:
    return read_model(directory.models / f"{job.name[5:]}.safetensors").network


def test_names_travel_with_the_model_into_every_answer(
    channel: grpc.Channel, train: Train, digits: Dataset
) -> None:
    job = train(parity(digits), class_names=NAMES, epochs=8, model="models/parity")
    assert list(job.config.layer_sizes) == [784, 100, 3]
    assert tuple(job.config.config.class_names) == NAMES
    version = ModelServiceStub(channel).GetModel(
        model_pb2.GetModelRequest(model="models/parity"), timeout=TIMEOUT
    ).model.versions[0]  # fmt: skip
    assert tuple(version.network.class_names) == NAMES

    request = prediction_pb2.PredictRequest(
        model="models/parity", pixels=digits.train.images[:50].tobytes(), height=28, width=28
    )
    stub = PredictionServiceStub(channel)
    answers = [stub.Predict(request, timeout=TIMEOUT) for _ in range(2)]  # in memory from the second on
    [streamed] = stub.PredictStream(
        iter([prediction_pb2.PredictStreamRequest(request=request)]), timeout=TIMEOUT
    )
    for answer in [*answers, streamed.response]:
        assert (tuple(answer.class_names), answer.classes) == (NAMES, 3)
        right = sum(digit == label for digit, label in zip(answer.digits, parity(digits, 50), strict=True))
        assert right >= 45

    judged = (
        EvaluationServiceStub(channel)
        .Evaluate(
            iter(
                [
                    evaluation_pb2.EvaluateRequest(
                        config=evaluation_pb2.EvaluationConfig(model="models/parity")
                    ),
                    evaluation_pb2.EvaluateRequest(batch=batch(digits.train.images[:50], parity(digits, 50))),
                ]
            ),
            timeout=TIMEOUT,
        )
        .evaluation
    )
    assert (tuple(judged.class_names), judged.correct) == (NAMES, right)


def test_names_are_in_classifications_of_the_open_inference_protocol(
    channel: grpc.Channel, train: Train, digits: Dataset
) -> None:
    train(parity(digits), class_names=NAMES, epochs=8, model="models/parity")
    image = digits.train.images[:1]
    request = inference_pb2.ModelInferRequest(model_name="parity", raw_input_contents=[image.tobytes()])
    request.inputs.add(name="images", datatype="UINT8", shape=[1, 784])
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 1
    answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=TIMEOUT)
    [data] = answer.raw_output_contents
    share, place, name = data[4:].decode().split(":")
    assert (int(place), name) == (parity(digits, 1)[0], NAMES[int(place)])
    assert float(share) > 0.5


def test_names_survive_export_and_import(channel: grpc.Channel, train: Train, digits: Dataset) -> None:
    train(parity(digits), class_names=NAMES, model="models/parity")
    stub = ModelServiceStub(channel)
    request = model_pb2.ExportModelRequest(model="models/parity")
    first, *rest = stub.ExportModel(request, timeout=TIMEOUT)
    config = model_pb2.ImportConfig(model="models/copy", size=first.file.size, sha256=first.file.sha256)
    messages = [model_pb2.ImportModelRequest(config=config)]
    messages += [model_pb2.ImportModelRequest(chunk=message.chunk) for message in rest]
    version = stub.ImportModel(iter(messages), timeout=TIMEOUT).version
    assert tuple(version.network.class_names) == NAMES


def test_a_thousand_classes(channel: grpc.Channel, train: Train, digits: Dataset) -> None:
    labels = digits.train.labels[:500].astype(np.uint16) * 111
    names = [f"class {index}" for index in range(1000)]
    job = train(labels, class_names=names, epochs=3, model="models/many")
    assert job.config.layer_sizes[-1] == 1000
    answer = PredictionServiceStub(channel).Predict(
        prediction_pb2.PredictRequest(
            model="models/many", pixels=digits.train.images[:100].tobytes(), height=28, width=28
        ),
        timeout=TIMEOUT,
    )
    assert (answer.classes, len(answer.probabilities)) == (1000, 100 * 1000)
    assert list(answer.class_names) == names
    # It has learnt by now which of the thousand there are, and names them by more than a byte.
    assert {int(digit) % 111 for digit in answer.digits} == {0}
    assert max(answer.digits) > 255


@pytest.mark.parametrize(("most", "classes"), [(1, 10), (9, 10), (10, 11), (299, 300)])
def test_without_names_there_are_ten_classes_or_as_many_as_labels_need(
    train: Train, digits: Dataset, most: int, classes: int
) -> None:
    labels = np.zeros(500, int)
    labels[0] = most
    job = train(labels)
    assert (job.config.layer_sizes[-1], list(job.config.config.class_names)) == (classes, [])


@pytest.mark.parametrize(
    ("names", "field", "words"),
    [
        (["a"], "config.class_names", ("1 names", "2 to 1000")),
        (["a"] * 1001, "config.class_names", ("1001 names", "2 to 1000")),
        (["a", "b", "a"], "config.class_names[2]", ("each name once",)),
        (["a", ""], "config.class_names[1]", ("1 to 64 printable characters",)),
        (["a", "x" * 65], "config.class_names[1]", ("1 to 64 printable characters",)),
        (["a\n", "b"], "config.class_names[0]", ("1 to 64 printable characters",)),
        (list("abcdefghi"), "config.class_names", ("9 names", "at least 10, since 9 is a label")),
    ],
)
def test_names_that_cannot_be_are_refused(
    channel: grpc.Channel, digits: Dataset, refused: Refused, names: list[str], field: str, words: Any
) -> None:
    messages = [
        pb.TrainRequest(config=pb.TrainingConfig(class_names=names)),
        pb.TrainRequest(batch=batch(digits.train.images[:500], digits.train.labels[:500])),
    ]
    call = TrainingServiceStub(channel).Train
    refused(
        lambda: list(call(iter(messages), timeout=TIMEOUT)),
        grpc.StatusCode.INVALID_ARGUMENT, *words, field=field,
    )  # fmt: skip


def test_fine_tuning_begins_with_what_the_other_has_learnt(
    directory: DataDirectory, train: Train, digits: Dataset
) -> None:
    layers = [
        pb.Layer(convolution=pb.ConvolutionLayer(features=4, size=5)),
        pb.Layer(max_pool=pb.MaxPoolLayer()),
    ]
    base = train(layers=layers, model="models/base", epochs=4)
    tuned = train(
        parity(digits), class_names=NAMES, base_model="models/base", recipe="", learning_rate=1e-9, epochs=1
    )
    assert tuned.config.config.base_model == base.model_version
    # So small a step leaves all as it was, but the last layer, which is for other classes.
    before, after = network(directory, base), network(directory, tuned)
    for here, there in zip(before.layers[:-1], after.layers[:-1], strict=True):
        np.testing.assert_allclose(here.block, there.block, atol=1e-6)
    assert after.layers[-1].block.shape == (before.layers[-1].block.shape[0], 3)
    # What was not given is as it was in the base model's own training.
    asked, own = tuned.config.config, base.config.config
    assert (asked.layers, asked.optimizer, asked.batch_size) == (own.layers, own.optimizer, own.batch_size)

    again = train(base_model=base.model_version, recipe="", learning_rate=1e-9, epochs=1)
    np.testing.assert_allclose(network(directory, again).parameters, before.parameters, atol=1e-6)


def test_fine_tuning_keeps_the_names_where_none_are_given(
    train: Train, digits: Dataset, directory: DataDirectory
) -> None:
    train(parity(digits), class_names=NAMES, model="models/base")
    tuned = train(parity(digits), base_model="models/base")
    assert tuple(tuned.config.config.class_names) == NAMES
    assert read_model(directory.models / f"{tuned.name[5:]}.safetensors").class_names == NAMES
    # Digits do not fit into three classes.
    assert list(train(base_model="models/base").config.config.class_names) == []


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"base_model": "models/none"}, grpc.StatusCode.NOT_FOUND, ("models/none",)),
        ({"base_model": "Mine"}, grpc.StatusCode.INVALID_ARGUMENT, ("config.base_model", "Mine")),
        (
            {"base_model": "models/base", "hidden_layers": pb.HiddenLayers(sizes=[30])},
            grpc.StatusCode.INVALID_ARGUMENT,
            ("config.hidden_layers.sizes", "(30,)", "(100,), as models/base/versions/1 has"),
        ),
        (
            {"base_model": "models/base", "dtype": pb.DTYPE_FLOAT64},
            grpc.StatusCode.INVALID_ARGUMENT,
            ("config.dtype", "float64", "float32, as models/base/versions/1 has"),
        ),
    ],
)
def test_what_does_not_fit_the_base_model_is_refused(
    channel: grpc.Channel,
    train: Train,
    digits: Dataset,
    refused: Refused,
    fields: dict[str, Any],
    code: grpc.StatusCode,
    words: tuple[str, ...],
) -> None:
    train(model="models/base", epochs=1)
    messages = [
        pb.TrainRequest(config=pb.TrainingConfig(**fields)),
        pb.TrainRequest(batch=batch(digits.train.images[:500], digits.train.labels[:500])),
    ]
    call = TrainingServiceStub(channel).Train
    refused(lambda: list(call(iter(messages), timeout=TIMEOUT)), code, *words)


def test_images_of_another_size_do_not_fit(channel: grpc.Channel, train: Train, refused: Refused) -> None:
    train(model="models/base", epochs=1)
    small = images_pb2.LabeledImages(
        pixels=bytes(8), height=2, width=2, labels=b"\0\1", split=images_pb2.SPLIT_TRAIN
    )
    messages = [
        pb.TrainRequest(config=pb.TrainingConfig(base_model="models/base")),
        pb.TrainRequest(batch=small),
    ]
    call = TrainingServiceStub(channel).Train
    refused(
        lambda: list(call(iter(messages), timeout=TIMEOUT)),
        grpc.StatusCode.INVALID_ARGUMENT, "2 x 2", "28 x 28 pixels, as models/base/versions/1 takes",
    )  # fmt: skip
