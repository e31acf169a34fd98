"""What the server's tests share: a data directory, its database, and a server on a port of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mnist_client.datasets import Dataset, load_dataset
from mnist_core import TrainingState, save_model
from mnist_proto.v1 import dataset_pb2, images_pb2, model_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.configuration import resolve, training_config
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.jobs import Jobs, new_name, now
from mnist_server.limits import Limits
from mnist_server.registry import add_version
from mnist_server.serving import Server


@pytest.fixture
def directory(tmp_path: Path) -> DataDirectory:
    """A data directory that nobody serves yet."""
    directory = DataDirectory(tmp_path / "data")
    directory.create()
    return directory


@pytest.fixture
def database(directory: DataDirectory) -> Iterator[Database]:
    """The directory's database, as another process than the server's would open it."""
    database = directory.database()
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@pytest.fixture
def limits() -> Limits:
    """The limits of `server`; a test module that wants others overrides this fixture."""
    return Limits()


@pytest.fixture
def make_config(limits: Limits) -> Callable[..., pb.ResolvedConfig]:
    """make_config(name, **fields of TrainingConfig) -> one resolved for 100 images of 28 x 28."""

    def make(name: str = "jobs/job-made", **fields: object) -> pb.ResolvedConfig:
        fields.setdefault("seed", 0)
        return resolve(
            pb.TrainingConfig(**fields),  # type: ignore[arg-type]  # each test gives fields that there are
            name,
            dataset_hash="ab" * 32,
            counts={"train": 100, "validation": 0, "test": 0},
            height=28,
            width=28,
            limits=limits,
        )

    return make


@pytest.fixture
def make_job(jobs: Jobs, make_config: Callable[..., pb.ResolvedConfig]) -> Callable[..., str]:
    """make_job(name=..., request_id=..., **fields of TrainingConfig) -> the name of a QUEUED job.

    Its data set is in the database alone, so that a scheduler that takes it up will see it fail.
    """

    def make(name: str = "", *, request_id: str = "", max_queued: int = 100, **fields: object) -> str:
        name = name or new_name()
        return jobs.create(
            name,
            make_config(name, **fields),
            request_id=request_id,
            request_hash=f"hash of {fields}",
            dataset=dataset_pb2.Dataset(name=f"datasets/{'ab' * 32}", bytes=78_500),
            max_queued=max_queued,
        )

    return make


@pytest.fixture
def make_version(
    directory: DataDirectory, database: Database, make_config: Callable[..., pb.ResolvedConfig]
) -> Callable[..., str]:
    """make_version(model, **fields of TrainingConfig) -> models/{m}/versions/{n}, of an untrained network."""

    def make(model: str = "mnist", *, promote: bool = False, **fields: object) -> str:
        job = new_name()
        resolved = make_config(job, model=f"models/{model}", **fields)
        config = training_config(resolved.config)
        network = TrainingState.begin(config, resolved.height * resolved.width).network
        file = f"{job.removeprefix('jobs/')}.safetensors"
        image = (resolved.height, resolved.width)
        save_model(directory.models / file, network, config, {"job": job}, image=image)
        version = model_pb2.ModelVersion(
            create_time=now(),
            job=job,
            config=resolved,
            parameters=network.parameters.size,
            weights_hash=network.weights_hash(),
        )
        with database.write() as connection:
            return add_version(connection, f"models/{model}", file, version, promote=promote)

    return make


@pytest.fixture
def fast_path() -> bool:
    """Whether `server` takes the fast path. Test modules that ask for predictions try both."""
    return True


@pytest.fixture
def server(directory: DataDirectory, limits: Limits, fast_path: bool) -> Iterator[Server]:
    """A server in this process, on a free port of loopback."""
    server = Server(directory, "127.0.0.1", 0, limits, fast_path=fast_path)
    assert (server._fast is not None) == fast_path
    server.start()
    yield server
    server.stop()


@pytest.fixture
def channel(server: Server, limits: Limits) -> Iterator[grpc.Channel]:
    """A channel to `server` that takes and gives messages a little larger than the server's limit."""
    options = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", limits.max_message_bytes + 2**20),
        ("grpc.max_send_message_length", limits.max_message_bytes + 2**20),
    ]
    with grpc.insecure_channel(server.address, options=options) as channel:
        yield channel


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """Real ones: 4,000 to train on and 1,000 to test on."""
    return load_dataset("mnist-5k")


@pytest.fixture
def make_messages(digits: Dataset) -> Callable[..., list[pb.TrainRequest]]:
    """make_messages(train=200, test=100, **fields of TrainingConfig) -> Train's messages, of real digits."""
    assert digits.test is not None
    splits = {images_pb2.SPLIT_TRAIN: digits.train, images_pb2.SPLIT_TEST: digits.test}

    def make(train: int = 200, test: int = 100, **fields: object) -> list[pb.TrainRequest]:
        fields.setdefault("seed", 0)
        config = pb.TrainingConfig(**fields)  # type: ignore[arg-type]  # each test gives fields that there are
        messages = [pb.TrainRequest(config=config)]
        for (split, data), count in zip(splits.items(), (train, test), strict=True):
            for start in range(0, count, 1000):
                part = slice(start, min(start + 1000, count))
                batch = images_pb2.LabeledImages(
                    pixels=data.images[part].tobytes(),
                    height=28,
                    width=28,
                    labels=data.labels[part].tobytes(),
                    split=split,
                )
                messages.append(pb.TrainRequest(batch=batch))
        return messages

    return make


@pytest.fixture
def refused() -> Callable[..., Any]:
    """refused(call, code, *words, field=None): `call` ends with this status, its message holds all words, and
    its details are those that every refusal has; with a field, also the field and nothing but the message.
    Returns the error."""

    def check(
        call: Callable[[], object], code: grpc.StatusCode, *words: str, field: str | None = None
    ) -> Any:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value  # a grpc.Call besides, which its type does not say
        assert error.code() is code, f"{error.code()}: {error.details()}"
        for word in words:
            assert word in error.details()
        status = rpc_status.from_call(error)
        assert status is not None
        details = {detail.type_url.rpartition(".")[2]: detail for detail in status.details}
        info = error_details_pb2.ErrorInfo()
        assert details["ErrorInfo"].Unpack(info)
        assert info.domain == "mnist.v1"
        assert info.reason
        assert ("RetryInfo" in details) == (code is grpc.StatusCode.RESOURCE_EXHAUSTED)
        if field is not None:
            request = error_details_pb2.BadRequest()
            assert details["BadRequest"].Unpack(request)
            [violation] = request.field_violations
            assert (violation.field, violation.description) == (field, error.details())
        return error

    return check
