import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mnist_client import AsyncClient, Client, DataError, DataLoss, Dataset, InternalError, InvalidInput
from mnist_client.data_errors import DataNotFound
from mnist_client.model_files import ModelDownload, alias_request, import_requests
from mnist_proto.v1 import model_pb2 as pb

# A file as the client sees it: a header's length, the header, and one tensor.
WEIGHTS = b"weights" * 1000
FILE = (3).to_bytes(8, "little") + b"{ }" + WEIGHTS


def described(**fields: Any) -> pb.ExportModelResponse:
    values: dict[str, Any] = {"size": len(FILE), "sha256": hashlib.sha256(FILE).hexdigest()} | fields
    version = pb.ModelVersion(
        name="models/m/versions/1", version=1, weights_hash=hashlib.sha256(WEIGHTS).hexdigest()
    )
    return pb.ExportModelResponse(file=pb.ModelFile(**({"version": version} | values)))


def chunks(data: bytes = FILE) -> list[pb.ExportModelResponse]:
    return [pb.ExportModelResponse(chunk=data[start : start + 999]) for start in range(0, len(data), 999)]


def download(path: Path, responses: list[pb.ExportModelResponse]) -> Any:
    with ModelDownload(path, "server:1") as arriving:
        for response in responses:
            arriving.take(response)
        return arriving.finish()


