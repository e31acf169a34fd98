import threading
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from mnist_server.health import HealthServicer
from mnist_server.serving import Server

SERVING, NOT_SERVING = pb.HealthCheckResponse.SERVING, pb.HealthCheckResponse.NOT_SERVING
TIMEOUT = 30.0
# The oldest grpcio-health-checking that is supported knows no List.
LISTS = hasattr(pb, "HealthListResponse")


class Context:
    """The part of a call that a watch needs."""

    def __init__(self, *, over: bool = False) -> None:
        self.over = over
        self.callbacks: list[Any] = []

    def add_callback(self, callback: Any) -> bool:
        self.callbacks.append(callback)
        return not self.over

    def is_active(self) -> bool:
        return not self.over

    def cancel(self) -> None:
        self.over = True
        for callback in self.callbacks:
            callback()


def watch(servicer: HealthServicer, context: Any, service: str = "") -> Any:
    return servicer.Watch(pb.HealthCheckRequest(service=service), context)


def test_services_answer_from_serve_to_drain() -> None:
    servicer = HealthServicer(["a", "b"])
    context: Any = Context()
    said = []
    for change in (None, servicer.serve, servicer.drain):
        if change is not None:
            change()
        [status] = {
            servicer.Check(pb.HealthCheckRequest(service=service), context).status
            for service in ("", "a", "b")
        }
        if LISTS:
            listed = servicer.List(object(), context).statuses.values()
            assert [each.status for each in listed] == [status] * 3
        said.append(status)
    assert said == [NOT_SERVING, SERVING, NOT_SERVING]


@pytest.mark.parametrize(("service", "statuses"), [("a", [SERVING, NOT_SERVING]), ("x", [3])])
def test_a_watch_says_what_changes_and_ends_with_the_server(service: str, statuses: list[int]) -> None:
    servicer = HealthServicer(["a"])
    servicer.serve()
    call = watch(servicer, Context(), service)
    said = [next(call).status]
    servicer.serve()  # changes nothing
    servicer.drain()
    said += [response.status for response in call]
    assert said == statuses


def test_a_watch_ends_with_its_caller() -> None:
    servicer = HealthServicer([])
    context = Context()
    call = watch(servicer, context)
    assert next(call).status == NOT_SERVING
    context.cancel()
    assert list(call) == []
    assert list(watch(servicer, Context(over=True))) == []
    assert not servicer._watchers


def test_watchers_that_go_while_the_server_stops_do_not_hold_it_up(
    server: Server, channel: grpc.Channel
) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    calls = [stub.Watch(pb.HealthCheckRequest(), timeout=TIMEOUT) for _ in range(100)]
    for call in calls:
        assert next(call).status == SERVING
    stopping = threading.Thread(target=server.stop, daemon=True)
    stopping.start()
    for call in calls:
        call.cancel()
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
