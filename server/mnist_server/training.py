"""Training over the wire: takes jobs on, and lets anyone follow them."""

import hashlib
import logging
import shutil
from collections.abc import Iterator
from contextlib import suppress

import grpc

from mnist_core import InvalidValue
from mnist_proto.v1 import training_pb2 as pb
from mnist_proto.v1 import training_pb2_grpc
from mnist_server.base_model import load_base
from mnist_server.configuration import check_config, resolve
from mnist_server.data_directory import DataDirectory
from mnist_server.dataset_description import counts, labels
from mnist_server.dataset_files import Upload
from mnist_server.dataset_registry import DatasetRegistry
from mnist_server.environment import differences, environment
from mnist_server.errors import InvalidRequest, NotFound
from mnist_server.feed import Feed
from mnist_server.jobs import Jobs, new_name
from mnist_server.limits import Limits
from mnist_server.names import dataset_name, job_name, model_name, page_number, page_size
from mnist_server.registry import ModelRegistry
from mnist_server.rpc import Silence, check_wanted

log = logging.getLogger(__name__)


class TrainingServicer(training_pb2_grpc.TrainingServiceServicer):
    """Answers `mnist.v1.TrainingService`."""

    def __init__(
        self,
        directory: DataDirectory,
        jobs: Jobs,
        datasets: DatasetRegistry,
        registry: ModelRegistry,
        feed: Feed,
        limits: Limits,
    ) -> None:
        self._directory = directory
        self._registry = registry
        self._jobs = jobs
        self._datasets = datasets
        self._feed = feed
        self._limits = limits

    def Train(
        self, request_iterator: Iterator[pb.TrainRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.TrainResponse]:
        """Takes a job on, once its images are durable, then follows it."""
        name = self._receive(request_iterator, context)
        for message in self._feed.watch(name, 0, context.add_callback, limited=False):
            if isinstance(message, pb.TrainingEvent):
                yield pb.TrainResponse(event=message)
            else:
                yield pb.TrainResponse(notice=message)

    def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        """Replays a job's events after a sequence, then follows it."""
        name = job_name(request.job)
        for message in self._feed.watch(name, request.after_sequence, context.add_callback):
            if isinstance(message, pb.TrainingEvent):
                yield pb.WatchTrainingResponse(event=message)
            else:
                yield pb.WatchTrainingResponse(notice=message)

    def GetTrainingJob(
        self, request: pb.GetTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.GetTrainingJobResponse:
        """Returns one job."""
        return pb.GetTrainingJobResponse(job=self._jobs.get(job_name(request.job)))

    def ListTrainingJobs(
        self, request: pb.ListTrainingJobsRequest, context: grpc.ServicerContext
    ) -> pb.ListTrainingJobsResponse:
        """Lists jobs, newest first, all or some."""
        for state in request.states:
            if state not in pb.JobState.values() or state == pb.JOB_STATE_UNSPECIFIED:
                words = ", ".join(word for word, number in pb.JobState.items() if number)
                raise InvalidValue("states", state, f"some of {words}")
        if request.model and str(model := model_name("model", request.model)) != f"models/{model.model}":
            raise InvalidValue("model", request.model, "models/{m} alone")
        jobs, following = self._jobs.page(
            page_size(request.page_size),
            page_number(request.page_token),
            states=set(request.states),
            model=request.model,
        )
        token = "" if following is None else str(following)
        return pb.ListTrainingJobsResponse(jobs=jobs, next_page_token=token)

    def CancelTraining(
        self, request: pb.CancelTrainingRequest, context: grpc.ServicerContext
    ) -> pb.CancelTrainingResponse:
        """Ends a job that waits or is paused, or asks a running one's trainer to."""
        job = self._jobs.cancel(job_name(request.job))
        if job.state == pb.JOB_STATE_CANCELLED:  # it may have checkpoints; of one that ran, the scheduler's
            shutil.rmtree(self._directory.job(job.name), ignore_errors=True)
        return pb.CancelTrainingResponse(job=job)

    def PauseTraining(
        self, request: pb.PauseTrainingRequest, context: grpc.ServicerContext
    ) -> pb.PauseTrainingResponse:
        """Asks a running job's trainer to put it aside."""
        return pb.PauseTrainingResponse(job=self._jobs.pause(job_name(request.job)))

    def ResumeTraining(
        self, request: pb.ResumeTrainingRequest, context: grpc.ServicerContext
    ) -> pb.ResumeTrainingResponse:
        """Puts a paused job back into the queue, if it can come to the same bits here or need not."""
        job = self._jobs.get(job_name(request.job))
        then = job.config.environment
        differs = differences(then, environment(then.blas_threads))
        resumed = self._jobs.resume(job.name, differs, allow_inexact=request.allow_inexact)
        return pb.ResumeTrainingResponse(job=resumed)

    def DeleteTrainingJob(
        self, request: pb.DeleteTrainingJobRequest, context: grpc.ServicerContext
    ) -> pb.DeleteTrainingJobResponse:
        """Forgets a job that has ended."""
        name = job_name(request.job)
        with suppress(NotFound):  # the last job that tells of what an older server has stored may go
            self._datasets.get(self._jobs.get(name).config.dataset)
        self._jobs.delete(name)
        return pb.DeleteTrainingJobResponse()

    def _receive(self, requests: Iterator[pb.TrainRequest], context: grpc.ServicerContext) -> str:
        config: pb.TrainingConfig | None = None
        upload = Upload(self._directory.datasets, self._limits, self._datasets.check_room)
        try:
            with Silence(context) as silence:
                for request in requests:
                    silence.heard()
                    if request.WhichOneof("message") == "config":
                        if config is not None:
                            raise InvalidRequest(
                                "config", "a second configuration", "batches after the first message"
                            )
                        config = request.config
                        check_config(config)
                    elif config is None:
                        raise InvalidRequest("message", "a batch before the configuration", "config first")
                    elif config.dataset:
                        raise InvalidRequest("batch", "a batch beside config.dataset", "one of the two")
                    else:
                        upload.take(request.batch)
            if config is None:
                raise InvalidRequest("config", "no message at all", "a configuration, then batches")
            if not config.dataset and not upload.counts["train"]:
                raise InvalidRequest("batch", "no training image", "at least one batch of split SPLIT_TRAIN")
            return self._accept(config, upload, context)
        finally:
            upload.abandon()

    def _accept(self, config: pb.TrainingConfig, upload: Upload, context: grpc.ServicerContext) -> str:
        named = config.dataset and dataset_name("config.dataset", config.dataset)
        arrived = None if named else upload.describe()
        request_hash = _request_hash(config, arrived.name if arrived else named)
        if known := self._jobs.find_request(config.request_id, request_hash):
            return known
        name = new_name()
        dataset = arrived or self._datasets.get(named)
        if not counts(dataset)["train"]:
            raise InvalidValue("config.dataset", named, "a data set with training images")
        base = load_base(self._registry, config.base_model) if config.base_model else None
        resolved = resolve(
            config,
            name,
            dataset_hash=dataset.name.removeprefix("datasets/"),
            counts=counts(dataset),
            height=dataset.height,
            width=dataset.width,
            limits=self._limits,
            labels=labels(dataset),
            base=base,
        )
        with self._datasets.keeping(named) if named else self._datasets.storing(upload) as dataset:
            check_wanted(context)  # until here, whoever breaks off leaves nothing behind
            accepted = self._jobs.create(
                name,
                resolved,
                dataset=dataset,
                request_id=config.request_id,
                request_hash=request_hash,
                max_queued=self._limits.max_queued_jobs,
            )
        log.info("job accepted", extra={"job": accepted, "dataset": dataset.name})
        return accepted


def _request_hash(config: pb.TrainingConfig, dataset: str) -> str:
    """The same whether images were sent or their data set was named: a second attempt may do the other."""
    asked = pb.TrainingConfig()
    asked.CopyFrom(config)
    asked.ClearField("dataset")
    data = asked.SerializeToString(deterministic=True) + dataset.removeprefix("datasets/").encode("ascii")
    return hashlib.sha256(data).hexdigest()