def test_a_file_is_there_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"what was there")
    with ModelDownload(path, "server:1") as arriving:
        for response in [described(), *chunks()]:
            arriving.take(response)
            assert path.read_bytes() == b"what was there"
        assert arriving.finish().name == "models/m/versions/1"
    assert path.read_bytes() == FILE
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("responses", "error", "word"),
    [
        ([], InternalError, "no file"),
        (chunks(), InternalError, "first"),
        ([described(), described()], InternalError, "first"),
        ([pb.ExportModelResponse()], InternalError, "first"),
        ([described()], DataLoss, "0 bytes"),
        ([described(), *chunks(FILE[:-1])], DataLoss, "7010 bytes"),
        ([described(), *chunks(FILE + b"x")], DataLoss, "7012 bytes"),
        ([described(), *chunks(FILE[:-1] + b"x")], DataLoss, "SHA-256"),
        ([described(sha256="0" * 64), *chunks()], DataLoss, "0" * 64),
        ([described(version=pb.ModelVersion(weights_hash="1" * 64)), *chunks()], DataLoss, "weights of hash"),
        (
            [described(size=3, sha256=hashlib.sha256(b"\xff\xff\xff").hexdigest()), *chunks(b"\xff\xff\xff")],
            DataLoss,
            "weights",
        ),
    ],
)
def test_what_is_not_what_the_server_said_leaves_nothing(
    tmp_path: Path, responses: list[pb.ExportModelResponse], error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        download(tmp_path / "m", responses)
    assert list(tmp_path.iterdir()) == []


def test_a_header_longer_than_any_file_is_damage(tmp_path: Path) -> None:
    data = b"\xff" * 20
    with pytest.raises(DataLoss, match="weights of hash"):
        download(tmp_path / "m", [described(size=20, sha256=hashlib.sha256(data).hexdigest()), *chunks(data)])
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_used_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none/m: cannot be written: No such file"):
        ModelDownload(tmp_path / "none" / "m", "server:1")
    with pytest.raises(DataNotFound, match="no such file"):
        import_requests(tmp_path / "m", "models/m")
    with pytest.raises(DataError, match="cannot be read"):
        import_requests(tmp_path, "models/m")


def test_a_file_goes_out_in_chunks_after_what_it_is(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    (tmp_path / "m").write_bytes(data)
    first, *rest = import_requests(tmp_path / "m", "models/m")
    assert first.config == pb.ImportConfig(
        model="models/m", size=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    assert b"".join(request.chunk for request in rest) == data
    assert len(rest) == 4


@pytest.mark.parametrize("version", [0, -1, 2**63, 1.5, "2"])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^version: .* is not valid"):
        alias_request("m", "stable", version, None)


@pytest.mark.parametrize("model", ["m@1", "m@stable", "M", "", "models/m/versions/1"])
def test_an_alias_is_of_a_model(model: str) -> None:
    with pytest.raises(InvalidInput, match=r"^model: "):
        alias_request(model, "stable", 1, None)


def test_what_is_asked_for(tmp_path: Path) -> None:
    name = "models/m/aliases/stable"
    assert alias_request("m", "stable", 2, "7") == pb.SetAliasRequest(alias=name, version=2, etag="7")
    assert alias_request("models/m", "stable", None, None) == pb.SetAliasRequest(alias=name)


@pytest.fixture(scope="module")
def two(trained: str, digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A server, and a file of its models/mnist."""
    path = tmp_path_factory.mktemp("exported") / "mnist.safetensors"
    with Client(trained) as client:
        version = client.export_model("mnist@1", path)
        assert version == client.model("mnist@1").versions[0]
    return trained, path


def test_a_model_travels_and_its_aliases_move(two: tuple[str, Path], digits: Dataset, tmp_path: Path) -> None:
    server, path = two
    with Client(server) as client:
        original = client.model("mnist@1").versions[0]
        first, second = (client.import_model(path, name="travelled") for _ in range(2))
        assert [version.name for version in (first, second)] == [
            "models/travelled/versions/1",
            "models/travelled/versions/2",
        ]
        assert first.weights_hash == original.weights_hash
        assert first.network == original.network
        assert (first.job, first.config, first.provenance["job"]) == (None, None, original.job)
        model = client.set_alias("travelled", "default", 2, etag=client.model("travelled").etag)
        assert model.aliases == {"default": 2}
        assert client.predict(digits.train.images[:1], model="travelled").model == second.name
        client.set_alias("travelled", "default", 1)
        with pytest.raises(Exception, match="etag") as caught:
            client.set_alias("travelled", "default", 2, etag=model.etag)
        assert getattr(caught.value, "code", None) is grpc.StatusCode.ABORTED
        client.set_alias("travelled", "old", 2)
        assert client.set_alias("travelled", "old", None).aliases == {"default": 1}
        assert client.delete_model("travelled@2") == 1
        assert client.evaluate(digits, model="travelled").total == 1000
        client.export_model("travelled", tmp_path / "again")
        assert client.delete_model("travelled", force=True) == 1


async def test_both_clients_do_alike(two: tuple[str, Path], tmp_path: Path) -> None:
    server, path = two
    async with AsyncClient(server) as client:
        version = await client.import_model(path, name="async")
        await client.import_model(path, name="async")
        model = await client.set_alias("async", "default", 2, etag=(await client.model("async")).etag)
        assert model.aliases == {"default": 2}
        assert await client.export_model(version.name, tmp_path / "m") == version
        assert await client.delete_model("async@1") == 1
        assert await client.delete_model("async", force=True) == 1
        damaged = tmp_path / "damaged"
        damaged.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(InvalidInput, match="model file"):
            await client.import_model(damaged, name="async")
        with pytest.raises(DataNotFound):
            await client.import_model(tmp_path / "none", name="async")
        with pytest.raises(DataError, match="cannot be written"):
            await client.export_model("mnist", tmp_path / "none" / "m")


def broken(request: object, context: grpc.ServicerContext) -> Iterator[pb.ExportModelResponse]:
    yield described()
    yield chunks()[0]
    context.abort(grpc.StatusCode.DATA_LOSS, "the disk")


async def test_an_export_that_breaks_leaves_nothing(serve: Callable[..., str], tmp_path: Path) -> None:
    server = serve(ExportModel=broken)
    with Client(server) as client, pytest.raises(DataLoss, match="the disk"):
        client.export_model("m", tmp_path / "m")
    async with AsyncClient(server) as other:
        with pytest.raises(DataLoss, match="the disk"):
            await other.export_model("m", tmp_path / "m")
    assert list(tmp_path.iterdir()) == []
