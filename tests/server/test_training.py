import errno
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from mnist_client.datasets import Dataset
from mnist_core import (
    Augmentation,
    Convolution,
    Dense,
    Dropout,
    EpochReport,
    MaxPool,
    Split,
    TrainingConfig,
    TrainingState,
    train,
)
from mnist_core import Dataset as CoreDataset
from mnist_proto.v1 import evaluation_pb2, images_pb2, model_pb2, prediction_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceStub
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.dataset_files import Upload
from mnist_server.jobs import append
from mnist_server.limits import Limits
from mnist_server.rpc import Silence
from mnist_server.serving import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
TIMEOUT = 30.0
DEADLINE = 2.0
Refused = Callable[..., Any]
Messages = Callable[..., list[pb.TrainRequest]]

# A job that is still running when a test has seen enough of it: some 200 ms an epoch.
LONG: dict[str, Any] = {"train": 4000, "hidden_layers": pb.HiddenLayers(sizes=[300]), "epochs": 100_000}


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """The server's limits; a test gives its own through indirect parametrization."""
    return getattr(request, "param", Limits())


@pytest.fixture
def stub(channel: grpc.Channel) -> TrainingServiceStub:
    return TrainingServiceStub(channel)


@pytest.fixture
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are accepted wait."""
    monkeypatch.setattr("mnist_server.scheduler.Scheduler._begin", lambda self, job: None)


def events(call: Any) -> list[pb.TrainingEvent]:
    """All of a stream's events, to its end."""
    return [message.event for message in call if message.HasField("event")]


def kinds(history: list[pb.TrainingEvent]) -> list[str | None]:
    return [event.WhichOneof("event") for event in history]


def accept(stub: TrainingServiceStub, messages: list[pb.TrainRequest]) -> str:
    """Has a job accepted and leaves its stream. Returns its name."""
    call: Any = stub.Train(iter(messages), timeout=TIMEOUT)
    event = next(call).event
    assert event.WhichOneof("event") == "accepted"
    call.cancel()
    return str(event.job)


def get(stub: TrainingServiceStub, job: str) -> pb.TrainingJob:
    return stub.GetTrainingJob(pb.GetTrainingJobRequest(job=job), timeout=DEADLINE).job


def jobs(stub: TrainingServiceStub) -> list[pb.TrainingJob]:
    return list(stub.ListTrainingJobs(pb.ListTrainingJobsRequest(), timeout=DEADLINE).jobs)


def watch(stub: TrainingServiceStub, job: str, after: int = 0) -> Any:
    return stub.WatchTraining(pb.WatchTrainingRequest(job=job, after_sequence=after), timeout=TIMEOUT)


def cancel(stub: TrainingServiceStub, job: str) -> pb.TrainingJob:
    return stub.CancelTraining(pb.CancelTrainingRequest(job=job), timeout=DEADLINE).job


def pause(stub: TrainingServiceStub, job: str) -> pb.TrainingJob:
    return stub.PauseTraining(pb.PauseTrainingRequest(job=job), timeout=DEADLINE).job


def resume(stub: TrainingServiceStub, job: str, *, allow_inexact: bool = False) -> pb.TrainingJob:
    request = pb.ResumeTrainingRequest(job=job, allow_inexact=allow_inexact)
    return stub.ResumeTraining(request, timeout=DEADLINE).job


def delete(stub: TrainingServiceStub, job: str) -> object:
    return stub.DeleteTrainingJob(pb.DeleteTrainingJobRequest(job=job), timeout=DEADLINE)


def until(call: Any, kind: str) -> pb.TrainingEvent:
    """Reads a stream up to the first event of a kind."""
    found: pb.TrainingEvent = next(m.event for m in call if m.event.WhichOneof("event") == kind)
    return found


def batch(**fields: Any) -> pb.TrainRequest:
    """A batch of two black images to train on, but for the fields given."""
    values: dict[str, Any] = {
        "pixels": bytes(2 * 784),
        "height": 28,
        "width": 28,
        "labels": b"\0\1",
        "split": 1,
    }
    return pb.TrainRequest(batch=images_pb2.LabeledImages(**values | fields))


def config(**fields: Any) -> pb.TrainRequest:
    return pb.TrainRequest(config=pb.TrainingConfig(**fields))


def assert_nothing_left(stub: TrainingServiceStub, directory: DataDirectory) -> None:
    """No job, no data set, no spool; waits for what the server's threads have not yet cleaned up."""
    for _ in range(200):
        if not list(directory.datasets.iterdir()):
            break
        threading.Event().wait(0.05)
    assert list(directory.datasets.iterdir()) == []
    assert jobs(stub) == []
    assert list(directory.jobs.iterdir()) == []


