"""The client, against real servers, and against servers that misbehave as real ones seldom do."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from PIL import Image

from mnist_client import (
    Accepted,
    AlreadyExists,
    Augmentation,
    CallCancelled,
    Client,
    DataError,
    Dataset,
    DeadlineExceeded,
    EpochFinished,
    InternalError,
    InvalidInput,
    JobCancelled,
    MnistError,
    NotFound,
    Predictions,
    Split,
    Started,
    Succeeded,
    TrainingJob,
    Unavailable,
    dataset_name,
)
from mnist_proto.dataset_hash import DatasetHash
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, images_pb2, model_pb2, prediction_pb2, training_pb2

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedServers, ServerProcess

    StartServer = Callable[..., ServerProcess]


@pytest.fixture
def test_split(digits: Dataset) -> Split:
    assert digits.test is not None
    return digits.test


# Training


def test_a_job_learns_and_says_so(client: Client, digits: Dataset) -> None:
    job = client.train(digits, epochs=2, seed=7, hidden=20, name="watched")
    assert isinstance(job, TrainingJob)
    events = list(job.watch())
    assert [type(event) for event in events] == [Accepted, Started, EpochFinished, EpochFinished, Succeeded]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert {event.job for event in events} == {job.name}
    accepted, _, first, second, succeeded = events
    assert isinstance(accepted, Accepted)
    assert isinstance(first, EpochFinished)
    assert isinstance(second, EpochFinished)
    assert isinstance(succeeded, Succeeded)
    assert accepted.config.layer_sizes == (784, 20, 10)
    assert accepted.config.hyperparameters.seed == 7
    assert (first.epoch, first.total, second.epoch) == (0, 1000, 1)
    assert second.accuracy is not None
    assert second.accuracy > 0.6  # of real digits, one in ten by chance
    assert second.loss < first.loss
    assert succeeded.model_version.startswith("models/watched/versions/")
    assert job.result(timeout=30) == succeeded
    status = job.status()
    assert (status.state, status.model_version) == ("SUCCEEDED", succeeded.model_version)
    assert status.last_epoch is not None
    assert str(status.last_epoch) == str(second)
    assert client.job(job.name.removeprefix("jobs/")).status() == status
    assert status in list(client.jobs())


def test_without_options_it_is_the_classic_run(client: Client, few: Dataset) -> None:
    job = client.train(few)
    config = job.status().config
    job.cancel()
    asked = config.hyperparameters
    assert config.layer_sizes == (784, 30, 10)
    assert (asked.activation, asked.output, asked.loss) == ("sigmoid", "sigmoid", "quadratic")
    assert (asked.epochs, asked.batch_size, asked.learning_rate) == (30, 10, 3.0)
    assert (asked.weight_decay, asked.momentum, asked.patience) == (0.0, 0.0, None)
    assert (asked.initialization, asked.dtype, asked.promote) == ("normal", "float32", False)
    assert asked.recipe == "classic"
    assert asked.model == f"models/{job.name.removeprefix('jobs/')}"
    assert (config.train_images, config.validation_images, config.test_images) == (200, 0, 50)


def test_every_option_reaches_the_job(client: Client, few: Dataset) -> None:
    job = client.train(
        few,
        name="optioned",
        recipe="quick",
        layers="12-D0.25-11",
        epochs=3,
        batch_size=7,
        learning_rate=0.25,
        activation="relu",
        output="softmax",
        loss="cross_entropy",
        initialization="scaled",
        weight_decay=0.125,
        momentum=0.5,
        optimizer="sgd",
        schedule="cosine",
        warm_up=0.25,
        clip_norm=2.0,
        augmentation=Augmentation(rotation=10, elastic=24, elastic_sigma=5),
        patience=2,
        until_accuracy=0.75,
        time_budget=90.5,
        keep_best=True,
        validation=40,
        seed=2**40,
        dtype="float64",
        promote=True,
        request_id="an-id-of-ours",
    )
    config = job.status().config
    asked = config.hyperparameters
    assert asked.model == "models/optioned"
    assert (asked.recipe, asked.layers) == ("quick", "12-D0.25-11")
    assert (asked.until_accuracy, asked.time_budget, asked.keep_best) == (0.75, 90.5, True)
    assert (asked.epochs, asked.batch_size, asked.learning_rate) == (3, 7, 0.25)
    assert (asked.activation, asked.output, asked.loss) == ("relu", "softmax", "cross_entropy")
    assert (asked.initialization, asked.weight_decay, asked.momentum) == ("scaled", 0.125, 0.5)
    assert (asked.optimizer, asked.schedule, asked.warm_up, asked.clip_norm) == ("sgd", "cosine", 0.25, 2.0)
    assert asked.augmentation == Augmentation(rotation=10, elastic=24, elastic_sigma=5)
    assert (asked.patience, asked.validation_images) == (2, 40)
    assert (asked.seed, asked.dtype, asked.promote) == (2**40, "float64", True)
    assert asked.request_id == "an-id-of-ours"
    assert (config.train_images, config.validation_images) == (160, 40)
    job.result(timeout=60)


def test_the_server_got_the_very_data_set(client: Client, few: Dataset) -> None:
    assert few.test is not None
    expected = DatasetHash(28, 28)
    expected.add("train", few.train.images.tobytes(), few.train.labels.tobytes())
    expected.add("test", few.test.images.tobytes(), few.test.labels.tobytes())
    job = client.train(few, epochs=1)
    assert job.status().config.dataset == f"datasets/{expected.hexdigest()}"


def test_data_may_be_a_spec_a_path_a_split_or_arrays(client: Client, few: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, images=few.train.images, labels=few.train.labels)
    arrays = few.train.images.reshape(200, 784), few.train.labels.astype(int).tolist()
    jobs = [client.train(data, epochs=1) for data in (path, str(path), few.train, arrays)]
    assert len({job.status().config.dataset for job in jobs}) == 1
    for job in jobs:
        job.result(timeout=60)
    epoch = jobs[0].status().last_epoch
    assert str(epoch) == "Epoch 0 complete"  # nothing to test on
    assert client.train("mnist-5k", epochs=1).status().config.train_images == 4000


def test_a_request_id_makes_training_twice_the_same_job(client: Client, few: Dataset) -> None:
    first = client.train(few, epochs=1, seed=1, request_id="twice")
    second = client.train(few, epochs=1, seed=1, request_id="twice")
    assert second.name == first.name
    with pytest.raises(AlreadyExists, match="twice"):
        client.train(few, epochs=2, seed=1, request_id="twice")
    assert client.train(few, epochs=1, seed=1).name != first.name


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"epochs": 0}, "config.epochs"),
        ({"batch_size": -1}, "config.batch_size"),
        ({"learning_rate": float("nan")}, "config.learning_rate"),
        ({"hidden": [30, 0]}, "config.hidden_layers.sizes"),
        ({"validation": 200}, "config.validation_images"),
        ({"patience": 3}, "config.patience"),
        ({"name": "m@3"}, "config.model"),
    ],
)
def test_what_the_server_refuses_is_invalid_input(
    client: Client, few: Dataset, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        client.train(few, **options)
    assert raised.value.violations[0][0].startswith(field)
    assert raised.value.server == client.server
    assert raised.value.details is not None


def accepted(sequence: int = 1) -> training_pb2.TrainResponse:
    event = training_pb2.TrainingEvent(job="jobs/a", sequence=sequence, accepted=training_pb2.Accepted())
    return training_pb2.TrainResponse(event=event)


def test_an_upload_that_was_cut_off_is_made_again_as_the_same_request(
    serve: "ScriptedServers", few: Dataset
) -> None:
    attempts: list[list[training_pb2.TrainRequest]] = []

    def train(
        requests: Iterator[training_pb2.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[training_pb2.TrainResponse]:
        attempts.append([])
        for request in requests:
            attempts[-1].append(request)
            if len(attempts) == 1:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut off on purpose")
        yield accepted()

    with Client(serve(Train=train)) as client:
        assert client.train(few).name == "jobs/a"
    first, second = attempts
    assert first[0] == second[0]
    assert first[0].config.request_id
    batches = [request.batch for request in second[1:]]
    sent = b"".join(batch.pixels for batch in batches if batch.split == images_pb2.SPLIT_TRAIN)
    assert sent == few.train.images.tobytes()


def test_an_upload_is_not_made_for_ever(serve: "ScriptedServers", few: Dataset) -> None:
    attempts: list[int] = []

    def fail(requests: object, context: grpc.ServicerContext) -> None:
        attempts.append(1)
        context.abort(grpc.StatusCode.UNAVAILABLE, "never")

    with Client(serve(Train=fail, Evaluate=fail)) as client:
        for call in (lambda: client.train(few), lambda: client.evaluate(few)):
            attempts.clear()
            with pytest.raises(Unavailable, match="never"):
                call()
            assert len(attempts) == 4


def test_an_upload_that_is_refused_is_not_made_again(serve: "ScriptedServers", few: Dataset) -> None:
    attempts: list[int] = []

    def refuse(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        next(requests)
        attempts.append(1)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")

    with Client(serve(Train=refuse)) as client, pytest.raises(MnistError, match="the queue is full"):
        client.train(few)
    assert len(attempts) == 1


def test_an_upload_to_a_silent_server_ends(serve: "ScriptedServers", few: Dataset) -> None:
    def hang(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    with Client(serve(Train=hang, Evaluate=hang)) as client:
        client._silence = 0.3
        for call in (lambda: client.train(few), lambda: client.evaluate(few)):
            with pytest.raises(DeadlineExceeded, match=r"nothing was heard for 0\.3 s"):
                call()


def test_ctrl_c_leaves_an_upload_at_once(serve: "ScriptedServers", few: Dataset) -> None:
    begun, ended = threading.Event(), threading.Event()

    def hang(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        context.add_callback(ended.set)
        begun.set()
        ended.wait(30)

    def interrupt() -> None:
        begun.wait(30)
        time.sleep(0.2)  # by when the client is waiting
        os.kill(os.getpid(), signal.SIGINT)

    with Client(serve(Train=hang, Evaluate=hang)) as client:
        for call in (lambda: client.train(few), lambda: client.evaluate(few)):
            begun.clear()
            ended.clear()
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                call()
            thread.join(30)
            assert ended.wait(10)  # the server hears of it, and drops what it has


def test_a_server_that_is_not_there_is_known_before_files_are_read(tmp_path: Path) -> None:
    with Client("127.0.0.1:1") as client:
        for call in (client.train, client.evaluate):
            with pytest.raises(Unavailable):
                call(tmp_path / "none")


def test_training_that_ends_without_a_word_is_the_servers_fault(
    serve: "ScriptedServers", few: Dataset
) -> None:
    with Client(serve(Train=lambda requests, context: iter(()))) as client, pytest.raises(InternalError):
        client.train(few)


def test_data_larger_than_the_server_takes_is_not_sent(serve: "ScriptedServers", digits: Dataset) -> None:
    called = threading.Event()

    def train(requests: object, context: grpc.ServicerContext) -> Iterator[training_pb2.TrainResponse]:
        called.set()
        yield accepted()

    with Client(serve(Train=train)) as client, pytest.raises(InvalidInput, match=r"^data: 5000 images"):
        client.train(digits)
    assert not called.is_set()


# Evaluating


def test_an_evaluation_judges_by_the_test_split(trained: str, digits: Dataset, test_split: Split) -> None:
    with Client(trained) as client:
        evaluation = client.evaluate(digits)
        assert evaluation.model.startswith("models/mnist/versions/")
        assert evaluation.total == 1000
        assert evaluation.accuracy == evaluation.correct / 1000 > 0.7
        digits_said = client.predict(test_split.images).digits
        assert evaluation.correct == int((digits_said == test_split.labels).sum())
        confusion = np.zeros((10, 10), dtype=np.int64)
        np.add.at(confusion, (test_split.labels, digits_said), 1)
        np.testing.assert_array_equal(evaluation.confusion_matrix, confusion)
        assert [metrics.support for metrics in evaluation.per_class] == confusion.sum(axis=1).tolist()
        assert 0 < evaluation.ece < 1
        assert len(evaluation.mistakes) == 20
        for mistake in evaluation.mistakes:
            assert test_split.labels[mistake.index] == mistake.label != mistake.predicted
            assert digits_said[mistake.index] == mistake.predicted
        for data in (test_split, (test_split.images, test_split.labels), "mnist-5k"):
            assert client.evaluate(data).correct == evaluation.correct
        assert (
            client.evaluate(digits.train).total == client.evaluate(Dataset("t", digits.train)).total == 4000
        )


def test_what_cannot_be_evaluated_is_named(trained: str, few: Dataset) -> None:
    with Client(trained) as client:
        with pytest.raises(NotFound, match="models/nobody"):
            client.evaluate(few, model="nobody")
        with pytest.raises(InvalidInput, match=r"batch\.labels\[1\]: 77"):
            client.evaluate((few.train.images[:2], [3, 77]))
        with pytest.raises(InvalidInput, match=r"^model: 'A B' is not valid"):
            client.evaluate(few, model="A B")


def test_an_evaluation_that_makes_no_sense_is_the_servers_fault(
    serve: "ScriptedServers", few: Dataset
) -> None:
    def evaluate(requests: object, context: grpc.ServicerContext) -> evaluation_pb2.EvaluateResponse:
        return evaluation_pb2.EvaluateResponse(evaluation=evaluation_pb2.Evaluation(classes=10))

    with Client(serve(Evaluate=evaluate)) as client, pytest.raises(InternalError, match="confusion matrix"):
        client.evaluate(few)


# Predicting


def test_digits_are_named(trained: str, test_split: Split) -> None:
    with Client(trained) as client:
        predictions = client.predict(test_split.images)
        assert len(predictions) == 1000
        assert predictions.probabilities.shape == (1000, 10)
        np.testing.assert_allclose(predictions.probabilities.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(predictions.digits, predictions.probabilities.argmax(axis=1))
        np.testing.assert_array_equal(predictions.confidences, predictions.probabilities.max(axis=1))
        assert predictions.inputs is None
        one = client.predict(test_split.images[5], model="mnist", return_inputs=True)
        assert one[0].digit == predictions[5].digit
        np.testing.assert_allclose(one.probabilities[0], predictions.probabilities[5], atol=1e-5)
        assert one.inputs is not None
        np.testing.assert_array_equal(one.inputs[0], test_split.images[5])
        version = predictions.model.rpartition("/")[2]
        assert client.predict(test_split.images[:1], model=f"mnist@{version}").model == predictions.model


def test_pictures_of_every_kind_are_named(trained: str, test_split: Split, tmp_path: Path) -> None:
    image = Image.fromarray(test_split.images[0])
    png = io.BytesIO()
    image.save(png, "PNG")
    path = tmp_path / "digit.png"
    path.write_bytes(png.getvalue())
    with Client(trained) as client:
        expected = client.predict(test_split.images[0])
        mixed = [png.getvalue(), test_split.images[0], path, str(path), image, test_split.images[:2]]
        predictions = client.predict(mixed, return_inputs=True)
    assert len(predictions) == 7
    for prediction in list(predictions)[:6]:
        np.testing.assert_allclose(prediction.probabilities, expected.probabilities[0], atol=1e-5)
        assert prediction.input is not None
        np.testing.assert_array_equal(prediction.input, test_split.images[0])


def test_what_cannot_be_predicted_is_named(trained: str, test_split: Split, tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(test_split.images[0]).save(picture, "PNG")
    with Client(trained) as client:
        with pytest.raises(InvalidInput, match=r"^images\[2\]: ") as raised:
            client.predict([test_split.images[0], picture.getvalue(), b"no picture"])
        assert raised.value.violations[0][0] == "images[2]"
        with pytest.raises(InvalidInput, match="28 x 28"):
            client.predict(np.zeros((5, 20, 30), np.uint8))
        with pytest.raises(DataError, match=r"none\.png"):
            client.predict(tmp_path / "none.png")
        with pytest.raises(NotFound, match="models/nobody"):
            client.predict(test_split.images[0], model="nobody")


def named(request: prediction_pb2.PredictRequest, version: int = 1) -> prediction_pb2.PredictResponse:
    """An answer that takes each image's first pixel for its digit."""
    size = request.height * request.width
    marks = list(request.pixels[::size]) if size else [0]
    return prediction_pb2.PredictResponse(
        model=f"models/m/versions/{version}",
        digits=marks,
        confidences=[1.0] * len(marks),
        probabilities=[1.0] * len(marks),
        classes=1,
    )


