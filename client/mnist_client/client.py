"""The client: a model server's calls, for programs that wait for each answer."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TypeVar

import grpc

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
from mnist_client.silence import Silence
from mnist_client.training_job import TrainingJob
from mnist_client.watch import (
    RECONNECT_SECONDS,
    SILENCE_SECONDS,
    End,
    Uploading,
    Watch,
    accepted_job,
    silent,
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

_CLOSE_SECONDS = 2.0

Q = TypeVar("Q")
A = TypeVar("A")


class Client:
    """A model server. Threads may share one; it is also a context, which closes it.

    Every call may raise a ServerError; what a wrong argument raises is InvalidInput, found here or there.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        timeout: float = DEADLINE_SECONDS,
        reconnect_timeout: float = RECONNECT_SECONDS,
    ) -> None:
        """Connects when the first call is made.

        server: HOST:PORT, or unix:PATH; None is $MNIST_SERVER, without that 127.0.0.1:50051.
        timeout: seconds that a call of one answer may take, attempts and all.
        reconnect_timeout: seconds for which a watch looks for a server that was lost.
        """
        self.server = server_address(server)
        self.timeout = positive("timeout", timeout)
        self.reconnect_timeout = positive("reconnect_timeout", reconnect_timeout)
        self._silence = SILENCE_SECONDS
        self._limits: Limits | None = None
        self._channel = grpc.insecure_channel(self.server, options=channel_options(self.server))
        self._training = training_grpc.TrainingServiceStub(self._channel)
        self._evaluation = evaluation_grpc.EvaluationServiceStub(self._channel)
        self._prediction = prediction_grpc.PredictionServiceStub(self._channel)
        self._datasets = dataset_grpc.DatasetServiceStub(self._channel)
        self._models = model_grpc.ModelServiceStub(self._channel)
        self._server = server_grpc.ServerServiceStub(self._channel)

    def train(
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
    ) -> TrainingJob:
        """Starts a job that learns from a data set; returns once the server has accepted it.

        A data set that the server has already is not sent again.

        What is None is left to the recipe, and that of None is the classic run: 784-30-10 sigmoid neurons,
        quadratic loss, 30 epochs of mini-batches of 10, learning rate 3.0.

        data: a SPEC such as 'mnist', a path, or 'datasets/{sha256}' for a data set that the server has; a
            Dataset, a Split, or (images, labels): uint8 (N, H, W), 0 = paper, 255 = ink, and N labels.
        name: the model to make a version of; None names it after the job.
        recipe: 'classic', 'quick', 'mlp', 'mlp-augmented' or 'best'.
        base_model: NAME, NAME@VERSION or NAME@ALIAS: begin with what it has learnt, on images and labels that
            may be others. What is None is then as it was in its own training, unless there is a recipe.
        class_names: what the labels stand for, from 0 on; None is what the data set says, if it does.
        hidden: neurons of the hidden layers, one number or several; () for none.
        layers: instead, hidden layers of all kinds: '20C5-P-40C5-P-150-D0.5' is 20 features by kernels of
            5 x 5, pooling, 40 more, pooling, 150 neurons, and dropout of half of them.
        activation: of the hidden layers: 'sigmoid', 'tanh' or 'relu'.
        output: activation of the last layer: 'sigmoid' or 'softmax'.
        loss: 'quadratic' or 'cross_entropy'.
        initialization: 'normal', 'scaled' or 'he'.
        optimizer: 'sgd' or 'adamw', whose learning rate is some 0.001 to 0.003.
        schedule: 'constant', or 'cosine', on which the learning rate falls to 0.
        warm_up: share of all steps for which the learning rate first rises.
        clip_norm: the length that a longer gradient is shortened to.
        augmentation: how images are varied before they are learnt from.
        patience: epochs without a better accuracy on the validation split after which to stop.
        until_accuracy: accuracy on the validation split, 0 to 1, at which to stop.
        time_budget: seconds of learning and testing after which to stop, at the end of an epoch.
        keep_best: make a version of the epoch that did best on the validation split, not of the last.
        validation: how many of the last training images to hold back for validation.
        dtype: 'float32' or 'float64'.
        promote: give the new version the alias `default`.
        request_id: makes trying again safe: the same id, configuration and data are the same job. None makes
            a new one; the SDK itself tries again with it if the server is lost while the data is sent.

        Raises DataError for files.
        """
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
        limits = self._known_limits()  # first: a server that is not there is known before files are read
        if (stored := stored_name(data)) is not None:
            job = self._upload(lambda: self._train(config, stored))
        else:
            dataset = to_dataset(data)
            check_dataset(dataset, limits)
            name_classes(config, dataset)
            dataset_id = dataset_name(dataset)
            job = self._upload(lambda: self._train_on(config, dataset, dataset_id))
        return TrainingJob(self, job, contact=True)

    def job(self, name: str) -> TrainingJob:
        """Returns the handle of a job, jobs/{j} or {j}, without asking the server."""
        return TrainingJob(self, job_name(name))

    def jobs(self, *, states: Iterable[str] = (), model: str | None = None) -> Iterator[Job]:
        """Yields jobs, newest first.

        states: only those in one of these, such as 'RUNNING'; none for all.
        model: only those that make versions of this model; None for all.
        """
        request = list_jobs_request(states, model)
        while True:
            page = self._call(self._training.ListTrainingJobs, request)
            yield from map(to_job, page.jobs)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def upload_dataset(self, data: Data) -> StoredDataset:
        """Has the server keep a data set, for jobs and evaluations that name it. Returns what it says of it.

        The server is asked first: what it has already is not sent.

        data: as for `train`.

        Raises DataError for files, ResourceExhausted where the server has no room for it.
        """
        if (stored := stored_name(data)) is not None:
            return self.dataset(stored)
        limits = self._known_limits()
        dataset = to_dataset(data)
        check_dataset(dataset, limits)
        name = dataset_name(dataset)
        return self._upload(lambda: self._stored(name) or self._store(dataset))

    def datasets(self) -> Iterator[StoredDataset]:
        """Yields every data set that the server has, the last stored first, without mean images."""
        request = dataset_pb2.ListDatasetsRequest()
        while True:
            page = self._call(self._datasets.ListDatasets, request)
            yield from map(to_stored_dataset, page.datasets)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def dataset(self, name: str) -> StoredDataset:
        """Returns a data set that the server has, datasets/{sha256} or {sha256}. Raises NotFound."""
        request = dataset_pb2.GetDatasetRequest(dataset=wire_dataset_name(name))
        return to_stored_dataset(self._call(self._datasets.GetDataset, request).dataset)

    def delete_dataset(self, name: str) -> None:
        """Deletes a data set, datasets/{sha256} or {sha256}. Jobs and models that learnt from it stay.

        Raises NotFound, and ConditionNotMet while a job that has not ended needs it.
        """
        request = dataset_pb2.DeleteDatasetRequest(dataset=wire_dataset_name(name))
        self._call(self._datasets.DeleteDataset, request)

    def models(self) -> Iterator[Model]:
        """Yields every model by name, each with its newest version alone."""
        request = model_pb2.ListModelsRequest()
        while True:
            page = self._call(self._models.ListModels, request)
            yield from map(to_model, page.models)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def model(self, name: str) -> Model:
        """Returns a model: NAME with its newest 100 versions, NAME@VERSION or NAME@ALIAS with that one."""
        request = model_pb2.GetModelRequest(model=model_name("name", name))
        return to_model(self._call(self._models.GetModel, request).model)

    def set_alias(self, model: str, alias: str, version: int | None, *, etag: str | None = None) -> Model:
        """Has an alias of a model stand for a version: promotes it, or rolls back to it. Returns the model.

        When this returns, every process of the server answers so; no call fails for it meanwhile.

        version: its number; None removes the alias, but not `default`.
        etag: the model's, as it was read; None changes it whatever has happened since.

        Raises ConditionNotMet if the model has changed since, DataLoss if the version fails its self-check.
        """
        request = alias_request(model, alias, version, etag)
        return to_model(self._call(self._models.SetAlias, request).model)

    def delete_model(self, name: str, *, etag: str | None = None, force: bool = False) -> int:
        """Deletes NAME@VERSION, or NAME with all its versions. Returns how many versions went.

        etag: the model's, as it was read; None deletes it whatever has happened since.
        force: delete a model's aliases too; without it, one that has any is refused.

        Raises ConditionNotMet while an alias stands for what would go, or if the model has changed since.
        """
        request = model_pb2.DeleteModelRequest(model=model_name("name", name), etag=etag or "", force=force)
        return self._call(self._models.DeleteModel, request).versions

    def export_model(self, name: str, path: PathLike) -> ModelVersion:
        """Writes NAME, NAME@VERSION or NAME@ALIAS as a safetensors file, checked. Returns the version in it.

        path: the file; one that is there is replaced once the new one is whole.

        Raises DataError if it cannot be written, DataLoss if it is damaged.
        """
        request = model_pb2.ExportModelRequest(model=model_name("name", name))
        silence = Silence(self._silence)
        with ModelDownload(path, self.server) as download:
            call = self._models.ExportModel(request)
            with silence.guard(call), self._errors(silence):
                for response in silence.reading(call):
                    download.take(response)
            return download.finish()

    def import_model(self, path: PathLike, *, name: str) -> ModelVersion:
        """Makes a file that `export_model` has written a new version of the model NAME. Returns the version.

        Raises DataError for a file that cannot be read, InvalidInput for one that is no such model, DataLoss
        for a damaged one.
        """
        requests = import_requests(path, whole_model("name", name))
        silence = Silence(self._silence)
        call = self._models.ImportModel.future(silence.sending(requests))
        with silence.guard(call), self._errors(silence):
            return to_version(call.result().version)

    def info(self) -> ServerInfo:
        """Returns what the server says of itself."""
        response = self._call(self._server.GetServerInfo, server_pb2.GetServerInfoRequest())
        return to_server_info(response.server)

    def health(self, service: str = "") -> str:
        """Returns 'SERVING', 'NOT_SERVING' or 'UNKNOWN', for the server or one of its services.

        Raises NotFound for a service that the server does not have.
        """
        path, serialize, parse, request = health_check(service)
        check = self._channel.unary_unary(path, request_serializer=serialize, response_deserializer=parse)
        return to_health(self._call(check, request).value)

    def evaluate(
        self,
        data: Data,
        *,
        model: str | None = None,
        split: str | None = None,
        return_images: bool = False,
    ) -> Evaluation:
        """Judges a model by images whose labels are known, any number of them.

        data: as for `train`.
        model: NAME, NAME@VERSION or NAME@ALIAS; None is the server's default, models/mnist.
        split: 'train', 'validation' or 'test', of a data set; None is its test split, or, without one, its
            training images.
        return_images: ask for the images of mistakes.

        Raises DataError for files.
        """
        name = "" if model is None else model_name("model", model)
        check_split(split)
        limits = self._known_limits()
        stored = stored_name(data)
        judges = None
        if stored is None:
            judges = to_split(data, split)
            check_image_size(judges.images, limits)
        config = evaluation_config(name, stored, split, return_images=return_images)
        return self._upload(lambda: self._evaluate(config, judges))

    def predict(
        self,
        images: Images,
        *,
        model: str | None = None,
        return_inputs: bool = False,
        score: bool = False,
        all_digits: bool = False,
    ) -> Predictions:
        """Names digits; all by one version of a model, however many images there are.

        images: uint8 arrays (H, W), (B, H, W) or (B, H * H), 0 = paper, 255 = ink, of the network's own size;
            or pictures of any size as paths, bytes or PIL images; or a sequence of those.
        model: NAME, NAME@VERSION or NAME@ALIAS; None is the server's default, models/mnist.
        return_inputs: ask for the images that the network saw.
        score: ask how much each image looks like a digit at all; of images of 28 x 28, or pictures.
        all_digits: ask for every digit on each picture, in reading order, instead of the one it is of; of
            pictures alone. The answers are then as many as digits were found, and say on which and where.

        Raises DataError for files that cannot be read.
        """
        name = "" if model is None else model_name("model", model)
        answers = []
        for positions, request in predict_requests(
            images,
            self._known_limits(),
            return_inputs=return_inputs,
            score=score,
            all_digits=all_digits,
        ):
            request.model = name
            try:
                response = self._call(self._prediction.Predict, request)
            except InvalidInput as error:
                raise in_terms_of_images(error, positions) from error
            answers.append((positions, response))
            name = response.model
        return to_predictions(answers, all_digits=all_digits)

    def predict_stream(
        self, batches: Iterable[Images], *, model: str | None = None, window: int = 32
    ) -> Iterator[tuple[int, Predictions | MnistError]]:
        """Names the digits of many batches over one stream, and yields (index, answer) as answers come.

        An answer is the batch's predictions or, for a bad batch, its error; they come in any order.

        batches: each as `predict` takes them, and small enough for one request. They are taken in another
            thread; what they raise is raised here once the batches before have been answered.
        window: batches on their way at a time, at least 1.
        """
        name = "" if model is None else model_name("model", model)
        room = threading.Semaphore(positive("window", window))
        stream = PredictionStream(name, self._known_limits())
        failures: list[Exception] = []
        left = threading.Event()

        def requests() -> Iterator[prediction_pb2.PredictStreamRequest]:
            coming = enumerate(batches)
            while True:
                room.acquire()
                if left.is_set():
                    return
                try:
                    index, batch = next(coming)
                except StopIteration:
                    return
                except Exception as error:
                    failures.append(error)
                    return
                yield stream.request(index, batch)

        silence = Silence(self._silence, waits=lambda: stream.owes > 0)
        call = self._prediction.PredictStream(silence.sending(requests()))
        try:
            with silence.guard(call), self._errors(silence):
                for response in silence.reading(call):
                    room.release()
                    yield stream.answer(response, self.server)
        finally:
            left.set()
            room.release()
        stream.close(self.server)
        if failures:
            raise failures[0]

    def close(self) -> None:
        """Ends what is going on, and the connection. Jobs go on."""
        # It waits for calls to end, for ever where Ctrl-C has cut off one that held its lock.
        closing = threading.Thread(target=self._channel.close, name="closing", daemon=True)
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Q, A]", request: Q) -> A:
        with self._errors():
            return method(request, timeout=self.timeout)

    def _known_limits(self) -> Limits:
        """The server's limits, asked for once."""
        if self._limits is None:
            self._limits = self.info().limits
        return self._limits

    def _upload(self, attempt: Callable[[], A]) -> A:
        """What an upload returns that may be made again when the server is lost."""
        uploading = Uploading()
        while True:
            try:
                return attempt()
            except ServerError as error:
                delay = uploading.failed(error)
            time.sleep(delay)

    def _stored(self, name: str) -> StoredDataset | None:
        """The data set of this name, if the server has it; None also where it has no DatasetService."""
        try:
            return self.dataset(name)
        except (NotFound, Unimplemented):
            return None

    def _store(self, dataset: Dataset) -> StoredDataset:
        silence = Silence(self._silence)
        requests = upload_requests(dataset, self._known_limits())
        call = self._datasets.UploadDataset.future(silence.sending(requests))
        with silence.guard(call), self._errors(silence):
            return to_stored_dataset(call.result().dataset)

    def _train_on(self, config: training_pb2.TrainingConfig, dataset: Dataset, name: str) -> str:
        """Has a job accepted; the data set is sent only if the server does not have it."""
        if self._stored(name) is not None:
            with suppress(NotFound):  # deleted meanwhile
                return self._train(config, name)
        return self._train(config, dataset)

    def _train(self, config: training_pb2.TrainingConfig, data: Dataset | str) -> str:
        silence = Silence(self._silence)
        requests = train_requests(config, data, self._known_limits())
        call = self._training.Train(silence.sending(requests))
        with silence.guard(call), self._errors(silence):
            for response in call:
                return accepted_job(response, self.server)  # which ends the stream, not the job
        raise InternalError(grpc.StatusCode.INTERNAL, "Train ended without an event", server=self.server)

    def _evaluate(self, config: evaluation_pb2.EvaluationConfig, split: Split | None) -> Evaluation:
        silence = Silence(self._silence)
        requests = evaluate_requests(config, split, self._known_limits())
        call = self._evaluation.Evaluate.future(silence.sending(requests))
        with silence.guard(call), self._errors(silence):
            return to_evaluation(call.result().evaluation)

    def _watch(
        self, job: str, after_sequence: int, *, contact: bool, deadline: float | None = None
    ) -> Iterator[Event | Notice]:
        """Yields what comes, over as many streams as it takes. deadline is time.monotonic's."""
        watch = Watch(
            job,
            after_sequence,
            server=self.server,
            reconnect_timeout=self.reconnect_timeout,
            contact=contact,
        )
        while True:
            silence = Silence(self._silence)
            call = self._training.WatchTraining(watch.request(), timeout=_left(deadline))
            try:
                with silence.guard(call), self._errors(silence):
                    for response in silence.reading(call):
                        message = watch.take(response)
                        if message is not None:
                            yield message
                        if isinstance(message, End):
                            return
                delay = watch.ended()
            except ServerError as error:
                delay = 0.0 if _left(deadline) == 0.0 else watch.lost(error)
            if delay is None:
                return
            left = _left(deadline)
            if left == 0.0:
                raise TimeoutError
            time.sleep(delay if left is None else min(delay, left))

    @contextmanager
    def _errors(self, silence: Silence | None = None) -> Iterator[None]:
        """Makes the SDK's errors of gRPC's."""
        try:
            yield
        except (grpc.RpcError, grpc.FutureCancelledError) as error:
            if silence is not None and silence.over:
                raise silent(silence.seconds, self.server) from error
            if isinstance(error, grpc.RpcError):
                raise from_rpc_error(error, self.server) from error
            message = "the call was cancelled here"
            raise CallCancelled(grpc.StatusCode.CANCELLED, message, server=self.server) from error


def _left(deadline: float | None) -> float | None:
    """Seconds until the deadline, at least 0."""
    return None if deadline is None else max(deadline - time.monotonic(), 0.0)
