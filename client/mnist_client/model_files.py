"""Model files: a version as one safetensors file, sent to a server or received from one. No I/O with servers.

What is received is written aside, checked, and renamed: the file is whole, or it is not there.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import grpc

from mnist_client.configuration import model_name
from mnist_client.data_errors import DataError, reading
from mnist_client.errors import DataLoss, InternalError, InvalidInput
from mnist_client.resources import ModelVersion
from mnist_client.wire import to_version
from mnist_proto.names import parse_model
from mnist_proto.v1 import model_pb2 as pb

PathLike = str | os.PathLike[str]

_CHUNK_BYTES = 2**18
_LENGTH_BYTES = 8  # of what a safetensors file begins with: the length of its header


def alias_request(model: str, alias: str, version: int | None, etag: str | None) -> pb.SetAliasRequest:
    """Returns the request that has an alias stand for a version; None removes it. Raises InvalidInput."""
    name = whole_model("model", model)
    if version is not None and not (isinstance(version, int) and 1 <= version < 2**63):
        raise InvalidInput.of("version", repr(version), "the number of a version, from 1, or None")
    # A version's number is no alias, so this cannot become another kind of name.
    return pb.SetAliasRequest(alias=f"{name}/aliases/{alias}", version=version or 0, etag=etag or "")


def whole_model(parameter: str, name: str) -> str:
    """Returns models/{m} from it or from {m}. Raises InvalidInput, also for a version or an alias."""
    expanded = model_name(parameter, name)
    parts = parse_model(expanded)
    if parts.version is not None or parts.alias is not None:
        raise InvalidInput.of(parameter, repr(name), "NAME alone, without a version or an alias")
    return expanded


def import_requests(path: PathLike, name: str) -> Iterator[pb.ImportModelRequest]:
    """Returns the messages that make a file a version of models/{m}. Raises DataError, at once."""
    with reading(path), Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    config = pb.ImportConfig(model=name, size=size, sha256=digest)

    def messages() -> Iterator[pb.ImportModelRequest]:
        yield pb.ImportModelRequest(config=config)
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield pb.ImportModelRequest(chunk=chunk)

    return messages()


class ModelDownload:
    """A model file that is arriving; a context, at whose end nothing is left unless `finish` was reached."""

    def __init__(self, path: PathLike, server: str) -> None:
        """Begins a file that is to become `path`, in whose place it will be. Raises DataError."""
        self._path = Path(path)
        self._server = server
        self._described: pb.ModelFile | None = None
        self._digest = hashlib.sha256()
        self._received = 0
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        except OSError as error:
            raise self._unwritten(error) from error
        self._part = Path(name)
        self._file = os.fdopen(descriptor, "w+b")

    def take(self, response: pb.ExportModelResponse) -> None:
        """Takes the next message. Raises DataError if it cannot be written."""
        kind = response.WhichOneof("message")
        if (kind == "file") != (self._described is None):
            message = "the server did not first say what the file is, and then send it"
            raise InternalError(grpc.StatusCode.INTERNAL, message, server=self._server)
        if kind == "file":
            self._described = response.file
            return
        self._received += len(response.chunk)
        self._digest.update(response.chunk)
        try:
            self._file.write(response.chunk)
        except OSError as error:
            raise self._unwritten(error) from error

    def finish(self) -> ModelVersion:
        """Checks the file and gives it its name. Returns the version in it.

        Raises DataLoss if it is not what the server said, DataError if it cannot be written.
        """
        described = self._described
        if described is None:
            message = "the server sent no file"
            raise InternalError(grpc.StatusCode.INTERNAL, message, server=self._server)
        if (self._received, self._digest.hexdigest()) != (described.size, described.sha256):
            found = f"{self._received} bytes of SHA-256 {self._digest.hexdigest()}"
            raise self._damaged(f"{found}, expected {described.size} of {described.sha256}")
        try:
            # The one tensor is all that comes after the header.
            self._file.seek(0)
            header = int.from_bytes(self._file.read(_LENGTH_BYTES), "little")
            self._file.seek(_LENGTH_BYTES + min(header, self._received))
            weights = hashlib.file_digest(self._file, "sha256").hexdigest()
            if weights != described.version.weights_hash:
                raise self._damaged(f"weights of hash {weights}, expected {described.version.weights_hash}")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            raise self._unwritten(error) from error
        return to_version(described.version)

    def __enter__(self) -> "ModelDownload":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):  # close() writes what is left: the disk may be full
            self._file.close()
        self._part.unlink(missing_ok=True)

    def _unwritten(self, error: Exception) -> DataError:
        return DataError(f"{self._path}: cannot be written: {getattr(error, 'strerror', None) or error}")

    def _damaged(self, found: str) -> DataLoss:
        return DataLoss(grpc.StatusCode.DATA_LOSS, f"{self._path}: found {found}", server=self._server)
