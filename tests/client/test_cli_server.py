import json
import socket
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from click.testing import CliRunner, Result

from mnist_client import Client
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode
from mnist_proto import __version__
from mnist_proto.v1 import server_pb2


def run(server: str, *words: str) -> Result:
    return CliRunner().invoke(program, [*words, "--server", server])


def test_info(trained: str) -> None:
    text = run(trained, "info").stdout
    assert f"Version        {__version__}\n" in text
    assert "models/mnist/versions/1" in text
    record = json.loads(run(trained, "info", "-o", "json").stdout)
    assert record["version"] == __version__
    with Client(trained) as client:
        limit = client.info().limits.max_message_bytes
    assert record["limits"]["max_message_bytes"] == limit
    assert f"{limit:,}" in text


def test_health_of_a_server_that_serves(server: str) -> None:
    result = run(server, "health")
    assert (result.stdout, result.stderr, result.exit_code) == ("SERVING\n", "", ExitCode.DONE)
    of_one = run(server, "health", "--service", "mnist.v1.PredictionService", "-o", "json")
    assert json.loads(of_one.stdout) == {"service": "mnist.v1.PredictionService", "status": "SERVING"}


def test_health_of_a_server_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "health", lambda self, service: "NOT_SERVING")
    result = run("127.0.0.1:1", "health")
    assert (result.stdout, result.exit_code) == ("NOT_SERVING\n", ExitCode.UNREACHABLE)


def test_health_of_an_unknown_service(server: str) -> None:
    assert run(server, "health", "--service", "nobody").exit_code == ExitCode.NOT_FOUND


def test_health_where_nobody_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = run(f"127.0.0.1:{port}", "health", "--timeout", "5")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.stdout == ""
    assert f"127.0.0.1:{port}" in result.stderr


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_no_answer_in_time_is_an_end(silent: str, serve: Callable[..., str]) -> None:
    def late(
        request: server_pb2.GetServerInfoRequest, context: grpc.ServicerContext
    ) -> server_pb2.GetServerInfoResponse:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(60)  # until the caller has given up
        return server_pb2.GetServerInfoResponse()

    assert run(serve(GetServerInfo=late), "info", "--timeout", "0.2").exit_code == ExitCode.DEADLINE
    assert run(silent, "info", "--timeout", "0.2").exit_code in (ExitCode.DEADLINE, ExitCode.UNREACHABLE)
