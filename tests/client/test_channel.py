"""A channel: which server is called, and by which rules."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from mnist_client import Client, NotFound, Unavailable
from mnist_client.channel import (
    IDEMPOTENT,
    channel_options,
    is_local,
    server_address,
)
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, model_pb2, prediction_pb2, server_pb2, training_pb2

Serve = Callable[..., str]


def test_the_address_is_given_or_the_environments_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNIST_SERVER", raising=False)
    assert server_address(None) == "127.0.0.1:50051"
    monkeypatch.setenv("MNIST_SERVER", "example.org:443")
    assert server_address(None) == "example.org:443"
    assert server_address("localhost:1") == "localhost:1"
    monkeypatch.setenv("MNIST_SERVER", "")
    assert server_address(None) == "127.0.0.1:50051"


@pytest.mark.parametrize(
    ("server", "address"),
    [
        ("example.org", "example.org:50051"),
        ("example.org:1", "example.org:1"),
        ("unix:/run/mnist.sock", "unix:/run/mnist.sock"),
        ("[::1]:1", "[::1]:1"),
    ],
)
def test_a_host_alone_gets_the_default_port(server: str, address: str) -> None:
    assert server_address(server) == address


@pytest.mark.parametrize(
    "server",
    [
        "127.0.0.1:50051",
        "127.8.0.1:1",
        "localhost:1",
        "[::1]:1",
        "unix:/run/mnist.sock",
        "unix:mnist.sock",
        "unix-abstract:mnist",
        "ipv4:127.0.0.1:1",
        "ipv6:[::1]:1",
        "dns:localhost:1",
        "dns:///localhost:1",
        "dns://8.8.8.8/localhost:1",
    ],
)
def test_this_machine_is_called_without_a_proxy(server: str) -> None:
    assert is_local(server)
    assert ("grpc.enable_http_proxy", 0) in channel_options(server)


@pytest.mark.parametrize("server", ["example.org:1", "10.0.0.1:1", "localhost.example.org:1", "dns:///a:1"])
def test_other_machines_may_be_called_through_a_proxy(server: str) -> None:
    assert not is_local(server)
    assert "grpc.enable_http_proxy" not in dict(channel_options(server))


def test_a_proxy_in_the_environment_does_not_take_local_calls(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    with Client(server) as client:
        assert client.health() == "SERVING"


def test_messages_are_bounded_and_pings_rare() -> None:
    options = dict(channel_options("127.0.0.1:1"))
    assert options["grpc.max_receive_message_length"] == 64 * 2**20
    assert int(options["grpc.keepalive_time_ms"]) >= 30_000


def test_every_unary_call_may_be_made_twice_and_no_other() -> None:
    # All unary calls read, but CancelTraining and PauseTraining, which change nothing the second time, and
    # those that change models or data sets, resume or delete a job: made again, one might find nothing to do.
    unary = {
        service.full_name: tuple(
            method.name
            for method in service.methods
            if not (method.client_streaming or method.server_streaming)
            and method.name
            not in ("SetAlias", "DeleteModel", "ResumeTraining", "DeleteTrainingJob", "DeleteDataset")
        )
        for file in (prediction_pb2, training_pb2, model_pb2, dataset_pb2, server_pb2, evaluation_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
    }
    listed = {service: set(methods) for service, methods in IDEMPOTENT.items()}
    listed.pop("grpc.health.v1.Health")
    assert listed == {service: set(methods) for service, methods in unary.items() if methods}


def test_the_service_config_retries_when_unavailable_alone() -> None:
    config = json.loads(str(dict(channel_options("127.0.0.1:1"))["grpc.service_config"]))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["retryThrottling"]["tokenRatio"] > 0
    [methods] = config["methodConfig"]
    assert methods["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert all(set(name) == {"service", "method"} for name in methods["name"])


def failing(code: grpc.StatusCode, times: int) -> tuple[Callable[..., model_pb2.GetModelResponse], list[int]]:
    """A GetModel that fails so many times, then answers; and the list of the attempts made."""
    attempts: list[int] = []

    def behave(request: object, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        attempts.append(1)
        if len(attempts) <= times:
            context.abort(code, "not now")
        return model_pb2.GetModelResponse(model=model_pb2.Model(name="models/m"))

    return behave, attempts


def test_a_call_that_found_the_server_unavailable_is_made_again(serve: Serve) -> None:
    behave, attempts = failing(grpc.StatusCode.UNAVAILABLE, 2)
    with Client(serve(GetModel=behave)) as client:
        assert client.model("m").name == "models/m"
    assert len(attempts) == 3


def test_attempts_are_bounded(serve: Serve) -> None:
    behave, attempts = failing(grpc.StatusCode.UNAVAILABLE, 100)
    with Client(serve(GetModel=behave)) as client, pytest.raises(Unavailable):
        client.model("m")
    assert len(attempts) == 4


def test_a_call_that_failed_otherwise_is_not_made_again(serve: Serve) -> None:
    behave, attempts = failing(grpc.StatusCode.NOT_FOUND, 1)
    with Client(serve(GetModel=behave)) as client, pytest.raises(NotFound):
        client.model("m")
    assert len(attempts) == 1


def test_a_server_that_is_in_trouble_is_called_less(serve: Serve) -> None:
    behave, attempts = failing(grpc.StatusCode.UNAVAILABLE, 1000)
    with Client(serve(GetModel=behave)) as client:

        def fail(_: int) -> None:
            with pytest.raises(Unavailable):
                client.model("m")

        with ThreadPoolExecutor(26) as pool:
            list(pool.map(fail, range(26)))
        before = len(attempts)
        with pytest.raises(Unavailable):
            client.model("m")
    assert len(attempts) == before + 1


def test_every_unary_call_has_a_deadline(serve: Serve) -> None:
    remaining: list[float] = []

    def note(request: object, context: grpc.ServicerContext) -> None:
        remaining.append(context.time_remaining() or 0.0)
        context.abort(grpc.StatusCode.NOT_FOUND, "none")

    jobs = (
        *("GetTrainingJob", "ListTrainingJobs", "CancelTraining"),
        *("PauseTraining", "ResumeTraining", "DeleteTrainingJob"),
    )
    calls = ("GetModel", "ListModels", *jobs, "Predict")
    with Client(serve(**dict.fromkeys(calls, note)), timeout=7.0) as client:
        for call in (
            lambda: client.model("m"),
            lambda: list(client.models()),
            lambda: client.job("j").status(),
            lambda: list(client.jobs()),
            lambda: client.job("j").cancel(),
            lambda: client.job("j").pause(),
            lambda: client.job("j").resume(),
            lambda: client.job("j").delete(),
            lambda: client.predict(b"picture"),
        ):
            with pytest.raises(NotFound):
                call()
    assert len(remaining) == len(calls)
    assert all(0 < seconds < 8 for seconds in remaining)  # without a deadline it is some years


def test_a_server_that_was_restarted_is_found_again(serve: Serve) -> None:
    def answer(request: object, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        return model_pb2.GetModelResponse(model=model_pb2.Model(name="models/m"))

    address = serve(GetModel=answer)
    port = int(address.rpartition(":")[2])
    with Client(address) as client:
        assert client.model("m").name == "models/m"
        serve.stop()  # type: ignore[attr-defined]  # ScriptedServers of conftest.py
        with pytest.raises(Unavailable):
            client.model("m")
        serve(port=port, GetModel=answer)
        deadline = time.monotonic() + 20
        while True:
            try:
                assert client.model("m").name == "models/m"
                return
            except Unavailable:
                assert time.monotonic() < deadline, "the server was not found again"
                time.sleep(0.05)


def test_many_threads_may_share_a_client(serve: Serve) -> None:
    def echo(request: model_pb2.GetModelRequest, context: grpc.ServicerContext) -> model_pb2.GetModelResponse:
        return model_pb2.GetModelResponse(model=model_pb2.Model(name=request.model))

    with Client(serve(GetModel=echo)) as client:
        wrong: list[str] = []

        def ask(name: str) -> None:
            wrong.extend(name for _ in range(20) if client.model(name).name != f"models/{name}")

        threads = [threading.Thread(target=ask, args=(f"m{index}",)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert wrong == []
