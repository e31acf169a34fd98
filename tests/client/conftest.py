"""What the client's tests share: real servers in processes of their own, and servers that follow a script."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from mnist_client import Client, Dataset, Split, load_dataset
from mnist_client.resources import Limits
from mnist_proto.v1 import dataset_pb2, evaluation_pb2, model_pb2, prediction_pb2, server_pb2, training_pb2

START_SECONDS = 30.0
STOP_SECONDS = 15.0


class ServerProcess:
    """`mnist-server serve` on a data directory."""

    def __init__(self, data: Path, port: int = 0) -> None:
        """Returns once it answers; fails if that takes too long."""
        self.data = data
        self.log = data.with_suffix(f".{time.monotonic_ns()}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "mnist-server",
                    *("serve", "--host", "127.0.0.1", "--port", str(port), "--data-dir", data),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = b""
        deadline = time.monotonic() + START_SECONDS
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            part = os.read(self.process.stdout.fileno(), 4096) if readable else b""
            if not part:
                self.kill()
                pytest.fail(f"the server did not start: {line!r}\n{self.log.read_text()}")
            line += part
        self.address = line.decode().removeprefix("Serving on ").strip()
        self.port = int(self.address.rpartition(":")[2])

    def stop(self) -> None:
        """Drains it; fails unless it exits with 0 in time."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the server did not stop within {STOP_SECONDS} s\n{self.log.read_text()}")
        self._close()
        assert code == 0, self.log.read_text()

    def kill(self) -> None:
        """Ends it at once."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self._close()

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one server for all tests, HOST:PORT."""
    process = ServerProcess(tmp_path_factory.mktemp("server") / "data")
    yield process.address
    process.stop()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """start_server(port=0) -> a server of this test's own; each on the same data directory."""
    started: list[ServerProcess] = []

    def start(port: int = 0) -> ServerProcess:
        started.append(ServerProcess(tmp_path / "data", port))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.stop()


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """5,000 real digits: 4,000 to train, 1,000 to test."""
    return load_dataset("mnist-5k")


@pytest.fixture
def few(digits: Dataset) -> Dataset:
    """A data set so small that an epoch is nothing."""
    assert digits.test is not None
    return Dataset(
        "few",
        Split(digits.train.images[:200], digits.train.labels[:200]),
        None,
        Split(digits.test.images[:50], digits.test.labels[:50]),
    )


@pytest.fixture(scope="session")
def trained(server: str, digits: Dataset) -> str:
    """The address of `server`, which has a model models/mnist by now."""
    with Client(server) as client:
        client.train(digits, name="mnist", epochs=3, seed=0).result(timeout=60)
    return server


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    """A client of `server`."""
    with Client(server) as client:
        yield client


LIMITS = server_pb2.Limits(
    max_message_bytes=2**20,
    max_images_per_request=100,
    max_encoded_images=2,
    max_encoded_pixels=2**20,
    max_image_pixels=10_000,
    max_dataset_images=1_000,
    max_dataset_bytes=2**20,
    max_parameters=1_000,
    max_queued_jobs=1,
    max_streams=1,
    max_model_bytes=2**20,
    max_running_jobs=1,
    max_watchers=1,
    max_stored_dataset_bytes=2**22,
    max_classes=1000,
)
METHODS = {
    method.name: method
    for file in (training_pb2, evaluation_pb2, prediction_pb2, model_pb2, dataset_pb2, server_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@pytest.fixture
def limits() -> Limits:
    """The limits of a scripted server."""
    return Limits(**{field.name: value for field, value in LIMITS.ListFields()})


class ScriptedServers:
    """Servers in this process that do as a test tells them."""

    def __init__(self) -> None:
        self._servers: list[grpc.Server] = []

    def __call__(self, port: int = 0, **behaviours: Callable[[Any, grpc.ServicerContext], Any]) -> str:
        """Starts one and returns its address.

        Predict=behaviour answers Predict, and so on; a behaviour takes what a servicer's method takes.
        GetServerInfo publishes `limits`.
        """
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        info = server_pb2.GetServerInfoResponse(server=server_pb2.ServerInfo(limits=LIMITS))
        for name, behaviour in {"GetServerInfo": lambda request, context: info, **behaviours}.items():
            method = METHODS[name]
            handler = HANDLERS[method.client_streaming, method.server_streaming](
                behaviour,
                request_deserializer=GetMessageClass(method.input_type).FromString,
                response_serializer=GetMessageClass(method.output_type).SerializeToString,
            )
            service = method.containing_service.full_name
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: handler}),))
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        self._servers.append(server)
        return f"127.0.0.1:{port}"

    def stop(self) -> None:
        """Ends all of them, and every call of theirs, at once."""
        while self._servers:
            self._servers.pop().stop(None).wait(5)


@pytest.fixture
def serve() -> Iterator[ScriptedServers]:
    """serve(Predict=behaviour, ...) -> the address of a server that answers so."""
    servers = ScriptedServers()
    yield servers
    servers.stop()