def marks(*values: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array(values, dtype=np.uint8).reshape(-1, 1, 1) * np.ones((1, 2, 2), dtype=np.uint8)


def test_all_images_of_a_call_are_named_by_one_version(serve: "ScriptedServers") -> None:
    asked: list[str] = []

    def predict(
        request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        asked.append(request.model)
        return named(request, version=8)

    with Client(serve(Predict=predict)) as client:
        predictions = client.predict(marks(*range(250)), model="m@stable")
    assert predictions.digits.tolist() == list(range(250))
    assert asked == ["models/m/aliases/stable", "models/m/versions/8", "models/m/versions/8"]


# A stream of predictions


def test_a_stream_names_batches(trained: str, test_split: Split) -> None:
    batches = [test_split.images[start : start + 7] for start in range(0, 1000, 7)]
    with Client(trained) as client:
        expected = client.predict(test_split.images).digits
        answers = dict(client.predict_stream(iter(batches), model="mnist", window=4))
    assert sorted(answers) == list(range(len(batches)))
    for index, answered in answers.items():
        assert isinstance(answered, Predictions)
        np.testing.assert_array_equal(answered.digits, expected[index * 7 : index * 7 + 7])


def test_a_bad_batch_has_an_error_of_its_own_and_the_stream_goes_on(
    trained: str, test_split: Split, tmp_path: Path
) -> None:
    good = test_split.images[:2]
    batches: list[Any] = [
        good,
        good.astype(float),  # refused here
        np.zeros((3, 5, 5), np.uint8),  # refused by the server
        b"no picture",
        tmp_path / "none.png",
        good,
    ]
    with Client(trained) as client:
        answers = dict(client.predict_stream(batches))
    assert [type(answers[index]) for index in (0, 5)] == [Predictions, Predictions]
    assert isinstance(answers[1], InvalidInput)
    assert "float64" in str(answers[1])
    assert isinstance(answers[2], InvalidInput)
    assert "28 x 28" in str(answers[2])
    assert isinstance(answers[3], InvalidInput)
    assert str(answers[3]).startswith("images[0]: ")
    assert isinstance(answers[4], DataError)


def test_a_stream_without_batches_is_empty(trained: str) -> None:
    with Client(trained) as client:
        assert list(client.predict_stream([])) == []


def stream_of(
    answer: Callable[[list[prediction_pb2.PredictStreamRequest]], list[int]], together: int
) -> Callable[..., Iterator[prediction_pb2.PredictStreamResponse]]:
    """A PredictStream that takes so many requests, then answers those in the order that `answer` says."""

    def predict_stream(
        requests: Iterator[prediction_pb2.PredictStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[prediction_pb2.PredictStreamResponse]:
        waiting: list[prediction_pb2.PredictStreamRequest] = []
        for request in requests:
            waiting.append(request)
            if len(waiting) == together:
                for place in answer(waiting):
                    response = named(waiting[place].request)
                    yield prediction_pb2.PredictStreamResponse(id=waiting[place].id, response=response)
                waiting.clear()

    return predict_stream


def test_answers_may_come_in_any_order(serve: "ScriptedServers") -> None:
    backwards = stream_of(lambda waiting: list(reversed(range(len(waiting)))), 5)
    with Client(serve(PredictStream=backwards)) as client:
        answers = list(client.predict_stream([marks(value) for value in range(15)], window=5))
    assert [index for index, _ in answers] == [4, 3, 2, 1, 0, 9, 8, 7, 6, 5, 14, 13, 12, 11, 10]
    for index, answered in answers:
        assert isinstance(answered, Predictions)
        assert answered.digits.tolist() == [index]


def test_no_more_batches_are_taken_than_the_window_holds(serve: "ScriptedServers") -> None:
    taken = 0
    answered = 0
    most = 0

    def batches() -> Iterator[Any]:
        nonlocal taken, most
        for _ in range(40):
            taken += 1
            most = max(most, taken - answered)
            yield marks(1)

    def one_by_one(waiting: list[Any]) -> list[int]:
        time.sleep(0.005)  # so that a client without a window would be far ahead
        return [0]

    with Client(serve(PredictStream=stream_of(one_by_one, 1))) as client:
        for _ in client.predict_stream(batches(), window=3):
            answered += 1
    assert answered == 40
    # One more may have been taken between an answer's coming and its being counted here.
    assert 3 <= most <= 4


def test_what_the_batches_raise_is_raised_after_the_answers(trained: str, test_split: Split) -> None:
    def batches() -> Iterator[Any]:
        yield test_split.images[:1]
        yield test_split.images[:1]
        raise OSError("the camera is gone")

    answers: list[tuple[int, Predictions | MnistError]] = []
    with Client(trained) as client, pytest.raises(OSError, match="the camera is gone"):
        answers.extend(client.predict_stream(batches()))
    assert [index for index, _ in answers] == [0, 1]


def test_answers_come_before_the_next_batch(trained: str, test_split: Split) -> None:
    answered = threading.Event()

    def batches() -> Iterator[Any]:
        yield test_split.images[:1]
        assert answered.wait(30), "the first answer was held back until the second batch"
        yield test_split.images[:1]

    with Client(trained) as client:
        for _ in client.predict_stream(batches()):
            answered.set()


def test_a_stream_that_breaks_is_an_error(serve: "ScriptedServers") -> None:
    def die(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        next(requests)
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def end(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        next(requests)
        return iter(())

    with Client(serve(PredictStream=die)) as client, pytest.raises(Unavailable, match="gone"):
        list(client.predict_stream([marks(1)] * 100))
    with Client(serve(PredictStream=end)) as client, pytest.raises(InternalError, match="without an answer"):
        list(client.predict_stream([marks(1)] * 100))


def test_a_silent_stream_ends_and_a_slow_caller_does_not(serve: "ScriptedServers") -> None:
    def slow() -> Iterator[Any]:
        for _ in range(3):
            yield marks(1)
            time.sleep(0.6)

    with Client(serve(PredictStream=stream_of(lambda waiting: [0], 1))) as client:
        client._silence = 0.3
        assert len(list(client.predict_stream(slow()))) == 3

    def hang(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    with Client(serve(PredictStream=hang)) as client:
        client._silence = 0.3
        with pytest.raises(DeadlineExceeded, match=r"nothing was heard for 0\.3 s"):
            list(client.predict_stream([marks(1)]))


def test_leaving_a_stream_ends_it(serve: "ScriptedServers") -> None:
    ended = threading.Event()

    def predict_stream(
        requests: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[prediction_pb2.PredictStreamResponse]:
        context.add_callback(ended.set)
        yield from stream_of(lambda waiting: [0], 1)(requests, context)

    left = threading.Event()

    def endless() -> Iterator[Any]:
        try:
            while True:
                yield marks(1)
        finally:
            left.set()

    with Client(serve(PredictStream=predict_stream)) as client:
        for _ in client.predict_stream(endless(), window=2):
            break
        assert ended.wait(10)
        assert left.wait(10)  # the thread that took the batches is gone


def test_a_window_is_at_least_one(client: Client) -> None:
    with pytest.raises(InvalidInput, match=r"^window: 0 is not valid"):
        list(client.predict_stream([], window=0))


# Data sets


def test_a_data_set_is_sent_once(serve: "ScriptedServers", few: Dataset) -> None:
    """By upload_dataset twice, and then by train, of which the configuration alone goes out."""
    stored: list[dataset_pb2.Dataset] = []
    configs: list[training_pb2.TrainingConfig] = []
    uploads: list[bytes] = []

    def get(request: dataset_pb2.GetDatasetRequest, context: grpc.ServicerContext) -> Any:
        if not stored or request.dataset != stored[0].name:
            context.abort(grpc.StatusCode.NOT_FOUND, request.dataset)
        return dataset_pb2.GetDatasetResponse(dataset=stored[0])

    def upload(
        requests: Iterator[dataset_pb2.UploadDatasetRequest], context: grpc.ServicerContext
    ) -> dataset_pb2.UploadDatasetResponse:
        uploads.append(b"".join(request.batch.pixels for request in requests))
        stored.append(dataset_pb2.Dataset(name=dataset_name(few), height=28, width=28))
        return dataset_pb2.UploadDatasetResponse(dataset=stored[0])

    def train(
        requests: Iterator[training_pb2.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[training_pb2.TrainResponse]:
        [only] = requests
        configs.append(only.config)
        yield accepted()

    with Client(serve(GetDataset=get, UploadDataset=upload, Train=train)) as client:
        assert client.upload_dataset(few).name == dataset_name(few)
        assert client.upload_dataset(few).name == dataset_name(few)
        client.train(few)
        client.train(dataset_name(few))
    pixels = [split.images.tobytes() for split in (few.train, few.validation, few.test) if split]
    assert uploads == [b"".join(pixels)]
    assert [config.dataset for config in configs] == [dataset_name(few)] * 2


def test_a_data_set_that_goes_between_asking_and_training_is_sent(
    serve: "ScriptedServers", few: Dataset
) -> None:
    attempts: list[list[training_pb2.TrainRequest]] = []

    def get(request: dataset_pb2.GetDatasetRequest, context: grpc.ServicerContext) -> Any:
        return dataset_pb2.GetDatasetResponse(dataset=dataset_pb2.Dataset(name=request.dataset))

    def train(
        requests: Iterator[training_pb2.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[training_pb2.TrainResponse]:
        attempts.append(list(requests))
        if len(attempts) == 1:
            context.abort(grpc.StatusCode.NOT_FOUND, "deleted on purpose")
        yield accepted()

    with Client(serve(GetDataset=get, Train=train)) as client:
        client.train(few)
    [first], [config, *batches] = attempts
    assert first.config.dataset
    assert not config.config.dataset
    assert first.config.request_id == config.config.request_id
    assert batches


def test_data_sets_are_kept_shown_listed_and_deleted(client: Client, few: Dataset) -> None:
    stored = client.upload_dataset(few)
    assert stored.name == dataset_name(few)
    assert [split.split for split in stored.splits] == [
        name for name in ("train", "validation", "test") if getattr(few, name)
    ]
    train = stored.splits[0]
    assert train.images == len(few.train.labels)
    assert train.class_counts == tuple(np.bincount(few.train.labels, minlength=10))
    assert train.mean_image is not None
    np.testing.assert_allclose(train.mean_image, few.train.images.mean(axis=0), rtol=1e-6)
    assert client.dataset(stored.name.removeprefix("datasets/")).create_time == stored.create_time
    assert stored.name in [each.name for each in client.datasets()]
    job = client.train(stored.name, epochs=1, seed=1)
    assert job.status().config.dataset == stored.name
    job.result(timeout=60)
    for each in client.jobs():  # of other tests on the same data set
        if each.state in ("QUEUED", "RUNNING"):
            client.job(each.name).cancel()
            with pytest.raises(JobCancelled):
                client.job(each.name).result(timeout=60)
    client.delete_dataset(stored.name)
    for call in (client.dataset, client.delete_dataset, client.train):
        with pytest.raises(NotFound, match=stored.name):
            call(stored.name)
    with pytest.raises(InvalidInput, match="datasets/"):
        client.dataset("mnist")


def test_a_mean_image_that_makes_no_sense_is_the_servers_fault(serve: "ScriptedServers") -> None:
    split = dataset_pb2.DatasetSplit(mean_image=[1.0, 2.0])
    dataset = dataset_pb2.Dataset(height=2, width=2, splits=[split])
    address = serve(GetDataset=lambda request, context: dataset_pb2.GetDatasetResponse(dataset=dataset))
    with Client(address) as client, pytest.raises(InternalError, match="2 pixels for images of 2 x 2"):
        client.dataset("ab" * 32)


# Asking


def test_models_are_listed_and_shown(trained: str, digits: Dataset) -> None:
    with Client(trained) as client:
        [listed] = [model for model in client.models() if model.name == "models/mnist"]
        assert len(listed.versions) == 1
        model = client.model("mnist")
        assert model.aliases["default"] == 1
        [first] = client.model("mnist@1").versions
        assert client.model("mnist@default").versions == (first,)
        assert first in model.versions
        assert first.parameters == 784 * 30 + 30 + 30 * 10 + 10
        assert first.job is not None
        assert client.job(first.job).status().model_version == first.name
        assert first.last_epoch is not None
        assert first.last_epoch.weights_hash == first.weights_hash
        with pytest.raises(NotFound, match="models/nobody"):
            client.model("nobody")


def test_lists_go_over_all_pages(serve: "ScriptedServers") -> None:
    names = [f"{number:03}" for number in range(7)]

    def page(token: str) -> tuple[list[str], str]:
        start = int(token or 0)
        return names[start : start + 3], str(start + 3) if start + 3 < len(names) else ""

    def list_models(
        request: model_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> model_pb2.ListModelsResponse:
        found, following = page(request.page_token)
        models = [model_pb2.Model(name=name) for name in found]
        return model_pb2.ListModelsResponse(models=models, next_page_token=following)

    def list_jobs(
        request: training_pb2.ListTrainingJobsRequest, context: grpc.ServicerContext
    ) -> training_pb2.ListTrainingJobsResponse:
        found, following = page(request.page_token)
        jobs = [training_pb2.TrainingJob(name=name) for name in found]
        return training_pb2.ListTrainingJobsResponse(jobs=jobs, next_page_token=following)

    with Client(serve(ListModels=list_models, ListTrainingJobs=list_jobs)) as client:
        assert [model.name for model in client.models()] == names
        assert [job.name for job in client.jobs()] == names


def test_the_server_speaks_for_itself(trained: str) -> None:
    with Client(trained) as client:
        client.predict(np.zeros((28, 28), np.uint8))
        info = client.info()
        assert info.limits.max_message_bytes > 2**20
        assert info.threads >= 1
        assert info.environment.numpy_version == np.__version__
        assert any(name.startswith("models/mnist/versions/") for name in info.models_loaded)
        assert client.health() == client.health("mnist.v1.PredictionService") == "SERVING"
        with pytest.raises(NotFound):
            client.health("no.such.Service")


# The client itself


@pytest.mark.parametrize("name", ["timeout", "reconnect_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("inf")])
def test_a_client_waits_some_time(name: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=rf"^{name}: {value} is not valid"):
        Client("127.0.0.1:1", **{name: value})


def test_a_client_says_what_it_is_of() -> None:
    with Client("127.0.0.1:1") as client:
        assert repr(client) == "Client('127.0.0.1:1')"
        assert repr(client.job("a")) == "TrainingJob('jobs/a')"


def test_closing_a_client_ends_what_is_going_on(serve: "ScriptedServers") -> None:
    begun = threading.Event()

    def hang(request: object, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        begun.set()
        ended.wait(30)

    client = Client(serve(GetModel=hang))
    errors: list[MnistError] = []

    def ask() -> None:
        try:
            client.model("m")
        except MnistError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert begun.wait(10)
    client.close()
    thread.join(10)
    assert [type(error) for error in errors] == [CallCancelled]


def test_closing_does_not_wait_for_ever(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_client.client._CLOSE_SECONDS", 0.05)
    stuck, left = threading.Event(), threading.Event()
    client = Client(server)
    close = client._channel.close

    def hang() -> None:
        stuck.wait(30)
        close()
        left.set()

    monkeypatch.setattr(client._channel, "close", hang)
    client.close()
    assert not left.is_set()
    stuck.set()
    assert left.wait(30)
