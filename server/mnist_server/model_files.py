"""Model files: a version on its way out as bytes, or on its way in, judged before anything is made of it.

What comes in is spooled to disk. It is not kept: what was understood of it is written anew, so that what the
server has later to read is its own writing.
"""

import hashlib
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from mnist_core import CheckpointError, ChecksumError, InvalidValue, SavedModel, read_model, save_model
from mnist_core.durable import TEMPORARY_PREFIX
from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1 import training_pb2
from mnist_server.database import Database
from mnist_server.errors import Corrupt, InvalidRequest
from mnist_server.jobs import now
from mnist_server.layers import layers_to_wire
from mnist_server.limits import Limits
from mnist_server.registry import add_version

CHUNK_BYTES = 2**20
MAX_PROVENANCE_BYTES = 4096

# A file and what is made of it may fill three times max_model_bytes of memory: so many are judged at a time.
_judging = threading.BoundedSemaphore(1)


def export_model(path: Path, version: pb.ModelVersion) -> Iterator[pb.ExportModelResponse]:
    """Yields what a version is, and the bytes of its file. Raises Corrupt if they are not what was saved."""
    try:
        file = path.open("rb")  # which stays what it is, even if the version is deleted now
    except OSError as error:
        raise Corrupt(f"{version.name}: {error.strerror}") from error
    with file:
        with _judging:
            try:
                found = read_model(path).network.weights_hash()
            except CheckpointError as error:
                raise Corrupt(f"{version.name}: {error.why}") from error
        if found != version.weights_hash:
            raise Corrupt(f"{version.name}: the weights' hash is not {version.weights_hash}")
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        described = pb.ModelFile(version=version, size=file.tell(), sha256=digest)
        yield pb.ExportModelResponse(file=described)
        file.seek(0)
        while chunk := file.read(CHUNK_BYTES):
            yield pb.ExportModelResponse(chunk=chunk)


class ModelUpload:
    """A model file that is arriving: spooled to disk, and removed whatever becomes of it."""

    def __init__(self, folder: Path, config: pb.ImportConfig, limits: Limits) -> None:
        """Begins a file in `folder`, the models' own. Raises InvalidValue for a size or hash that is none."""
        if not 1 <= config.size <= limits.max_model_bytes:
            raise InvalidValue("config.size", config.size, f"1 to {limits.max_model_bytes} bytes")
        if len(config.sha256) != 64 or set(config.sha256) - set("0123456789abcdef"):
            raise InvalidValue("config.sha256", config.sha256, "64 hexadecimal digits in lower case")
        self._folder = folder
        self._config = config
        self._limits = limits
        self._digest = hashlib.sha256()
        self._received = 0
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        self._spool = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def add(self, chunk: bytes) -> None:
        """Adds the file's next bytes. Raises InvalidRequest for none, or for more than were announced."""
        self._received += len(chunk)
        if not chunk:
            raise InvalidRequest("chunk", "an empty one", "at least 1 byte")
        if self._received > self._config.size:
            raise InvalidRequest(
                "chunk", f"byte {self._received}", f"{self._config.size} bytes, as announced"
            )
        self._digest.update(chunk)
        self._file.write(chunk)

    def finish(self, database: Database) -> pb.ModelVersion:
        """Judges the whole file, and makes a version of it. Returns the version.

        Raises InvalidValue or InvalidRequest for what is no model file that this server takes, Corrupt where
        a checksum is not that of the content.
        """
        self._file.close()
        if self._received < self._config.size:
            raise InvalidRequest(
                "chunk", f"{self._received} bytes in all", f"{self._config.size} bytes, as announced"
            )
        found = self._digest.hexdigest()
        if found != self._config.sha256:
            raise Corrupt(f"chunk: the file that arrived has SHA-256 {found}, not {self._config.sha256}")
        with _judging:
            saved = self._read()
            version = describe(saved, self._limits)
            file = f"imported-{secrets.token_hex(8)}.safetensors"
            image = (version.network.height, version.network.width)
            save_model(
                self._folder / file,
                saved.network,
                saved.config,
                saved.provenance,
                image=image,
                temperature=saved.temperature,
                class_names=saved.class_names,
            )
        try:
            with database.write() as connection:
                add_version(connection, self._config.model, file, version, promote=False)
        except BaseException:
            (self._folder / file).unlink(missing_ok=True)
            raise
        return version

    def abandon(self) -> None:
        """Removes what was spooled."""
        self._file.close()
        self._spool.unlink(missing_ok=True)

    def _read(self) -> SavedModel:
        try:
            return read_model(self._spool)
        except ChecksumError as error:
            raise Corrupt(f"file: {error.why}") from error
        except CheckpointError as error:
            raise InvalidRequest("file", "it", f"a model file: {error.why}") from error


def describe(saved: SavedModel, limits: Limits) -> pb.ModelVersion:
    """Returns what there is to say of a version that a file holds. Raises InvalidValue for what this server
    does not take."""
    network, config = saved.network, saved.config
    height, width = _image(saved)
    if network.parameters.size > limits.max_parameters:
        raise InvalidValue("file.parameters", network.parameters.size, f"at most {limits.max_parameters}")
    if height * width > limits.max_image_pixels:
        raise InvalidValue("file.height", f"{height} x {width}", f"at most {limits.max_image_pixels} pixels")
    said = sum(len(text.encode()) for item in saved.provenance.items() for text in item)
    if said > MAX_PROVENANCE_BYTES:
        raise InvalidValue("file.provenance", f"{said} bytes", f"at most {MAX_PROVENANCE_BYTES} bytes")
    return pb.ModelVersion(
        create_time=now(),
        parameters=network.parameters.size,
        weights_hash=network.weights_hash(),
        network=pb.Network(
            layer_sizes=network.sizes,
            height=height,
            width=width,
            activation=training_pb2.Activation.Value(f"ACTIVATION_{network.activation.upper()}"),
            output=training_pb2.Output.Value(f"OUTPUT_{network.output.upper()}"),
            loss=training_pb2.Loss.Value(f"LOSS_{config.loss.upper()}"),
            class_names=saved.class_names,
            dtype=training_pb2.Dtype.Value(f"DTYPE_{config.dtype.upper()}"),
            layers=layers_to_wire(config.layers or ()),
        ),
        provenance=saved.provenance,
        temperature=None if saved.temperature == 1 else saved.temperature,
    )


def _image(saved: SavedModel) -> tuple[int, int]:
    if saved.height is None or saved.width is None:
        raise InvalidValue("file.height", "nothing", "height and width of the images")
    return saved.height, saved.width
