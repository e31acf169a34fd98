"""Health: says whether the services answer, as `grpc.health.v1` asks it, once or whenever it changes.

grpcio-health-checking's own servicer is not used: when the status changes while a watcher goes away, it holds
a lock that grpcio's only thread for such news then waits for, and nothing is ever answered again.
"""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import grpc
from grpc_health.v1 import health_pb2 as pb

from mnist_server.errors import NotFound

_pb: Any = pb  # its types are older than List


class HealthServicer:
    """Answers `grpc.health.v1.Health`. All services begin and end to answer together."""

    def __init__(self, services: Iterable[str]) -> None:
        """`services` by their full names; the empty one, the server as a whole, is added."""
        self._services = ("", *services)
        self._status: Literal[1, 2] = pb.HealthCheckResponse.NOT_SERVING
        self._draining = False
        self._watchers: set[threading.Event] = set()
        self._lock = threading.Lock()

    def serving(self) -> bool:
        """Says whether the services answer."""
        return self._status == pb.HealthCheckResponse.SERVING

    def serve(self) -> None:
        """From now on the services answer."""
        self._change(pb.HealthCheckResponse.SERVING, draining=False)

    def drain(self) -> None:
        """From now on they do not. Watches say so and end."""
        self._change(pb.HealthCheckResponse.NOT_SERVING, draining=True)

    def _change(self, status: Literal[1, 2], *, draining: bool) -> None:
        with self._lock:
            self._status, self._draining = status, draining
            for woken in self._watchers:
                woken.set()

    def Check(self, request: pb.HealthCheckRequest, context: grpc.ServicerContext) -> pb.HealthCheckResponse:
        """Returns whether a service answers."""
        if request.service not in self._services:
            known = ", ".join(repr(name) for name in self._services)
            raise NotFound("service", request.service, f"one of {known}")
        return pb.HealthCheckResponse(status=self._status)

    def List(self, request: object, context: grpc.ServicerContext) -> Any:
        """Returns whether each service answers."""
        status = pb.HealthCheckResponse(status=self._status)
        return _pb.HealthListResponse(statuses=dict.fromkeys(self._services, status))

    def Watch(
        self, request: pb.HealthCheckRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.HealthCheckResponse]:
        """Says whether a service answers, and again whenever that changes."""
        woken = threading.Event()
        if not context.add_callback(woken.set):
            return
        with self._lock:
            self._watchers.add(woken)
        try:
            said = None
            while True:
                woken.clear()  # before looking, so that nothing new is missed
                draining = self._draining
                if not context.is_active():
                    return
                known = request.service in self._services
                status = self._status if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
                if status != said:
                    said = status
                    yield pb.HealthCheckResponse(status=status)
                if draining:
                    return
                woken.wait()
        finally:
            with self._lock:
                self._watchers.discard(woken)
