"""The async client: the same calls as `Client`, for programs that do other things while they wait."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import grpc
import grpc.aio
import numpy as np

from mnist_client.aio_call import AsyncSilence, Ending, is_failed_write
from mnist_client.aio_training_job import AsyncTrainingJob
from mnist_client.batches import (
    Data,
    check_dataset,
    check_image_size,
    check_split,
    dataset_name,
    evaluate_requests,
    evaluation_config,
    name_classes,
    stored_name,
    to_dataset,
    to_split,
    train_requests,
    upload_requests,
)
from mnist_client.channel import DEADLINE_SECONDS, channel_options, health_check, server_address
from mnist_client.configuration import (
    Hidden,
    job_name,
    list_jobs_request,
    model_name,
    positive,
    training_config,
)
from mnist_client.configuration import dataset_name as wire_dataset_name
from mnist_client.datasets import Dataset, Split
from mnist_client.errors import (
    CallCancelled,
    InternalError,
    InvalidInput,
    MnistError,
    NotFound,
    ServerError,
    Unavailable,
    Unimplemented,
    from_rpc_error,
)
from mnist_client.history import Event, Notice
from mnist_client.hyperparameters import Augmentation
from mnist_client.model_files import ModelDownload, PathLike, alias_request, import_requests, whole_model
from mnist_client.prediction import (
    Images,
    in_terms_of_images,
    predict_requests,
    to_predictions,
)
from mnist_client.prediction_stream import PredictionStream
from mnist_client.resources import Job, Limits, Model, ModelVersion, ServerInfo, StoredDataset
from mnist_client.results import Evaluation, Predictions
from mnist_client.watch import (
    RECONNECT_SECONDS,
    SILENCE_SECONDS,
    End,
    Uploading,
    Watch,
    accepted_job,
)
from mnist_client.wire import (
    to_evaluation,
    to_health,
    to_job,
    to_model,
    to_server_info,
    to_stored_dataset,
    to_version,
)
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, model_pb2, prediction_pb2, server_pb2, training_pb2
from mnist_proto.v1 import dataset_pb2_grpc as dataset_grpc
from mnist_proto.v1 import evaluation_pb2_grpc as evaluation_grpc
from mnist_proto.v1 import model_pb2_grpc as model_grpc
from mnist_proto.v1 import prediction_pb2_grpc as prediction_grpc
from mnist_proto.v1 import server_pb2_grpc as server_grpc
from mnist_proto.v1 import training_pb2_grpc as training_grpc

if TYPE_CHECKING:  # the stubs' async types are known to type checkers alone
    from mnist_proto.v1.dataset_pb2_grpc import DatasetServiceAsyncStub
    from mnist_proto.v1.evaluation_pb2_grpc import EvaluationServiceAsyncStub
    from mnist_proto.v1.model_pb2_grpc import ModelServiceAsyncStub
    from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceAsyncStub
    from mnist_proto.v1.server_pb2_grpc import ServerServiceAsyncStub
    from mnist_proto.v1.training_pb2_grpc import TrainingServiceAsyncStub

Q = TypeVar("Q")
A = TypeVar("A")
P = ParamSpec("P")


class AsyncClient:
    """A model server, like `Client`; made and used within one event loop. It is also an async context."""

    def __init__(
        self,
        server: str | None = None,
        *,
        timeout: float = DEADLINE_SECONDS,
        reconnect_timeout: float = RECONNECT_SECONDS,
    ) -> None:
        """As `Client`. Raises RuntimeError outside a running event loop."""
        asyncio.get_running_loop()
        self.server = server_address(server)
        self.timeout = positive("timeout", timeout)
        self.reconnect_timeout = positive("reconnect_timeout", reconnect_timeout)
        self._silence = SILENCE_SECONDS
        self._limits: Limits | None = None
        self._channel = grpc.aio.insecure_channel(self.server, options=channel_options(self.server))
        self._training: TrainingServiceAsyncStub = training_grpc.TrainingServiceStub(self._channel)
        self._evaluation: EvaluationServiceAsyncStub = evaluation_grpc.EvaluationServiceStub(self._channel)
        self._prediction: PredictionServiceAsyncStub = prediction_grpc.PredictionServiceStub(self._channel)
        self._datasets: DatasetServiceAsyncStub = dataset_grpc.DatasetServiceStub(self._channel)
        self._models: ModelServiceAsyncStub = model_grpc.ModelServiceStub(self._channel)
        self._server: ServerServiceAsyncStub = server_grpc.ServerServiceStub(self._channel)

    async def train(
        self,
        data: Data,
        *,
        name: str | None = None,
        recipe: str | None = None,
        base_model: str | None = None,
        class_names: Sequence[str] | None = None,
        hidden: Hidden | None = None,
        layers: str | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        activation: str | None = None,
        output: str | None = None,
        loss: str | None = None,
        initialization: str | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        optimizer: str | None = None,
        schedule: str | None = None,
        warm_up: float | None = None,
        clip_norm: float | None = None,
        augmentation: Augmentation | None = None,
        patience: int | None = None,
        until_accuracy: float | None = None,
        time_budget: float | None = None,
        keep_best: bool | None = None,
        validation: int | None = None,
        seed: int | None = None,
        dtype: str | None = None,
        promote: bool = False,
        request_id: str | None = None,
    ) -> AsyncTrainingJob:
        """Starts a job that learns from a data set, as `Client.train`."""
        config = training_config(
            name=name,
            recipe=recipe,
            base_model=base_model,
            class_names=class_names,
            hidden=hidden,
            layers=layers,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            activation=activation,
            output=output,
            loss=loss,
            initialization=initialization,
            weight_decay=weight_decay,
            momentum=momentum,
            optimizer=optimizer,
            schedule=schedule,
            warm_up=warm_up,
            clip_norm=clip_norm,
            augmentation=augmentation,
            patience=patience,
            until_accuracy=until_accuracy,
            time_budget=time_budget,
            keep_best=keep_best,
            validation=validation,
            seed=seed,
            dtype=dtype,
            promote=promote,
            request_id=request_id,
        )
        limits = await self._known_limits()
        if (stored := stored_name(data)) is not None:
            job = await self._upload(lambda: self._train(config, stored, limits))
        else:
            dataset, dataset_id = await asyncio.to_thread(_named, data)
            check_dataset(dataset, limits)
            name_classes(config, dataset)
            job = await self._upload(lambda: self._train_on(config, dataset, dataset_id, limits))
        return AsyncTrainingJob(self, job, contact=True)

    def job(self, name: str) -> AsyncTrainingJob:
        """Returns the handle of a job, jobs/{j} or {j}, without asking the server."""
        return AsyncTrainingJob(self, job_name(name))

    async def jobs(self, *, states: Iterable[str] = (), model: str | None = None) -> AsyncIterator[Job]:
        """Yields jobs, newest first, as `Client.jobs`."""
        request = list_jobs_request(states, model)
        while True:
            page = await self._call(self._training.ListTrainingJobs, request)
            for job in page.jobs:
                yield to_job(job)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def upload_dataset(self, data: Data) -> StoredDataset:
        """Has the server keep a data set, as `Client.upload_dataset`."""
        if (stored := stored_name(data)) is not None:
            return await self.dataset(stored)
        limits = await self._known_limits()
        dataset, name = await asyncio.to_thread(_named, data)
        check_dataset(dataset, limits)

        async def attempt() -> StoredDataset:
            return await self._stored(name) or await self._store(dataset, limits)

        return await self._upload(attempt)

    async def datasets(self) -> AsyncIterator[StoredDataset]:
        """Yields every data set that the server has, as `Client.datasets`."""
        request = dataset_pb2.ListDatasetsRequest()
        while True:
            page = await self._call(self._datasets.ListDatasets, request)
            for dataset in page.datasets:
                yield to_stored_dataset(dataset)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def dataset(self, name: str) -> StoredDataset:
        """Returns a data set that the server has, as `Client.dataset`."""
        request = dataset_pb2.GetDatasetRequest(dataset=wire_dataset_name(name))
        return to_stored_dataset((await self._call(self._datasets.GetDataset, request)).dataset)

    async def delete_dataset(self, name: str) -> None:
        """Deletes a data set, as `Client.delete_dataset`."""
        request = dataset_pb2.DeleteDatasetRequest(dataset=wire_dataset_name(name))
        await self._call(self._datasets.DeleteDataset, request)

    async def models(self) -> AsyncIterator[Model]:
        """Yields every model by name, each with its newest version alone."""
        request = model_pb2.ListModelsRequest()
        while True:
            page = await self._call(self._models.ListModels, request)
            for model in page.models:
                yield to_model(model)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def model(self, name: str) -> Model:
        """Returns a model, as `Client.model`."""
        request = model_pb2.GetModelRequest(model=model_name("name", name))
        return to_model((await self._call(self._models.GetModel, request)).model)

    async def set_alias(
        self, model: str, alias: str, version: int | None, *, etag: str | None = None
    ) -> Model:
        """Has an alias of a model stand for a version, as `Client.set_alias`."""
        request = alias_request(model, alias, version, etag)
        return to_model((await self._call(self._models.SetAlias, request)).model)

    async def delete_model(self, name: str, *, etag: str | None = None, force: bool = False) -> int:
        """Deletes a version, or a model whole, as `Client.delete_model`."""
        request = model_pb2.DeleteModelRequest(model=model_name("name", name), etag=etag or "", force=force)
        return (await self._call(self._models.DeleteModel, request)).versions

    async def export_model(self, name: str, path: PathLike) -> ModelVersion:
        """Writes a version as a safetensors file, as `Client.export_model`."""
        request = model_pb2.ExportModelRequest(model=model_name("name", name))
        silence = AsyncSilence(self._silence, self.server)
        with ModelDownload(path, self.server) as download:
            call = self._models.ExportModel(request)
            try:
                responses = aiter(call)
                while True:
                    with self._errors():
                        response = await silence.wait(anext(responses, None))
                    if response is None:
                        break
                    await asyncio.to_thread(download.take, response)
            finally:
                call.cancel()
            return await asyncio.to_thread(download.finish)

    async def import_model(self, path: PathLike, *, name: str) -> ModelVersion:
        """Makes a file a new version of a model, as `Client.import_model`."""
        requests = await asyncio.to_thread(import_requests, path, whole_model("name", name))
        silence = AsyncSilence(self._silence, self.server)
        call = self._models.ImportModel(silence.sending(requests))
        try:
            with self._errors(Ending(call)):
                return to_version((await silence.wait(call)).version)
        finally:
            call.cancel()

    async def info(self) -> ServerInfo:
        """Returns what the server says of itself."""
        response = await self._call(self._server.GetServerInfo, server_pb2.GetServerInfoRequest())
        return to_server_info(response.server)

    async def health(self, service: str = "") -> str:
        """Returns 'SERVING', 'NOT_SERVING' or 'UNKNOWN', as `Client.health`."""
        path, serialize, parse, request = health_check(service)
        check = self._channel.unary_unary(path, request_serializer=serialize, response_deserializer=parse)
        return to_health((await self._call(check, request)).value)

    async def evaluate(
        self,
        data: Data,
        *,
        model: str | None = None,
        split: str | None = None,
        return_images: bool = False,
    ) -> Evaluation:
        """Judges a model by images whose labels are known, as `Client.evaluate`."""
        name = "" if model is None else model_name("model", model)
        check_split(split)
        limits = await self._known_limits()
        stored = stored_name(data)
        judges = None
        if stored is None:
            judges = await asyncio.to_thread(to_split, data, split)
            check_image_size(judges.images, limits)
        config = evaluation_config(name, stored, split, return_images=return_images)
        return await self._upload(lambda: self._evaluate(config, judges, limits))

    async def predict(
        self,
        images: Images,
        *,
        model: str | None = None,
        return_inputs: bool = False,
        score: bool = False,
        all_digits: bool = False,
    ) -> Predictions:
        """Names digits, as `Client.predict`."""
        name = "" if model is None else model_name("model", model)
        answers = []
        requests = predict_requests(
            images,
            await self._known_limits(),
            return_inputs=return_inputs,
            score=score,
            all_digits=all_digits,
        )
        while (part := await _make(images, next, requests, None)) is not None:
            positions, request = part
            request.model = name
            try:
                response = await self._call(self._prediction.Predict, request)
            except InvalidInput as error:
                raise in_terms_of_images(error, positions) from error
            answers.append((positions, response))
            name = response.model
        return to_predictions(answers, all_digits=all_digits)

    async def predict_stream(
        self,
        batches: Iterable[Images] | AsyncIterable[Images],
        *,
        model: str | None = None,
        window: int = 32,
    ) -> AsyncIterator[tuple[int, Predictions | MnistError]]:
        """Names the digits of many batches over one stream, as `Client.predict_stream`.

        batches: an async iterable, or one that does not block.
        """
        name = "" if model is None else model_name("model", model)
        room = asyncio.Semaphore(positive("window", window))
        stream = PredictionStream(name, await self._known_limits())
        failures: list[Exception] = []

        async def requests() -> AsyncIterator[prediction_pb2.PredictStreamRequest]:
            coming = _each(batches)
            index = 0
            while True:
                await room.acquire()
                try:
                    batch = await anext(coming)
                except StopAsyncIteration:
                    return
                except Exception as error:
                    failures.append(error)
                    return
                request = await _make(batch, stream.request, index, batch)
                silence.heard()
                yield request
                index += 1

        silence = AsyncSilence(self._silence, self.server, waits=lambda: stream.owes > 0)
        call = self._prediction.PredictStream(requests())
        ending = Ending(call)
        try:
            responses = aiter(call)
            while True:
                with self._errors(ending):
                    response = await silence.wait(anext(responses, None))
                if response is None:
                    break
                room.release()
                yield stream.answer(response, self.server)
        finally:
            call.cancel()
        stream.close(self.server)
        if failures:
            raise failures[0]

    async def close(self) -> None:
        """Ends what is going on, and the connection. Jobs go on."""
        await self._channel.close(None)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.server!r})"

    async def _call(self, method: "grpc.aio.UnaryUnaryMultiCallable[Q, A]", request: Q) -> A:
        with self._errors():
            return await method(request, timeout=self.timeout)

    async def _known_limits(self) -> Limits:
        """The server's limits, asked for once."""
        if self._limits is None:
            self._limits = (await self.info()).limits
        return self._limits

    async def _upload(self, attempt: Callable[[], Awaitable[A]]) -> A:
        """What an upload returns that may be made again when the server is lost."""
        uploading = Uploading()
        while True:
            try:
                return await attempt()
            except ServerError as error:
                delay = uploading.failed(error)
            await asyncio.sleep(delay)

    async def _stored(self, name: str) -> StoredDataset | None:
        """The data set of this name, if the server has it; None also where it has no DatasetService."""
        try:
            return await self.dataset(name)
        except (NotFound, Unimplemented):
            return None

    async def _store(self, dataset: Dataset, limits: Limits) -> StoredDataset:
        silence = AsyncSilence(self._silence, self.server)
        call = self._datasets.UploadDataset(silence.sending(upload_requests(dataset, limits)))
        try:
            with self._errors(Ending(call)):
                return to_stored_dataset((await silence.wait(call)).dataset)
        finally:
            call.cancel()

    async def _train_on(
        self, config: training_pb2.TrainingConfig, dataset: Dataset, name: str, limits: Limits
    ) -> str:
        """Has a job accepted; the data set is sent only if the server does not have it."""
        if await self._stored(name) is not None:
            with suppress(NotFound):  # deleted meanwhile
                return await self._train(config, name, limits)
        return await self._train(config, dataset, limits)

    async def _train(self, config: training_pb2.TrainingConfig, data: Dataset | str, limits: Limits) -> str:
        silence = AsyncSilence(self._silence, self.server)
        call = self._training.Train(silence.sending(train_requests(config, data, limits)))
        try:
            with self._errors(Ending(call)):
                response = await silence.wait(anext(aiter(call), None))
        finally:
            call.cancel()  # the stream, not the job
        if response is None:
            raise InternalError(grpc.StatusCode.INTERNAL, "Train ended without an event", server=self.server)
        return accepted_job(response, self.server)

    async def _evaluate(
        self, config: evaluation_pb2.EvaluationConfig, split: Split | None, limits: Limits
    ) -> Evaluation:
        silence = AsyncSilence(self._silence, self.server)
        call = self._evaluation.Evaluate(silence.sending(evaluate_requests(config, split, limits)))
        try:
            with self._errors(Ending(call)):
                return to_evaluation((await silence.wait(call)).evaluation)
        finally:
            call.cancel()

    async def _watch(
        self, job: str, after_sequence: int, *, contact: bool
    ) -> AsyncGenerator[Event | Notice, None]:
        """Yields what comes, over as many streams as it takes."""
        watch = Watch(
            job,
            after_sequence,
            server=self.server,
            reconnect_timeout=self.reconnect_timeout,
            contact=contact,
        )
        while True:
            silence = AsyncSilence(self._silence, self.server)
            call = self._training.WatchTraining(watch.request())
            try:
                responses = aiter(call)
                while True:
                    with self._errors():
                        response = await silence.wait(anext(responses, None))
                    if response is None:
                        break
                    message = watch.take(response)
                    if message is not None:
                        yield message
                    if isinstance(message, End):
                        return
                delay = watch.ended()
            except ServerError as error:
                delay = watch.lost(error)
            finally:
                call.cancel()
            if delay is None:
                return
            await asyncio.sleep(delay)

    @contextmanager
    def _errors(self, ending: Ending | None = None) -> Iterator[None]:
        """Makes the SDK's errors of gRPC's."""
        try:
            yield
        except grpc.RpcError as error:
            ended = error
            if ending is not None and ending.first is not None and is_failed_write(error):
                ended = ending.first
            if is_failed_write(ended):
                message = "the connection broke while something was sent"
                raise Unavailable(grpc.StatusCode.UNAVAILABLE, message, server=self.server) from error
            raise from_rpc_error(ended, self.server) from error
        except asyncio.CancelledError as error:
            # grpc.aio raises this also for a status CANCELLED that the server sent.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            message = "the call was cancelled, by the server or by close()"
            raise CallCancelled(grpc.StatusCode.CANCELLED, message, server=self.server) from error


def _named(data: Data) -> tuple[Dataset, str]:
    """A data set, read where it is in files, and its name."""
    dataset = to_dataset(data)
    return dataset, dataset_name(dataset)


async def _make(images: object, make: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> A:
    """Makes a request, in a thread unless its images are arrays: there may be files to read."""
    if isinstance(images, np.ndarray):
        return make(*args, **kwargs)
    return await asyncio.to_thread(make, *args, **kwargs)


async def _each(batches: Iterable[A] | AsyncIterable[A]) -> AsyncIterator[A]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