class TestTheMainJob:
    def test_trains_a_network_that_names_real_digits(
        self, stub: TrainingServiceStub, channel: grpc.Channel, make_messages: Messages, digits: Dataset
    ) -> None:
        assert digits.test is not None
        messages = make_messages(train=4000, test=1000, epochs=10, seed=5)
        history = events(stub.Train(iter(messages), timeout=TIMEOUT))
        assert kinds(history) == ["accepted", "started", *10 * ["epoch_finished"], "succeeded"]
        assert [event.sequence for event in history] == list(range(1, 14))
        [name] = {event.job for event in history}
        assert all(event.HasField("time") for event in history)

        resolved = history[0].accepted.config
        assert resolved.config.model == name.replace("jobs/", "models/")
        assert list(resolved.layer_sizes) == [784, 30, 10]
        assert (resolved.train_images, resolved.validation_images, resolved.test_images) == (4000, 0, 1000)
        assert (resolved.height, resolved.width) == (28, 28)
        assert resolved.dataset == f"datasets/{dataset_hash(digits)}"
        assert (resolved.config.seed, resolved.config.epochs, resolved.config.batch_size) == (5, 10, 10)
        assert resolved.config.learning_rate == 3.0
        assert resolved.environment.blas_threads == 1

        finished = [event.epoch_finished for event in history[2:-1]]
        expected = list(trained_here(digits, TrainingConfig(epochs=10, seed=5)))
        assert [
            (epoch.epoch, epoch.correct, epoch.total, epoch.loss, epoch.weights_hash) for epoch in finished
        ] == expected
        assert finished[-1].correct > 800  # of 1,000
        assert finished[-1].learning_rate == 3.0
        assert not finished[-1].HasField("validation_correct")

        version = history[-1].succeeded.model_version
        assert version == f"{resolved.config.model}/versions/1"
        assert history[-1].succeeded.stop_reason == pb.STOP_REASON_EPOCHS
        job = get(stub, name)
        assert job.state == pb.JOB_STATE_SUCCEEDED
        assert (job.model_version, job.model, job.last_sequence) == (version, resolved.config.model, 13)
        assert job.last_epoch == finished[-1]
        assert job.config == resolved
        assert (job.create_time, job.start_time, job.end_time) == (
            history[0].time,
            history[1].time,
            history[-1].time,
        )
        self.check_model(channel, job, digits)
        assert events(watch(stub, name)) == history
        assert events(watch(stub, name, after=3)) == history[3:]
        assert list(watch(stub, name, after=13)) == []

    @staticmethod
    def check_model(channel: grpc.Channel, job: pb.TrainingJob, digits: Dataset) -> None:
        request = model_pb2.GetModelRequest(model=job.model)
        model = ModelServiceStub(channel).GetModel(request, timeout=DEADLINE).model
        [version] = model.versions
        assert dict(model.aliases) == {"default": 1}
        assert (version.job, version.config, version.last_epoch) == (job.name, job.config, job.last_epoch)
        assert version.weights_hash == job.last_epoch.weights_hash
        assert version.parameters == 785 * 30 + 31 * 10
        test = digits.test
        assert test is not None
        asked = prediction_pb2.PredictRequest(
            model=job.model, pixels=test.images.tobytes(), height=28, width=28
        )
        answer = PredictionServiceStub(channel).Predict(asked, timeout=DEADLINE)
        assert answer.model == job.model_version
        assert np.count_nonzero(np.array(answer.digits) == test.labels) == job.last_epoch.correct
        images = images_pb2.LabeledImages(
            pixels=test.images.tobytes(), height=28, width=28, labels=test.labels.tobytes()
        )
        judged = EvaluationServiceStub(channel).Evaluate(
            iter(
                [
                    evaluation_pb2.EvaluateRequest(config=evaluation_pb2.EvaluationConfig(model=job.model)),
                    evaluation_pb2.EvaluateRequest(batch=images),
                ]
            ),
            timeout=DEADLINE,
        )
        assert judged.evaluation.correct == job.last_epoch.correct

    def test_every_hyperparameter_reaches_the_network(
        self, stub: TrainingServiceStub, make_messages: Messages, digits: Dataset
    ) -> None:
        messages = make_messages(
            train=300,
            test=0,
            hidden_layers=pb.HiddenLayers(sizes=[12, 11]),
            activation=pb.ACTIVATION_TANH,
            output=pb.OUTPUT_SOFTMAX,
            loss=pb.LOSS_CROSS_ENTROPY,
            initialization=pb.INITIALIZATION_SCALED,
            epochs=50,
            batch_size=7,
            learning_rate=0.1,
            weight_decay=0.001,
            momentum=0.5,
            patience=2,
            keep_best=True,
            validation_images=60,
            seed=2**64 - 1,
            dtype=pb.DTYPE_FLOAT64,
            model="models/mine",
        )
        history = events(stub.Train(iter(messages), timeout=TIMEOUT))
        config = TrainingConfig(
            hidden_sizes=(12, 11),
            activation="tanh",
            output="softmax",
            loss="cross_entropy",
            initialization="scaled",
            epochs=50,
            batch_size=7,
            learning_rate=0.1,
            weight_decay=0.001,
            momentum=0.5,
            patience=2,
            keep_best=True,
            seed=2**64 - 1,
            dtype="float64",
        )
        images, labels = digits.train.images[:300], digits.train.labels[:300]
        data = CoreDataset(Split(images[:240], labels[:240]), Split(images[240:], labels[240:]), None)
        state = TrainingState.begin(config)
        reports = [report for report in train(state, data, config) if isinstance(report, EpochReport)]
        finished = [event.epoch_finished for event in history if event.HasField("epoch_finished")]
        assert [epoch.loss for epoch in finished] == [report.loss for report in reports]
        assert finished[-1].weights_hash == state.network.weights_hash()
        assert [epoch.validation_correct for epoch in finished] == [
            report.validation_correct for report in reports
        ]
        assert [epoch.correct for epoch in finished] == [epoch.validation_correct for epoch in finished]
        assert finished[-1].validation_total == finished[-1].total == 60
        assert len(finished) < 50
        assert history[-1].succeeded.stop_reason == pb.STOP_REASON_EARLY_STOPPING
        assert history[-1].succeeded.model_version == "models/mine/versions/1"
        resolved = history[0].accepted.config
        sent = pb.TrainingConfig()
        sent.CopyFrom(messages[0].config)
        sent.dataset = resolved.dataset
        sent.optimizer, sent.schedule, sent.warm_up = pb.OPTIMIZER_SGD, pb.SCHEDULE_CONSTANT, 0.0
        assert resolved.config == sent
        assert (resolved.train_images, resolved.validation_images) == (240, 60)

    def test_a_convolutional_network_learns_through_the_server_as_it_does_in_core(
        self, channel: grpc.Channel, stub: TrainingServiceStub, make_messages: Messages, digits: Dataset
    ) -> None:
        layers = [
            pb.Layer(convolution=pb.ConvolutionLayer(features=4, size=5)),
            pb.Layer(max_pool=pb.MaxPoolLayer()),
            pb.Layer(dropout=pb.DropoutLayer(rate=0.25)),
            pb.Layer(dense=pb.DenseLayer(neurons=12)),
        ]
        messages = make_messages(
            train=300,
            test=0,
            layers=layers,
            activation=pb.ACTIVATION_RELU,
            output=pb.OUTPUT_SOFTMAX,
            loss=pb.LOSS_CROSS_ENTROPY,
            initialization=pb.INITIALIZATION_HE,
            optimizer=pb.OPTIMIZER_ADAMW,
            schedule=pb.SCHEDULE_COSINE,
            warm_up=0.1,
            clip_norm=1.0,
            augmentation=pb.Augmentation(rotation=5, elastic=10, elastic_sigma=3),
            epochs=2,
            batch_size=70,
            learning_rate=0.01,
            seed=7,
            model="models/convolutional",
        )
        history = events(stub.Train(iter(messages), timeout=TIMEOUT))
        config = TrainingConfig(
            layers=(Convolution(4, 5), MaxPool(), Dropout(0.25), Dense(12)),
            activation="relu",
            output="softmax",
            loss="cross_entropy",
            initialization="he",
            optimizer="adamw",
            schedule="cosine",
            warm_up=0.1,
            clip_norm=1.0,
            augmentation=Augmentation(rotation=5, elastic=10, elastic_sigma=3),
            epochs=2,
            batch_size=70,
            learning_rate=0.01,
            seed=7,
        )
        state = TrainingState.begin(config)
        split = Split(digits.train.images[:300], digits.train.labels[:300])
        assert len(list(train(state, CoreDataset(split), config))) >= 2
        finished = [event.epoch_finished for event in history if event.HasField("epoch_finished")]
        assert finished[-1].weights_hash == state.network.weights_hash()
        assert 0 < finished[-1].learning_rate < 0.001 < finished[0].learning_rate < 0.01
        request = model_pb2.GetModelRequest(model="models/convolutional")
        [version] = ModelServiceStub(channel).GetModel(request, timeout=DEADLINE).model.versions
        assert list(version.network.layers) == layers
        assert list(version.network.layer_sizes) == [784, 576, 12, 10]

    def test_without_test_and_validation_images_nothing_is_counted(
        self, stub: TrainingServiceStub, make_messages: Messages
    ) -> None:
        history = events(stub.Train(iter(make_messages(test=0, epochs=1)), timeout=TIMEOUT))
        [finished] = [event.epoch_finished for event in history if event.HasField("epoch_finished")]
        for field in ("correct", "total", "validation_correct", "validation_total"):
            assert not finished.HasField(field)

    def test_absent_seeds_are_drawn_and_said(
        self, stub: TrainingServiceStub, no_trainer: None, make_messages: Messages
    ) -> None:
        seeds = {get(stub, accept(stub, [config(), batch()])).config.config.seed for _ in range(3)}
        assert len(seeds) == 3

    def test_later_versions_become_the_default_only_when_promoted(
        self, stub: TrainingServiceStub, channel: grpc.Channel, make_messages: Messages
    ) -> None:
        models = ModelServiceStub(channel)
        for promote, default in ((False, 1), (False, 1), (True, 3)):
            messages = make_messages(train=20, test=0, epochs=1, model="models/mnist", promote=promote)
            events(stub.Train(iter(messages), timeout=TIMEOUT))
            model = models.GetModel(model_pb2.GetModelRequest(model="models/mnist"), timeout=DEADLINE).model
            assert dict(model.aliases) == {"default": default}
            # Watchers hear of a model once it can be asked.
            request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
            answer = PredictionServiceStub(channel).Predict(request, timeout=DEADLINE)
            assert answer.model == f"models/mnist/versions/{default}"
        assert [version.version for version in model.versions] == [3, 2, 1]

    def test_a_training_that_diverges_fails_and_says_so(
        self, stub: TrainingServiceStub, channel: grpc.Channel, make_messages: Messages
    ) -> None:
        messages = make_messages(learning_rate=1e3, weight_decay=1e3)
        history = events(stub.Train(iter(messages), timeout=TIMEOUT))
        assert kinds(history)[-1] == "failed"
        assert "diverged in epoch" in history[-1].failed.reason
        job = get(stub, history[0].job)
        assert (job.state, job.reason) == (pb.JOB_STATE_FAILED, history[-1].failed.reason)
        assert not job.model_version
        assert (
            not ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE).models
        )


