"""Serving: a gRPC server with every service on it, from its first answer to a clean stop."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from mnist_proto.inference import inference_pb2
from mnist_proto.inference.descriptors import Descriptors
from mnist_proto.names import DEFAULT_MODEL
from mnist_proto.v1 import (
    dataset_pb2,
    evaluation_pb2,
    model_pb2,
    prediction_pb2,
    server_pb2,
    training_pb2,
)
from mnist_server import hotpath_check
from mnist_server.accounting import Unserved
from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.dataset_registry import DatasetRegistry
from mnist_server.datasets import DatasetServicer
from mnist_server.environment import limit_threads
from mnist_server.errors import NotFound, ServerError
from mnist_server.evaluation import EvaluationServicer
from mnist_server.feed import Feed
from mnist_server.health import HealthServicer
from mnist_server.inference import MODEL_INFER, MODEL_STREAM_INFER, Inference
from mnist_server.inference_metadata import InferenceServicer
from mnist_server.information import InformationServicer
from mnist_server.jobs import Jobs
from mnist_server.limits import Limits
from mnist_server.metrics import Metrics
from mnist_server.models import ModelServicer
from mnist_server.prediction import PREDICT, PREDICT_STREAM, Prediction
from mnist_server.pretrained import install as install_pretrained
from mnist_server.registry import ModelRegistry
from mnist_server.rpc import Calls, HotStream, HotUnary, bind
from mnist_server.scheduler import Scheduler
from mnist_server.slots import Slots
from mnist_server.training import TrainingServicer
from mnist_server.worker_process import cores

log = logging.getLogger(__name__)

UNARY_THREADS = 4
BLAS_THREADS = 1
STOP_SECONDS = 2.0
# Multiply-adds of a request that others wait for in the thread that serves, some 0.5 ms; where a process has
# but one core, ten times as many, since there the pool adds nothing but switches between threads.
_PATIENCE = 5e7
_PATIENCE_ON_ONE_CORE = 5e8
# Calls at a time, each with a thread; one more is RESOURCE_EXHAUSTED.
_MAX_CALLS = 1536
# Models whose default a worker loads before it answers; others are loaded when they are first asked for.
_MODELS_LOADED = 100
_MIN_PING_MILLISECONDS = 10_000
_PING_MILLISECONDS = 30_000


class Worker:
    """Every service on one port, beside other workers of the server or alone."""

    def __init__(
        self,
        directory: DataDirectory,
        host: str,
        port: int,
        slots: Slots | None = None,
        index: int = 0,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        *,
        fast_path: bool = True,
        pretrained: bool = False,
    ) -> None:
        """Loads the models and takes the port. With slots, of which it has the one of `index`, it shares the
        port with the server's other workers. pretrained: where there has been no model, it begins with the
        package's.

        Raises WrongState or Corrupt for a database that cannot be used, OSError if the port is taken.
        """
        limits = limits or Limits()
        self._slot = None
        if slots is not None:
            self._slot = slots.all[index]
            self._slot.enter()
            metrics = metrics or Metrics(self._slot.counters, slots.counters)
        metrics = metrics or Metrics()
        if ":" in host:  # IPv6
            host = f"[{host.strip('[]')}]"
        database = directory.database()
        limit_threads(BLAS_THREADS)
        jobs = Jobs(database)
        datasets = DatasetRegistry(directory, database, limits.max_stored_dataset_bytes)
        registry = ModelRegistry(
            database, directory.models, None if slots is None else slots.everywhere, self._reached
        )
        self._feed = Feed(directory, database, registry.refresh, limits.max_watchers)
        calls = Calls(UNARY_THREADS, limits.max_streams)
        self._threads = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="call")
        self._grpc = grpc.server(
            self._threads,
            maximum_concurrent_rpcs=_MAX_CALLS,
            options=[
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", limits.max_message_bytes),
                # A server of its own is to fail where there is another on the port, not to share it.
                ("grpc.so_reuseport", int(slots is not None)),
                # Clients may ping an idle connection this often without being cut off.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_MILLISECONDS),
                ("grpc.keepalive_permit_without_calls", 1),
                # A client whose machine is gone does not say so: its streams end when no ping comes back.
                ("grpc.keepalive_time_ms", _PING_MILLISECONDS),
                ("grpc.keepalive_timeout_ms", _PING_MILLISECONDS),
            ],
        )
        workers = 1 if slots is None else len(slots.all)
        patience = _PATIENCE if cores() > workers else _PATIENCE_ON_ONE_CORE
        prediction = Prediction(registry, limits, calls, metrics, patience)
        inference = Inference(registry, limits, metrics, patience)
        metadata = InferenceServicer(registry, limits, metrics, lambda: self._health.serving())
        hot: dict[str, HotUnary | HotStream] = {
            PREDICT: HotUnary(prediction.predict, prediction.answer),
            PREDICT_STREAM: HotStream(prediction.predict_stream, prediction.answer_on_stream, calls.stream),
            MODEL_INFER: HotUnary(inference.infer, inference.answer),
            MODEL_STREAM_INFER: HotStream(inference.infer_stream, inference.answer_on_stream, calls.stream),
        }
        services: list[tuple[Any, object]] = [
            (
                training_pb2.DESCRIPTOR,
                TrainingServicer(directory, jobs, datasets, registry, self._feed, limits),
            ),
            (prediction_pb2.DESCRIPTOR, prediction),
            (inference_pb2.DESCRIPTOR, metadata),
            (evaluation_pb2.DESCRIPTOR, EvaluationServicer(registry, directory, datasets, limits)),
            (dataset_pb2.DESCRIPTOR, DatasetServicer(directory, datasets, limits)),
            (model_pb2.DESCRIPTOR, ModelServicer(registry, database, directory, limits, calls)),
            (
                server_pb2.DESCRIPTOR,
                InformationServicer(
                    registry,
                    limits,
                    threads=UNARY_THREADS,
                    blas_threads=BLAS_THREADS,
                    workers=workers,
                ),
            ),
        ]
        # Any: these descriptors are typed as protobuf's C classes, ours as its Python ones.
        judged: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
        reflected: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
        bound: list[tuple[Any, object]] = [
            (service, servicer) for file, servicer in services for service in file.services_by_name.values()
        ]
        names = [*(service.full_name for service, _ in bound), judged.full_name]
        reflecting: Any = reflection.ReflectionServicer([*names, reflection.SERVICE_NAME], Descriptors())
        bound.append((reflected, reflecting))
        self._health = HealthServicer(names)
        self._grpc.add_generic_rpc_handlers(
            (
                *(bind(service, servicer, calls, metrics, hot) for service, servicer in bound),
                # With turns and streams of its own: a server that is busy is well.
                bind(judged, self._health, Calls(UNARY_THREADS, limits.max_streams), metrics),
                Unserved(metrics),
            )
        )
        self._fast = hotpath_check.prepare(self._grpc, hot, metrics) if fast_path else None
        if pretrained and install_pretrained(database, directory.models):
            log.info("the pretrained model is there", extra={"model": DEFAULT_MODEL})
        # Before the port, which hands out connections from then on.
        load_defaults(registry)
        registry.refresh()
        try:
            self.port = self._grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            raise OSError(
                f"{host}:{port} cannot be listened on: it is in use, or not this machine's"
            ) from None
        self.address = f"{host}:{self.port}"
        self._stopped: threading.Event | None = None

    def _reached(self, generation: int) -> None:
        if self._slot is not None:  # whoever changed an alias, here or elsewhere, waits to see it here
            self._slot.generation = generation

    def start(self) -> None:
        """Begins to answer."""
        self._feed.start()
        self._grpc.start()
        if self._fast is not None:
            self._fast.engage()
        self._health.serve()

    def drain(self) -> None:
        """Says that it ends, ends watches with where to go on, and takes no call any more."""
        self._health.drain()
        self._feed.drain()
        self._stopped = self._grpc.stop(STOP_SECONDS)
        if self._slot is not None:
            self._slot.leave()

    def stop(self) -> None:
        """Drains, and finishes calls."""
        if self._stopped is None:
            self.drain()
        assert self._stopped is not None
        self._stopped.wait(STOP_SECONDS + 1)
        self._feed.stop()
        # Calls have ended, but what they clean up is still in the directory. None is waited for for ever.
        ending = threading.Thread(target=self._threads.shutdown, name="ending", daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)


class Server(Worker):
    """A whole model server in this one process, for tests and for programs that hold one.

    What `mnist-server serve` shares out between the top process and its workers (supervisor.py) is here
    together: the lock on the data directory, the port, one worker and the scheduler of trainers.
    """

    def __init__(
        self,
        directory: DataDirectory,
        host: str,
        port: int,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        *,
        fast_path: bool = True,
        pretrained: bool = False,
    ) -> None:
        """Takes the directory and the port. Raises WrongState if another server has either, OSError if the
        directory cannot be written to."""
        directory.create()
        self._lock = Lock(directory.lock)
        self._lock.acquire({"address": f"{host}:{port}"})
        try:
            database = directory.database()
            directory.remove_strays(database)
            super().__init__(
                directory,
                host,
                port,
                limits=limits,
                metrics=metrics,
                fast_path=fast_path,
                pretrained=pretrained,
            )
        except BaseException:
            self._lock.release()
            raise
        self._scheduler = Scheduler(directory, database, (limits or Limits()).max_running_jobs)
        self._lock.describe({"address": self.address})

    def start(self) -> None:
        """Begins to answer, and to train what waits."""
        super().start()
        self._scheduler.start()
        log.info("serving", extra={"address": self.address})

    def stop(self) -> None:
        """Drains: says so, ends watches with where to go on, finishes calls, writes a checkpoint."""
        began = time.monotonic()
        log.info("draining")
        self.drain()
        self._scheduler.stop()
        super().stop()
        self._lock.release()
        log.info("stopped", extra={"seconds": round(time.monotonic() - began, 3)})


def load_defaults(registry: ModelRegistry) -> None:
    """Loads what requests will most likely ask for: the default of each model, as far as there is room."""
    models, _ = registry.page(_MODELS_LOADED, "")
    for name in ["", *(model.name for model in models)]:
        try:
            registry.load(name, field="model")
        except NotFound:  # no model of this name, or none that is its default
            pass
        except ServerError as error:  # whoever asks for it will hear of it
            log.warning("a model cannot be loaded", extra={"model": name, "error": str(error)})
