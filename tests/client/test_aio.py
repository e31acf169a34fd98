"""The async client: the sync client's surface and answers, without blocking the event loop."""

import asyncio
import dataclasses
import inspect
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from mnist_client import (
    Accepted,
    AlreadyExists,
    AsyncClient,
    AsyncTrainingJob,
    Augmentation,
    CallCancelled,
    Client,
    ConditionNotMet,
    DataError,
    Dataset,
    DeadlineExceeded,
    EpochFinished,
    InternalError,
    InvalidInput,
    JobCancelled,
    MnistError,
    NotFound,
    Paused,
    Predictions,
    ResourceExhausted,
    Split,
    Started,
    Succeeded,
    TrainingJob,
    Unavailable,
    dataset_name,
)
from mnist_proto.v1 import model_pb2, prediction_pb2, training_pb2

if TYPE_CHECKING:
    from tests.client.conftest import ScriptedServers


@pytest.fixture
async def client(server: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server) as client:
        yield client


@pytest.fixture
async def trained_client(trained: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(trained) as client:
        yield client


@pytest.fixture
def few(digits: Dataset) -> Dataset:
    return Dataset("few", Split(digits.train.images[:200], digits.train.labels[:200]))


@pytest.fixture
def test_split(digits: Dataset) -> Split:
    assert digits.test is not None
    return digits.test


# The same surface


def surface(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
    """The public methods of a class, with the names, kinds and defaults of their parameters."""
    return {
        name: [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in inspect.signature(method).parameters.values()
        ]
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


@pytest.mark.parametrize(("sync", "other"), [(Client, AsyncClient), (TrainingJob, AsyncTrainingJob)])
def test_both_clients_have_one_surface(sync: type, other: type) -> None:
    assert surface(sync) == surface(other)
    assert len(surface(sync)) > 3


def test_what_waits_is_awaited() -> None:
    for kind in (AsyncClient, AsyncTrainingJob):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_") and name != "job":
                assert inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method), name


# Against a real server


async def test_a_job_learns_and_says_so(client: AsyncClient, digits: Dataset) -> None:
    job = await client.train(digits, epochs=2, seed=7, hidden=20)
    assert isinstance(job, AsyncTrainingJob)
    events = [event async for event in job.watch()]
    assert [type(event) for event in events] == [Accepted, Started, EpochFinished, EpochFinished, Succeeded]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert await job.result(timeout=30) == events[-1]
    status = await job.status()
    assert status.state == "SUCCEEDED"
    assert status in [each async for each in client.jobs()]
    with Client(client.server) as sync:
        assert list(sync.job(job.name).watch()) == events
        assert sync.job(job.name).status() == status


async def test_every_option_reaches_the_job(client: AsyncClient, few: Dataset) -> None:
    options: dict[str, Any] = {
        "name": "async-optioned",
        "recipe": "quick",
        "base_model": None,
        "class_names": list("abcdefghij"),
        "hidden": None,
        "layers": "12-D0.25-11",
        "epochs": 3,
        "batch_size": 7,
        "learning_rate": 0.25,
        "activation": "relu",
        "output": "softmax",
        "loss": "cross_entropy",
        "initialization": "scaled",
        "weight_decay": 0.125,
        "momentum": 0.5,
        "optimizer": "sgd",
        "schedule": "cosine",
        "warm_up": 0.25,
        "clip_norm": 2.0,
        "augmentation": Augmentation(shift=1.5),
        "patience": 2,
        "until_accuracy": 0.75,
        "time_budget": 90.5,
        "keep_best": True,
        "validation": 40,
        "seed": 2**40,
        "dtype": "float64",
        "promote": True,
        "request_id": "an-async-id",
    }
    keywords = [
        name for name, kind, _ in surface(AsyncClient)["train"] if kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert keywords == list(options)
    job = await client.train(few, **options)
    with Client(client.server) as sync:
        assert sync.train(few, **options).name == job.name  # every option the same, or it would be refused
        with pytest.raises(AlreadyExists):
            sync.train(few, **{**options, "momentum": 0.25})
    await job.result(timeout=60)


async def test_a_job_can_be_paused_and_resumed(client: AsyncClient, digits: Dataset) -> None:
    job = await client.train(digits, hidden=100, epochs=5)
    async for event in job.watch():
        if isinstance(event, EpochFinished) and event.epoch == 0:
            await job.pause()
        if isinstance(event, Paused):
            assert (await job.status()).state == "PAUSED"
            assert (await job.resume(allow_inexact=True)).state == "QUEUED"
    kinds = [type(event).__name__ async for event in job.watch() if not isinstance(event, EpochFinished)]
    assert kinds == ["Accepted", "Started", "Paused", "Resumed", "Continued", "Succeeded"]
    with pytest.raises(ConditionNotMet):
        await job.resume()


async def test_a_job_that_has_ended_can_be_deleted(client: AsyncClient, few: Dataset) -> None:
    job = await client.train(few, epochs=1, name="async-listed")
    await job.result(timeout=60)
    jobs = client.jobs(model="async-listed", states="SUCCEEDED")
    assert [each.name async for each in jobs] == [job.name]
    await job.delete()
    with pytest.raises(NotFound):
        await job.status()
    assert [each async for each in client.jobs(model="async-listed")] == []


async def test_a_job_can_be_cancelled(client: AsyncClient, digits: Dataset) -> None:
    job = await client.train(digits, epochs=100_000)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.1 s"):
        await job.result(timeout=0.1)
    await job.cancel()
    with pytest.raises(JobCancelled):
        await job.result(timeout=30)
    job = await client.train(digits, epochs=1)
    await job.result(timeout=60)
    with pytest.raises(ConditionNotMet):
        await job.cancel()


async def test_what_the_server_refuses_is_an_error(client: AsyncClient, few: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"config\.epochs"):
        await client.train(few, epochs=0)
    with pytest.raises(InvalidInput, match="activation: 'swish'"):
        await client.train(few, activation="swish")
    with pytest.raises(DataError):
        await client.train(tmp_path / "none")
    with pytest.raises(NotFound, match="job-nobody"):
        await client.job("job-nobody").status()
    with pytest.raises(NotFound, match="models/nobody"):
        await client.model("nobody")
    with pytest.raises(NotFound):
        await client.health("no.such.Service")
    with pytest.raises(InvalidInput, match="name: 'A' is not valid"):
        client.job("A")


async def test_both_clients_evaluate_and_predict_alike(
    trained_client: AsyncClient, digits: Dataset, test_split: Split
) -> None:
    client = trained_client
    evaluation = await client.evaluate(digits)
    predictions = await client.predict(test_split.images, return_inputs=True)
    with Client(client.server) as sync:
        expected = sync.evaluate(digits)
        expected_predictions = sync.predict(test_split.images, return_inputs=True)
        assert client.server == sync.server
        assert await client.health() == sync.health() == "SERVING"
        assert (await client.info()).limits == sync.info().limits
        assert await client.model("mnist") == sync.model("mnist")
        assert [model async for model in client.models()] == list(sync.models())
    assert evaluation.correct == expected.correct
    assert evaluation.mistakes == expected.mistakes
    np.testing.assert_array_equal(predictions.digits, expected_predictions.digits)
    np.testing.assert_array_equal(predictions.inputs, test_split.images)
    with pytest.raises(InvalidInput, match=r"^images\[1\]: "):
        await client.predict([test_split.images[0], b"no picture"])
    with pytest.raises(DataError):
        await client.predict("none.png")


@pytest.mark.parametrize("kind", ["iterable", "async iterable"])
async def test_a_stream_names_batches(trained_client: AsyncClient, test_split: Split, kind: str) -> None:
    batches: list[Any] = [test_split.images[start : start + 9] for start in range(0, 200, 9)]
    batches[3] = np.zeros((1, 5, 5), np.uint8)
    batches[4] = "none.png"

    async def each() -> AsyncIterator[Any]:
        for batch in batches:
            await asyncio.sleep(0)
            yield batch

    source = each() if kind == "async iterable" else iter(batches)
    answers = {index: answered async for index, answered in trained_client.predict_stream(source, window=4)}
    assert sorted(answers) == list(range(len(batches)))
    expected = (await trained_client.predict(test_split.images)).digits
    for index, answered in answers.items():
        if index == 3:
            assert isinstance(answered, InvalidInput)
        elif index == 4:
            assert isinstance(answered, DataError)
        else:
            assert isinstance(answered, Predictions)
            np.testing.assert_array_equal(
                answered.digits, expected[index * 9 : index * 9 + 9][: len(answered)]
            )


async def test_the_loop_goes_on_while_a_data_set_is_read_and_sent(
    client: AsyncClient, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, ticked = threading.Event(), threading.Event()

    def slow_load(spec: object) -> Dataset:
        reading.set()
        assert ticked.wait(30), "the event loop stood still while the data set was read"
        return few

    async def tick() -> None:
        while not reading.is_set():
            await asyncio.sleep(0.01)
        ticked.set()

    monkeypatch.setattr("mnist_client.batches.load_dataset", slow_load)
    job, _ = await asyncio.gather(client.train("spec", epochs=1), tick())
    await job.cancel() if (await job.status()).state == "QUEUED" else await job.result(timeout=60)


async def test_many_calls_go_on_at_once(trained_client: AsyncClient, test_split: Split) -> None:
    parts = [test_split.images[start : start + 20] for start in range(0, 1000, 20)]
    answers = await asyncio.gather(*(trained_client.predict(part) for part in parts))
    expected = (await trained_client.predict(test_split.images)).digits
    np.testing.assert_array_equal(np.concatenate([answered.digits for answered in answers]), expected)


async def test_cancelling_a_task_that_watches_is_not_an_error_of_the_server(
    client: AsyncClient, digits: Dataset
) -> None:
    job = await client.train(digits, epochs=100_000)
    begun = asyncio.Event()

    async def watch() -> None:
        async for event in job.watch():
            if isinstance(event, EpochFinished):
                begun.set()

    task = asyncio.create_task(watch())
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await job.status()).state == "RUNNING"
    await job.cancel()


async def test_cancelling_a_task_that_uploads_ends_the_upload(serve: "ScriptedServers", few: Dataset) -> None:
    begun, ended = threading.Event(), threading.Event()

    def hang(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        context.add_callback(ended.set)
        begun.set()
        ended.wait(30)

    async with AsyncClient(serve(Train=hang, Evaluate=hang)) as client:
        for call in (client.train, client.evaluate):
            begun.clear()
            ended.clear()
            task: asyncio.Task[Any] = asyncio.create_task(call(few))
            assert await asyncio.to_thread(begun.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 10)


async def test_data_sets_are_kept_shown_listed_and_deleted(client: AsyncClient, digits: Dataset) -> None:
    data = Dataset("few", Split(digits.train.images[:77], digits.train.labels[:77]))
    stored = await client.upload_dataset(data)
    assert stored.name == dataset_name(data)
    assert (await client.upload_dataset(data)).create_time == stored.create_time
    assert (await client.upload_dataset(stored.name)).create_time == stored.create_time
    assert stored.name in [each.name async for each in client.datasets()]
    for source in (stored.name, data):
        job = await client.train(source, epochs=1)
        assert (await job.status()).config.dataset == stored.name
        await job.result(timeout=60)
    await client.delete_dataset(stored.name)
    for call in (client.dataset, client.delete_dataset, client.train):
        with pytest.raises(NotFound, match=stored.name):
            await call(stored.name)


# Against servers that misbehave


def accepted() -> training_pb2.TrainResponse:
    event = training_pb2.TrainingEvent(job="jobs/a", sequence=1, accepted=training_pb2.Accepted())
    return training_pb2.TrainResponse(event=event)


async def test_an_upload_that_was_cut_off_is_made_again_as_the_same_request(
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

    async with AsyncClient(serve(Train=train)) as client:
        assert (await client.train(few)).name == "jobs/a"
    first, second = attempts
    assert first[0] == second[0]
    assert b"".join(request.batch.pixels for request in second) == few.train.images.tobytes()


async def test_uploads_that_come_to_nothing_end(serve: "ScriptedServers", few: Dataset) -> None:
    attempts: list[int] = []

    def fail(requests: object, context: grpc.ServicerContext) -> None:
        attempts.append(1)
        context.abort(grpc.StatusCode.UNAVAILABLE, "never")

    def hang(requests: object, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    def say_nothing(requests: Iterator[object], context: grpc.ServicerContext) -> Iterator[object]:
        for _ in requests:  # all: grpc.aio replaces a status that comes while it writes by one of its own
            pass
        return iter(())

    async with AsyncClient(serve(Train=fail, Evaluate=fail)) as client:
        with pytest.raises(Unavailable, match="never"):
            await client.train(few)
        with pytest.raises(Unavailable, match="never"):
            await client.evaluate(few)
    assert len(attempts) == 8
    async with AsyncClient(serve(Train=hang, Evaluate=hang)) as client:
        client._silence = 0.3
        with pytest.raises(DeadlineExceeded, match=r"nothing was heard for 0\.3 s"):
            await client.train(few)
        with pytest.raises(DeadlineExceeded, match=r"nothing was heard for 0\.3 s"):
            await client.evaluate(few)
    async with AsyncClient(serve(Train=say_nothing)) as client:
        with pytest.raises(InternalError, match="without an event"):
            await client.train(few)


async def test_an_upload_that_moves_is_not_ended(serve: "ScriptedServers") -> None:
    def slow(
        requests: Iterator[training_pb2.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[training_pb2.TrainResponse]:
        ended = threading.Event()
        context.add_callback(ended.set)
        for _ in requests:
            ended.wait(0.08)
        yield accepted()

    # Some 40 batches: more than 3 s, of which 1.5 s without one would end it.
    large = Dataset("large", Split(np.zeros((53_000, 28, 28), np.uint8), np.zeros(53_000, np.uint8)))
    address = serve(Train=slow)
    async with AsyncClient(address) as client:
        client._silence = 1.5
        limits = dataclasses.replace(
            (await client.info()).limits,
            max_message_bytes=2**24,
            max_dataset_images=10**6,
            max_dataset_bytes=2**30,
        )
        client._limits = limits
        assert (await client.train(large)).name == "jobs/a"
    with Client(address) as sync:
        sync._silence, sync._limits = 1.5, limits
        assert sync.train(large).name == "jobs/a"


async def test_a_status_cancelled_of_the_server_is_not_the_callers_cancellation(
    serve: "ScriptedServers",
) -> None:
    def cancel(request: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "cancelled on purpose")

    async with AsyncClient(serve(GetModel=cancel)) as client:
        with pytest.raises(CallCancelled):
            await client.model("m")


async def test_the_status_of_a_call_that_ends_while_something_is_sent_is_the_servers(
    serve: "ScriptedServers", few: Dataset
) -> None:
    def refuse(requests: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full on purpose")

    batches = [np.zeros((1, 2, 2), np.uint8)] * 50
    address = serve(Train=refuse, Evaluate=refuse, PredictStream=refuse)
    async with AsyncClient(address) as client:
        limits = await client.info()
        client._limits = dataclasses.replace(limits.limits, max_message_bytes=2_000)  # many small messages
        # grpc.aio by itself loses most of these statuses.
        for _ in range(40):
            for call in (
                client.train(few),
                client.evaluate(few),
                anext(client.predict_stream(batches)),
            ):
                with pytest.raises(ResourceExhausted, match="full on purpose"):
                    await call


async def test_a_write_that_failed_before_any_status_is_a_lost_connection() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        metadata = grpc.aio.Metadata()
        lost = grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL, metadata, metadata, "Internal error from Core", 'Failed "execute_batch"'
        )
        with (
            pytest.raises(Unavailable, match="the connection broke while something was sent"),
            client._errors(),
        ):
            raise lost


def answers_of(*responses: int) -> Any:
    """A PredictStream that takes two requests, then answers those of these numbers."""

    def predict_stream(
        requests: Iterator[prediction_pb2.PredictStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[prediction_pb2.PredictStreamResponse]:
        list(itertools.islice(requests, 2))
        for number in responses:
            answered = prediction_pb2.PredictResponse(
                digits=[number], confidences=[1], probabilities=[1], classes=1
            )
            yield prediction_pb2.PredictStreamResponse(id=number, response=answered)

    return predict_stream


async def test_answers_may_come_in_any_order_but_must_come(serve: "ScriptedServers") -> None:
    batch = np.zeros((1, 2, 2), np.uint8)
    async with AsyncClient(serve(PredictStream=answers_of(1, 0))) as client:
        found = [index async for index, _ in client.predict_stream([batch, batch])]
        assert found == [1, 0]
    for wrong, words in (
        (answers_of(1), "without an answer to 1"),
        (answers_of(0, 0), "not waiting for one"),
    ):
        async with AsyncClient(serve(PredictStream=wrong)) as client:
            with pytest.raises(InternalError, match=words):
                [answered async for answered in client.predict_stream([batch, batch])]


async def test_no_more_batches_are_taken_than_the_window_holds(serve: "ScriptedServers") -> None:
    taken = 0

    async def batches() -> AsyncIterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield np.zeros((1, 2, 2), np.uint8)

    def hang(requests: Iterator[Any], context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        for _ in requests:
            pass
        ended.wait(30)

    async with AsyncClient(serve(PredictStream=hang)) as client:
        client._silence = 0.5
        with pytest.raises(DeadlineExceeded):
            [answered async for answered in client.predict_stream(batches(), window=3)]
    assert taken == 3


async def test_what_the_batches_raise_is_raised_after_the_answers(
    trained_client: AsyncClient, test_split: Split
) -> None:
    async def batches() -> AsyncIterator[Any]:
        yield test_split.images[:1]
        yield test_split.images[:1]
        raise OSError("the camera is gone")

    answers: list[tuple[int, Predictions | MnistError]] = []

    async def collect() -> None:
        async for answered in trained_client.predict_stream(batches()):
            answers.append(answered)

    with pytest.raises(OSError, match="the camera is gone"):
        await collect()
    assert [index for index, _ in answers] == [0, 1]


async def test_a_slow_source_of_batches_is_not_the_servers_silence(
    trained_client: AsyncClient, test_split: Split
) -> None:
    async def batches() -> AsyncIterator[Any]:
        for _ in range(3):
            yield test_split.images[:1]
            await asyncio.sleep(0.8)

    trained_client._silence = 0.4
    assert len([answered async for answered in trained_client.predict_stream(batches())]) == 3


# The client itself


def test_a_client_needs_a_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        AsyncClient("127.0.0.1:1")


async def test_a_client_says_what_it_is_of() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        assert repr(client) == "AsyncClient('127.0.0.1:1')"
        assert repr(client.job("a")) == "AsyncTrainingJob('jobs/a')"
        with pytest.raises(InvalidInput, match=r"^timeout: 0 is not valid"):
            AsyncClient(timeout=0)


async def test_a_client_retries_what_may_be_retried(serve: "ScriptedServers") -> None:
    attempts: list[int] = []

    def get_model(request: object, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        attempts.append(1)
        if len(attempts) < 3:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return model_pb2.GetModelResponse(model=model_pb2.Model(name="models/m"))

    async with AsyncClient(serve(GetModel=get_model)) as client:
        assert (await client.model("m")).name == "models/m"
    assert len(attempts) == 3