def dataset_hash(digits: Dataset) -> str:
    """As mnist_proto.dataset_hash words it."""
    lines = ["mnist-grpc dataset 1", "size 28 28"]
    for name, split in (("train", digits.train), ("test", digits.test)):
        assert split is not None
        images, labels = (
            hashlib.sha256(array.tobytes()).hexdigest() for array in (split.images, split.labels)
        )
        lines.append(f"{name} {len(split.labels)} {images} {labels}")
    return hashlib.sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def trained_here(digits: Dataset, config: TrainingConfig) -> Iterator[tuple[object, ...]]:
    assert digits.test is not None
    test = Split(digits.test.images, digits.test.labels)
    data = CoreDataset(Split(digits.train.images, digits.train.labels), None, test)
    state = TrainingState.begin(config)
    for report in train(state, data, config):
        if isinstance(report, EpochReport):
            yield report.epoch, report.correct, report.total, report.loss, state.network.weights_hash()


@pytest.mark.usefixtures("no_trainer")
class TestRequestId:
    def test_the_same_request_is_the_same_job_from_its_first_event(
        self, stub: TrainingServiceStub, directory: DataDirectory, make_messages: Messages
    ) -> None:
        messages = make_messages(request_id="abc")
        names = {accept(stub, messages) for _ in range(3)}
        assert len(names) == len(jobs(stub)) == 1
        assert len(list(directory.datasets.iterdir())) == 1

    def test_however_many_ask_at_once(
        self, stub: TrainingServiceStub, directory: DataDirectory, make_messages: Messages
    ) -> None:
        messages = make_messages(request_id="abc")
        with ThreadPoolExecutor(8) as threads:
            names = set(threads.map(lambda _: accept(stub, messages), range(8)))
        assert len(names) == len(jobs(stub)) == 1
        assert len(list(directory.datasets.iterdir())) == 1

    @pytest.mark.parametrize("other", [{"epochs": 2}, {"train": 199}, {"seed": 1}])
    def test_another_request_may_not_use_it(
        self, stub: TrainingServiceStub, make_messages: Messages, refused: Refused, other: dict[str, Any]
    ) -> None:
        name = accept(stub, make_messages(request_id="abc", epochs=1))
        messages = make_messages(**{"request_id": "abc", "epochs": 1} | other)
        exists = grpc.StatusCode.ALREADY_EXISTS
        refused(lambda: accept(stub, messages), exists, "request_id", "'abc'", name)
        assert len(jobs(stub)) == 1

    def test_without_one_every_call_is_a_job_of_its_own_on_one_copy_of_the_images(
        self, stub: TrainingServiceStub, directory: DataDirectory, make_messages: Messages
    ) -> None:
        names = [accept(stub, make_messages()) for _ in range(2)]
        assert len(set(names)) == 2
        assert [job.name for job in jobs(stub)] == names[::-1]
        assert len(list(directory.datasets.iterdir())) == 1


