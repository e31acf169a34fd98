"""Serving: one gRPC server with every service on it, from its first answer to a clean stop."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from mnist_proto.v1 import (
    evaluation_pb2,
    model_pb2,
    prediction_pb2,
    server_pb2,
    training_pb2,
)
from mnist_server.data_directory import DataDirectory, Lock
from mnist_server.environment import limit_threads
from mnist_server.evaluation import EvaluationServicer
from mnist_server.feed import Feed
from mnist_server.health import HealthServicer
from mnist_server.information import InformationServicer
from mnist_server.jobs import Jobs
from mnist_server.limits import Limits
from mnist_server.models import ModelServicer
from mnist_server.prediction import PredictionServicer
from mnist_server.registry import ModelRegistry
from mnist_server.rpc import Calls, bind
from mnist_server.scheduler import Scheduler
from mnist_server.training import TrainingServicer

log = logging.getLogger(__name__)

UNARY_THREADS = 4
BLAS_THREADS = 1
STOP_SECONDS = 2.0
# Calls at a time, each with a thread; one more is RESOURCE_EXHAUSTED.
_MAX_CALLS = 1024
_MIN_PING_MILLISECONDS = 10_000
_PING_MILLISECONDS = 30_000


class Server:
    """A model server on one port and one data directory."""

    def __init__(self, directory: DataDirectory, host: str, port: int, limits: Limits | None = None) -> None:
        """Takes the directory and the port. Raises WrongState if another server has either, OSError if the
        directory cannot be written to."""
        limits = limits or Limits()
        if ":" in host:  # IPv6
            host = f"[{host.strip('[]')}]"
        directory.create()
        self._lock = Lock(directory.root / "lock")
        self._lock.acquire({"address": f"{host}:{port}"})
        database = directory.database()
        directory.remove_strays(database)
        limit_threads(BLAS_THREADS)
        jobs = Jobs(database)
        registry = ModelRegistry(database, directory.models)
        self._feed = Feed(directory, database, registry.refresh)
        self._scheduler = Scheduler(directory, database)
        calls = Calls(UNARY_THREADS, limits.max_streams)
        self._threads = ThreadPoolExecutor(_MAX_CALLS, thread_name_prefix="call")
        self._grpc = grpc.server(
            self._threads,
            maximum_concurrent_rpcs=_MAX_CALLS,
            options=[
                ("grpc.max_receive_message_length", limits.max_message_bytes),
                ("grpc.max_send_message_length", limits.max_message_bytes),
                # A second server on the port is to fail, not to share it.
                ("grpc.so_reuseport", 0),
                # Clients may ping an idle connection this often without being cut off.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", _MIN_PING_MILLISECONDS),
                ("grpc.keepalive_permit_without_calls", 1),
                # A client whose machine is gone does not say so: its streams end when no ping comes back.
                ("grpc.keepalive_time_ms", _PING_MILLISECONDS),
                ("grpc.keepalive_timeout_ms", _PING_MILLISECONDS),
            ],
        )
        services = [
            (training_pb2.DESCRIPTOR, TrainingServicer(directory, jobs, self._feed, limits)),
            (prediction_pb2.DESCRIPTOR, PredictionServicer(registry, limits, calls)),
            (evaluation_pb2.DESCRIPTOR, EvaluationServicer(registry, limits)),
            (model_pb2.DESCRIPTOR, ModelServicer(registry, database, directory, limits, calls)),
            (
                server_pb2.DESCRIPTOR,
                InformationServicer(registry, limits, threads=UNARY_THREADS, blas_threads=BLAS_THREADS),
            ),
        ]
        # Any: these descriptors are typed as protobuf's C classes, ours as its Python ones.
        judged: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
        reflected: Any = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
        bound: list[tuple[Any, object]] = [
            (service, servicer) for file, servicer in services for service in file.services_by_name.values()
        ]
        names = [*(service.full_name for service, _ in bound), judged.full_name]
        bound.append((reflected, reflection.ReflectionServicer([*names, reflection.SERVICE_NAME])))
        self._health = HealthServicer(names)
        self._grpc.add_generic_rpc_handlers(
            (
                *(bind(service, servicer, calls) for service, servicer in bound),
                # With turns and streams of its own: a server that is busy is well.
                bind(judged, self._health, Calls(UNARY_THREADS, limits.max_streams)),
            )
        )
        try:
            self.port = self._grpc.add_insecure_port(f"{host}:{port}")
        except RuntimeError:
            self._lock.release()
            raise OSError(
                f"{host}:{port} cannot be listened on: it is in use, or not this machine's"
            ) from None
        self.address = f"{host}:{self.port}"
        self._lock.describe({"address": self.address})

    def start(self) -> None:
        """Begins to answer, and to train what waits."""
        self._feed.start()
        self._scheduler.start()
        self._grpc.start()
        self._health.serve()
        log.info("serving", extra={"address": self.address})

    def stop(self) -> None:
        """Drains: says so, ends watches with where to go on, finishes calls, writes a checkpoint."""
        began = time.monotonic()
        log.info("draining")
        self._health.drain()
        self._feed.drain()
        stopped = self._grpc.stop(STOP_SECONDS)
        self._scheduler.stop()
        stopped.wait(STOP_SECONDS + 1)
        self._feed.stop()
        # Calls have ended, but what they clean up is still in the directory. None is waited for for ever.
        ending = threading.Thread(target=self._threads.shutdown, name="ending", daemon=True)
        ending.start()
        ending.join(STOP_SECONDS)
        self._lock.release()
        log.info("stopped", extra={"seconds": round(time.monotonic() - began, 3)})