nan, infinity = float("nan"), float("inf")

BAD_CONFIGS: list[tuple[dict[str, Any], str, tuple[str, ...]]] = [
    ({"learning_rate": -1.0}, "learning_rate", ("-1.0", "greater than 0")),
    ({"learning_rate": 0.0}, "learning_rate", ("0.0", "greater than 0")),
    ({"learning_rate": nan}, "learning_rate", ("nan",)),
    ({"learning_rate": infinity}, "learning_rate", ("inf",)),
    ({"weight_decay": -0.1}, "weight_decay", ("-0.1",)),
    ({"weight_decay": nan}, "weight_decay", ("nan",)),
    ({"weight_decay": infinity}, "weight_decay", ("inf",)),
    ({"momentum": 1.0}, "momentum", ("1.0",)),
    ({"momentum": -0.1}, "momentum", ("-0.1",)),
    ({"momentum": nan}, "momentum", ("nan",)),
    ({"epochs": 0}, "epochs", ("0", "1")),
    ({"epochs": -3}, "epochs", ("-3",)),
    ({"epochs": 100_001}, "epochs", ("100001",)),
    ({"batch_size": 0}, "batch_size", ("0",)),
    ({"batch_size": -1}, "batch_size", ("-1",)),
    ({"patience": 0}, "patience", ("0",)),
    ({"patience": 3}, "patience", ("3", "no validation split")),
    ({"validation_images": 0}, "validation_images", ("0", "at least 1")),
    ({"validation_images": 2}, "validation_images", ("2", "less than 2")),
    ({"hidden_layers": pb.HiddenLayers(sizes=[30, 0])}, "hidden_layers.sizes", ("0",)),
    ({"hidden_layers": pb.HiddenLayers(sizes=[-30])}, "hidden_layers.sizes", ("-30",)),
    ({"hidden_layers": pb.HiddenLayers(sizes=[2**31 - 1])}, "hidden_layers.sizes", ("2147483647",)),
    ({"hidden_layers": pb.HiddenLayers(sizes=[60_000])}, "hidden_layers.sizes", ("20000000 parameters",)),
    ({"hidden_layers": pb.HiddenLayers(sizes=[1] * 100_000)}, "hidden_layers.sizes", ("1, 1",)),
    ({"activation": 9}, "activation", ("9", "ACTIVATION_RELU")),
    ({"output": 9}, "output", ("9", "OUTPUT_SOFTMAX")),
    ({"loss": 9}, "loss", ("9", "LOSS_QUADRATIC")),
    ({"initialization": 9}, "initialization", ("9", "INITIALIZATION_SCALED")),
    ({"dtype": 9}, "dtype", ("9", "DTYPE_FLOAT64")),
    ({"model": "mnist"}, "model", ("'mnist'", "models/{m}")),
    ({"model": "models/mnist/versions/3"}, "model", ("'models/mnist/versions/3'", "models/{m}")),
    ({"model": "models/../../etc"}, "model", ("'models/../../etc'",)),
    ({"model": "models/" + "x" * 64}, "model", ("models/{m}",)),
    ({"request_id": "x" * 129}, "request_id", ("128",)),
]

BAD_STREAMS: list[tuple[list[pb.TrainRequest], str, tuple[str, ...]]] = [
    ([], "config", ("no message at all",)),
    ([pb.TrainRequest()], "message", ("before the configuration",)),
    ([batch()], "message", ("a batch before the configuration",)),
    ([config()], "batch", ("no training image", "SPLIT_TRAIN")),
    ([config(), batch(split=3)], "batch", ("no training image", "SPLIT_TRAIN")),
    ([config(), config()], "config", ("a second configuration",)),
    ([config(), batch(), config()], "config", ("a second configuration",)),
    ([config(), batch(), pb.TrainRequest()], "batch.split", ("0", "SPLIT_TRAIN")),
    ([config(), batch(split=0)], "batch.split", ("0", "SPLIT_TRAIN")),
    ([config(), batch(split=17)], "batch.split", ("17", "SPLIT_TRAIN")),
    ([config(), batch(pixels=b"")], "batch.pixels", ("0 bytes", "at least one image")),
    ([config(), batch(), batch(pixels=bytes(1567))], "batch.pixels", ("1567 bytes", "28 x 28 = 784")),
    ([config(), batch(labels=b"")], "batch.labels", ("0 labels", "2 images")),
    ([config(), batch(labels=b"\0")], "batch.labels", ("1 labels", "2 images")),
    ([config(), batch(labels=b"\0\0\0")], "batch.labels", ("3 labels", "2 images")),
    ([config(), batch(labels=b"", labels16=b"\0\0\xe8\3")], "batch.labels16[1]", ("1000", "0 to 999")),
    ([config(), batch(height=0)], "batch.height", ("0", "at least 1")),
    ([config(), batch(width=0)], "batch.width", ("0", "at least 1")),
    ([config(), batch(height=2**32 - 1, width=2**32 - 1)], "batch.height", ("4294967295", "65536")),
    ([config(), batch(), batch(height=14, width=56)], "batch.height", ("14 x 56", "28 x 28")),
    (
        [config(validation_images=1), batch(), batch(split=2)],
        "config.validation_images",
        ("1", "absent", "VALIDATION"),
    ),
]


@pytest.mark.usefixtures("no_trainer")
class TestBadInput:
    @pytest.mark.parametrize(("fields", "field", "words"), BAD_CONFIGS)
    def test_a_configuration_is_refused_naming_field_value_and_expectation(
        self,
        stub: TrainingServiceStub,
        directory: DataDirectory,
        refused: Refused,
        fields: dict[str, Any],
        field: str,
        words: tuple[str, ...],
    ) -> None:
        messages = [config(**fields), batch()]
        refused(lambda: accept(stub, messages), INVALID, *words, field=f"config.{field}")
        assert_nothing_left(stub, directory)

    @pytest.mark.parametrize(("messages", "field", "words"), BAD_STREAMS)
    def test_a_stream_is_refused_and_leaves_nothing(
        self,
        stub: TrainingServiceStub,
        directory: DataDirectory,
        refused: Refused,
        messages: list[pb.TrainRequest],
        field: str,
        words: tuple[str, ...],
    ) -> None:
        refused(lambda: accept(stub, messages), INVALID, *words, field=field)
        assert_nothing_left(stub, directory)
        assert accept(stub, [config(), batch()])

    def test_a_bad_configuration_is_refused_before_the_images_come(
        self, stub: TrainingServiceStub, refused: Refused
    ) -> None:
        refusal = threading.Event()

        def messages() -> Iterator[pb.TrainRequest]:
            yield config(epochs=0)
            assert refusal.wait(TIMEOUT), "the server waits for images that it cannot use"

        call = partial(stub.Train, messages(), timeout=TIMEOUT)
        refused(lambda: list(call()), INVALID, field="config.epochs")
        refusal.set()

    def test_bytes_that_are_no_message_are_refused_and_leave_nothing(
        self, stub: TrainingServiceStub, channel: grpc.Channel, directory: DataDirectory, refused: Refused
    ) -> None:
        raw: Any = channel
        train = raw.stream_stream("/mnist.v1.TrainingService/Train")
        good = [config().SerializeToString(), batch().SerializeToString()]
        for messages in ([b"\xff"], [*good, b"\xff"]):
            call = partial(train, iter(messages), timeout=TIMEOUT)
            refused(lambda call=call: list(call()), INVALID, "mnist.v1.TrainRequest", field="request")
        assert_nothing_left(stub, directory)

    @pytest.mark.parametrize("limits", [Limits(max_dataset_images=5)], indirect=True)
    def test_more_images_than_the_limit_are_refused(
        self, stub: TrainingServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        refused(
            lambda: accept(stub, [config(), *[batch()] * 3]), INVALID, "image 6", "at most 5", field="batch"
        )
        assert_nothing_left(stub, directory)
        assert accept(stub, [config(), *[batch()] * 2])

    @pytest.mark.parametrize("limits", [Limits(max_dataset_bytes=4 * 784)], indirect=True)
    def test_more_bytes_than_the_limit_are_refused(
        self, stub: TrainingServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        words = (f"byte {6 * 784}", f"at most {4 * 784}")
        refused(lambda: accept(stub, [config(), *[batch()] * 3]), INVALID, *words, field="batch")
        assert_nothing_left(stub, directory)
        assert accept(stub, [config(), *[batch()] * 2])

    @pytest.mark.parametrize("limits", [Limits(max_queued_jobs=2)], indirect=True)
    def test_more_jobs_than_may_wait_are_sent_away_for_now(
        self, stub: TrainingServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        for images in (1, 2):
            accept(stub, [config(), *[batch()] * images])
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
        refused(lambda: accept(stub, [config(), *[batch()] * 3]), exhausted, "2 jobs are waiting")
        assert len(jobs(stub)) == len(list(directory.datasets.iterdir())) == 2
        refused(lambda: accept(stub, [config(), batch()]), exhausted)  # on images that are there: they stay
        assert len(jobs(stub)) == len(list(directory.datasets.iterdir())) == 2


@pytest.mark.usefixtures("no_trainer")
class TestBrokenUploads:
    @pytest.mark.parametrize("limits", [Limits(max_message_bytes=5000)], indirect=True)
    def test_a_message_over_the_limit_in_the_middle_leaves_nothing(
        self, stub: TrainingServiceStub, directory: DataDirectory
    ) -> None:
        """Many times: for a moment, such a stream looks as if its client had half-closed it."""
        large = batch(pixels=bytes(7 * 784), labels=bytes(7))

        def break_off(_: int) -> Any:
            with pytest.raises(grpc.RpcError) as caught:
                events(stub.Train(iter([config(), batch(), large]), timeout=TIMEOUT))
            error: Any = caught.value
            return error.code()

        with ThreadPoolExecutor(20) as threads:
            codes = set(threads.map(break_off, range(200)))
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert_nothing_left(stub, directory)

    @pytest.mark.parametrize("sent", [0, 1, 2, 5])
    @pytest.mark.parametrize("how", ["cancel", "close", "deadline"])
    def test_a_client_that_goes_leaves_nothing(
        self, server: Server, stub: TrainingServiceStub, directory: DataDirectory, sent: int, how: str
    ) -> None:
        done = threading.Event()
        spooled = threading.Event()

        def messages() -> Iterator[pb.TrainRequest]:
            yield from [config(), *[batch()] * 4][:sent]
            spooled.set()
            done.wait(TIMEOUT)

        with grpc.insecure_channel(server.address, [("grpc.enable_http_proxy", 0)]) as channel:
            call: Any = TrainingServiceStub(channel).Train(
                messages(), timeout=0.3 if how == "deadline" else TIMEOUT
            )
            assert spooled.wait(TIMEOUT)
            if how == "cancel":
                call.cancel()
            elif how == "deadline":
                assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        done.set()
        assert_nothing_left(stub, directory)

    def test_a_client_that_goes_while_its_images_are_made_durable_leaves_nothing(
        self, stub: TrainingServiceStub, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finishing, gone = threading.Event(), threading.Event()
        finish = Upload.finish

        def slow_finish(self: Upload) -> None:
            finishing.set()
            assert gone.wait(TIMEOUT)
            return finish(self)

        monkeypatch.setattr(Upload, "finish", slow_finish)
        call: Any = stub.Train(iter([config(), batch()]), timeout=TIMEOUT)
        assert finishing.wait(TIMEOUT)
        call.cancel()
        threading.Event().wait(0.2)  # for the news to reach the server
        gone.set()
        assert_nothing_left(stub, directory)

    def test_a_client_that_falls_silent_is_sent_away_and_leaves_nothing(
        self, stub: TrainingServiceStub, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnist_server.training.Silence", partial(Silence, seconds=0.2))
        done = threading.Event()

        def messages() -> Iterator[pb.TrainRequest]:
            yield config()
            yield batch()
            done.wait(TIMEOUT)

        call = stub.Train(messages(), timeout=TIMEOUT)
        assert call.code() is grpc.StatusCode.CANCELLED
        done.set()
        assert_nothing_left(stub, directory)

    def test_a_disk_that_is_full_is_said_and_leaves_nothing(
        self,
        stub: TrainingServiceStub,
        directory: DataDirectory,
        refused: Refused,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def full(self: Upload) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", str(directory.datasets))

        monkeypatch.setattr(Upload, "finish", full)
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        error = refused(lambda: accept(stub, [config(), batch()]), code, "the server's disk is full")
        assert str(directory.root) not in error.details()
        assert_nothing_left(stub, directory)

    def test_a_disk_that_fails_is_an_internal_error_with_an_id_and_leaves_nothing(
        self,
        stub: TrainingServiceStub,
        directory: DataDirectory,
        refused: Refused,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def broken(self: Upload) -> None:
            raise OSError(errno.EIO, "Input/output error", str(directory.datasets))

        monkeypatch.setattr(Upload, "finish", broken)
        error = refused(lambda: accept(stub, [config(), batch()]), grpc.StatusCode.INTERNAL, "internal error")
        assert str(directory.root) not in error.details()
        [record] = [record for record in caplog.records if record.getMessage() == "internal error"]
        assert vars(record)["log_id"] in error.details()
        assert_nothing_left(stub, directory)


class TestWatching:
    @pytest.mark.parametrize("limits", [Limits(max_watchers=1)], indirect=True)
    def test_one_watcher_too_many_is_refused_and_may_try_again(
        self, stub: TrainingServiceStub, no_trainer: None, make_messages: Messages, refused: Refused
    ) -> None:
        first: Any = stub.Train(iter(make_messages(train=20, test=0)), timeout=TIMEOUT)
        name = next(first).event.job  # which follows its job, beside the limit
        first.cancel()

        def first_to_watch() -> Any:
            deadline = time.monotonic() + TIMEOUT
            while True:
                try:
                    watcher: Any = watch(stub, name)
                    assert next(watcher).event.sequence == 1
                    return watcher
                except grpc.RpcError:  # the server has not heard yet that the one before is gone
                    assert time.monotonic() < deadline
                    time.sleep(0.05)

        watcher = first_to_watch()
        request = pb.WatchTrainingRequest(job=name)
        refused(
            lambda: next(stub.WatchTraining(request, timeout=TIMEOUT)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "fewer than 1",
        )
        watcher.cancel()
        first_to_watch()

    def test_a_reader_that_does_not_read_costs_a_bounded_amount_of_memory(
        self,
        stub: TrainingServiceStub,
        server: Server,
        database: Database,
        no_trainer: None,
        make_messages: Messages,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """What is not read stays in the database: no more leaves the feed than gRPC's window holds."""
        count, size = 20_000, 2_000
        name = accept(stub, make_messages(train=20, test=0))
        with database.write() as connection:
            for epoch in range(count):
                finished = pb.EpochFinished(epoch=epoch, weights_hash="x" * size)
                append(connection, name, pb.TrainingEvent(epoch_finished=finished))
        said = 0
        page = server._feed._events

        def counted(*arguments: Any) -> Any:
            nonlocal said
            events = page(*arguments)
            said += len(events)
            return events

        monkeypatch.setattr(server._feed, "_events", counted)
        call: Any = stub.WatchTraining(pb.WatchTrainingRequest(job=name), timeout=2 * TIMEOUT)
        before = -1
        while before != said:
            before = said
            time.sleep(0.5)
        assert 0 < said * size < 10 * 2**20 < count * size
        sequences = []
        for message in call:
            if message.HasField("event"):
                sequences.append(message.event.sequence)
                if len(sequences) == count + 1:
                    break
        call.cancel()
        assert sequences == list(range(1, count + 2))

    def test_a_job_outlives_its_streams(self, stub: TrainingServiceStub, make_messages: Messages) -> None:
        name = accept(stub, make_messages(**LONG))
        first: Any = watch(stub, name)
        until(first, "epoch_finished")
        first.cancel()
        for message in stub.WatchTraining(pb.WatchTrainingRequest(job=name), timeout=DEADLINE):
            if message.event.HasField("epoch_finished") and message.event.epoch_finished.epoch == 1:
                break
        assert get(stub, name).state == pb.JOB_STATE_RUNNING

    def test_events_come_without_gap_and_notices_carry_the_last_sequence(
        self, stub: TrainingServiceStub, make_messages: Messages, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnist_server.feed.PROGRESS_SECONDS", 0.02)  # an epoch may take a tenth of one
        name = accept(stub, make_messages(**LONG | {"hidden_layers": pb.HiddenLayers(sizes=[500])}))
        sequence, progress = 0, None
        for message in watch(stub, name):
            if message.HasField("event"):
                sequence += 1
                assert message.event.sequence == sequence
            else:
                assert (message.notice.job, message.notice.sequence) == (name, sequence)
                progress = message.notice.progress
                assert progress.epoch == sequence - 2
                assert 0 < progress.images <= progress.total_images == 4000
                assert progress.loss > 0
                if sequence > 2:
                    break
        assert progress is not None

    def test_a_stream_with_nothing_to_say_says_so(
        self, stub: TrainingServiceStub, no_trainer: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnist_server.feed.HEARTBEAT_SECONDS", 0.1)
        name = accept(stub, [config(), batch()])
        call = watch(stub, name)
        assert next(call).event.HasField("accepted")
        for _ in range(3):
            notice = next(call).notice
            assert notice.HasField("heartbeat")
            assert (notice.job, notice.sequence) == (name, 1)
        call.cancel()

    def test_many_watchers_see_the_same(self, stub: TrainingServiceStub, make_messages: Messages) -> None:
        name = accept(stub, make_messages(epochs=20))
        calls = [watch(stub, name, after=i % 3) for i in range(20)]
        histories = [events(call) for call in calls]
        for i, history in enumerate(histories):
            assert history == histories[0][i % 3 :]
        assert kinds(histories[0])[-1] == "succeeded"

    def test_a_slow_watcher_misses_nothing(self, stub: TrainingServiceStub, make_messages: Messages) -> None:
        """More events than connection and memory hold, and than a page of the database has."""
        name = accept(stub, make_messages(train=20, test=0, epochs=1000))
        call = watch(stub, name)
        first = next(call).event
        assert events(watch(stub, name, after=1002))[-1].HasField("succeeded")  # the job is over by now
        rest = events(call)
        assert [event.sequence for event in [first, *rest]] == list(range(1, 1004))

    def test_bad_watches_are_refused(self, stub: TrainingServiceStub, refused: Refused) -> None:
        not_found = grpc.StatusCode.NOT_FOUND
        refused(lambda: list(watch(stub, "jobs/unknown")), not_found, "'jobs/unknown'", "ListTrainingJobs")
        refused(lambda: list(watch(stub, "models/x")), INVALID, "'models/x'", "jobs/{j}", field="job")
        refused(lambda: list(watch(stub, "")), INVALID, "''", "jobs/{j}", field="job")

    @pytest.mark.parametrize("after", [2, 1000, 2**64 - 1])
    def test_a_watch_from_beyond_the_last_event_ends_with_the_job(
        self, stub: TrainingServiceStub, no_trainer: None, after: int
    ) -> None:
        name = accept(stub, [config(), batch()])
        call = watch(stub, name, after=after)
        ended = cancel(stub, name)
        assert ended.last_sequence == 2
        assert events(call) == []
        assert events(watch(stub, name, after=after)) == []


class TestCancelling:
    def test_a_waiting_job_is_cancelled_at_once(self, stub: TrainingServiceStub, no_trainer: None) -> None:
        name = accept(stub, [config(), batch()])
        job = cancel(stub, name)
        assert (job.state, job.last_sequence) == (pb.JOB_STATE_CANCELLED, 2)
        assert job.HasField("end_time")
        assert not job.HasField("start_time")
        assert cancel(stub, name) == job == get(stub, name)
        assert kinds(events(watch(stub, name))) == ["accepted", "cancelled"]

    def test_a_running_job_is_cancelled_soon_and_the_next_one_begins(
        self,
        stub: TrainingServiceStub,
        channel: grpc.Channel,
        directory: DataDirectory,
        make_messages: Messages,
    ) -> None:
        name, following = accept(stub, make_messages(**LONG)), accept(stub, make_messages(epochs=1))
        call = watch(stub, name)
        until(call, "epoch_finished")
        cancel(stub, name)
        assert kinds(events(call))[-1] == "cancelled"
        job = get(stub, name)
        assert job.state == pb.JOB_STATE_CANCELLED
        assert not job.model_version
        assert cancel(stub, name) == job
        assert kinds(events(watch(stub, following)))[-1] == "succeeded"
        models = ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=DEADLINE).models
        assert [model.name for model in models] == [get(stub, following).model]
        assert not directory.job(name).exists()

    def test_what_has_ended_otherwise_cannot_be_cancelled(
        self, stub: TrainingServiceStub, make_messages: Messages, refused: Refused
    ) -> None:
        history = events(stub.Train(iter(make_messages(train=20, test=0, epochs=1)), timeout=TIMEOUT))
        wrong = grpc.StatusCode.FAILED_PRECONDITION
        refused(lambda: cancel(stub, history[0].job), wrong, history[0].job, "SUCCEEDED")

    def test_bad_names_are_refused(self, stub: TrainingServiceStub, refused: Refused) -> None:
        refused(lambda: cancel(stub, "jobs/unknown"), grpc.StatusCode.NOT_FOUND, "'jobs/unknown'")
        refused(lambda: cancel(stub, "jobs/Unknown"), INVALID, "'jobs/Unknown'", field="job")
        refused(lambda: get(stub, "jobs/unknown"), grpc.StatusCode.NOT_FOUND, "'jobs/unknown'")
        refused(lambda: get(stub, "jobs/\0"), INVALID, "jobs/{j}", field="job")


class TestPausing:
    def test_a_running_job_is_paused_and_the_next_one_begins(
        self, stub: TrainingServiceStub, directory: DataDirectory, make_messages: Messages
    ) -> None:
        name, following = accept(stub, make_messages(**LONG)), accept(stub, make_messages(**LONG))
        call = watch(stub, name)
        until(call, "epoch_finished")
        assert pause(stub, name).state in (pb.JOB_STATE_RUNNING, pb.JOB_STATE_PAUSED)
        assert until(call, "paused").paused == pb.Paused()
        job = get(stub, name)
        assert job.state == pb.JOB_STATE_PAUSED
        assert pause(stub, name) == job
        until(watch(stub, following), "epoch_finished")
        assert list(directory.job(name).glob("checkpoint-*"))
        resumed = resume(stub, name)
        assert (resumed.state, resumed.last_sequence) == (pb.JOB_STATE_QUEUED, job.last_sequence + 1)
        assert until(call, "resumed").sequence == resumed.last_sequence  # the watch goes on across it
        cancel(stub, following)
        assert until(call, "continued").continued == pb.Continued(epoch=job.last_epoch.epoch + 1)
        assert until(call, "epoch_finished").epoch_finished.epoch == job.last_epoch.epoch + 1
        pause(stub, name)
        until(call, "paused")
        assert cancel(stub, name).state == pb.JOB_STATE_CANCELLED
        assert kinds(events(call)) == ["cancelled"]
        assert not directory.job(name).exists()

    def test_what_does_not_run_cannot_be_paused_nor_what_is_not_paused_resumed(
        self, stub: TrainingServiceStub, no_trainer: None, refused: Refused
    ) -> None:
        name = accept(stub, [config(), batch()])
        wrong = grpc.StatusCode.FAILED_PRECONDITION
        refused(lambda: pause(stub, name), wrong, name, "QUEUED", "expected a running job")
        refused(lambda: resume(stub, name), wrong, name, "QUEUED", "expected a paused job")
        for call in (pause, resume):
            refused(lambda call=call: call(stub, "jobs/none"), grpc.StatusCode.NOT_FOUND, "'jobs/none'")
            refused(lambda call=call: call(stub, "none!"), INVALID, "'none!'", field="job")

    def test_where_something_differs_a_job_goes_on_only_if_that_is_allowed(
        self,
        stub: TrainingServiceStub,
        database: Database,
        make_messages: Messages,
        no_trainer: None,
        refused: Refused,
    ) -> None:
        name = accept(stub, make_messages())
        with database.write() as connection:
            append(connection, name, pb.TrainingEvent(started=pb.Started()))
            job = append(connection, name, pb.TrainingEvent(paused=pb.Paused()))
            now = job.config.environment.blas_kernel
            job.config.environment.blas_kernel = "Abacus"
            changed = (job.SerializeToString(), name)
            connection.execute("UPDATE jobs SET body = ? WHERE name = ?", changed)
        difference = f"blas_kernel was Abacus, is {now}"
        refused(lambda: resume(stub, name), grpc.StatusCode.FAILED_PRECONDITION, difference)
        assert get(stub, name).state == pb.JOB_STATE_PAUSED
        assert resume(stub, name, allow_inexact=True).state == pb.JOB_STATE_QUEUED
        assert list(until(watch(stub, name), "resumed").resumed.differences) == [difference]


class TestDeleting:
    def test_a_job_that_has_ended_is_forgotten_and_its_model_stays(
        self, stub: TrainingServiceStub, channel: grpc.Channel, make_messages: Messages, refused: Refused
    ) -> None:
        messages = make_messages(epochs=1, model="models/kept", request_id="mine")
        name = events(stub.Train(iter(messages), timeout=TIMEOUT))[0].job
        delete(stub, name)
        for call in (get, delete, lambda stub, job: list(watch(stub, job))):
            refused(lambda call=call: call(stub, name), grpc.StatusCode.NOT_FOUND, f"'{name}'")
        assert jobs(stub) == []
        request = model_pb2.GetModelRequest(model="models/kept")
        [version] = ModelServiceStub(channel).GetModel(request, timeout=DEADLINE).model.versions
        assert version.job == name
        again = events(stub.Train(iter(messages), timeout=TIMEOUT))
        assert again[0].job != name
        assert again[-1].succeeded.model_version == "models/kept/versions/2"

    def test_one_that_has_not_ended_is_not(
        self, stub: TrainingServiceStub, no_trainer: None, refused: Refused
    ) -> None:
        name = accept(stub, [config(), batch()])
        refused(lambda: delete(stub, name), grpc.StatusCode.FAILED_PRECONDITION, name, "QUEUED", "has ended")
        refused(lambda: delete(stub, "jobs/"), INVALID, field="job")
        assert get(stub, name).state == pb.JOB_STATE_QUEUED


class TestListing:
    def test_some_states_or_one_model_alone(
        self, stub: TrainingServiceStub, make_job: Callable[..., str], no_trainer: None
    ) -> None:
        names = [make_job(model=f"models/{model}") for model in "abab"]
        cancel(stub, names[0])

        def listed(**fields: Any) -> list[str]:
            found, token = [], ""
            while True:
                request = pb.ListTrainingJobsRequest(page_size=1, page_token=token, **fields)
                page = stub.ListTrainingJobs(request, timeout=DEADLINE)
                found += [job.name for job in page.jobs]
                token = page.next_page_token
                if not token:
                    return found[::-1]

        assert listed(states=[pb.JOB_STATE_QUEUED]) == names[1:]
        assert listed(states=[pb.JOB_STATE_CANCELLED, pb.JOB_STATE_RUNNING]) == names[:1]
        assert listed(model="models/b") == names[1::2]
        assert listed(model="models/a", states=[pb.JOB_STATE_QUEUED]) == [names[2]]

    def test_pages_go_from_the_newest_to_the_oldest(
        self, stub: TrainingServiceStub, make_job: Callable[..., str], no_trainer: None
    ) -> None:
        names = [make_job() for _ in range(5)]
        pages, token = [], ""
        for _ in range(3):
            request = pb.ListTrainingJobsRequest(page_size=2, page_token=token)
            page = stub.ListTrainingJobs(request, timeout=DEADLINE)
            pages.append([job.name for job in page.jobs])
            token = page.next_page_token
        assert pages == [names[:-3:-1], names[2:0:-1], names[:1]]
        assert not token

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"page_size": -1}, "page_size"),
            ({"page_size": 1001}, "page_size"),
            ({"page_token": "x"}, "page_token"),
            ({"page_token": "-1"}, "page_token"),
            ({"page_token": "9" * 30}, "page_token"),
            ({"page_token": "²"}, "page_token"),
            ({"states": [pb.JOB_STATE_QUEUED, 99]}, "states"),
            ({"states": [0]}, "states"),
            ({"model": "mnist"}, "model"),
            ({"model": "models/mnist/versions/1"}, "model"),
        ],
    )
    def test_bad_pages_are_refused(
        self, stub: TrainingServiceStub, refused: Refused, fields: dict[str, Any], field: str
    ) -> None:
        request = pb.ListTrainingJobsRequest(**fields)
        refused(lambda: stub.ListTrainingJobs(request, timeout=DEADLINE), INVALID, field=field)
