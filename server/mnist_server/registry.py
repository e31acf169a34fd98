"""The model registry: what can be served, by name and version.

A version never changes once it is made, so a network is loaded once and shared by every thread without a
lock. It serves only after it has passed the self-check in its file (`read_model`). Aliases do change:
`refresh` loads what the names in use stand for now, and then puts it in the place of what they stood for.
"""

import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mnist_core import CheckpointError, Network, calibrated, read_model
from mnist_core.configuration import Loss
from mnist_proto.names import DEFAULT_ALIAS, DEFAULT_MODEL, ModelName, parse_model
from mnist_proto.v1 import model_pb2 as pb
from mnist_server.database import Database
from mnist_server.errors import Corrupt, NotFound
from mnist_server.names import model_name

log = logging.getLogger(__name__)

MAX_LOADED_BYTES = 2**30
VERSIONS_SHOWN = 100
# Images that go through a network together, so that what lies between the steps fits into memory. Where an
# image is much work, it is by its multiply-adds, of which a core does some fifty in a nanosecond.
_CHUNK, _CHUNK_WORK = 1024, 2e9
# An image's arrival, its way into floats and its answer are worth so many.
_LEAST_WORK = 2e5


@dataclass(frozen=True)
class Model:
    """One immutable version of a model, in memory."""

    name: str  # models/{m}/versions/{n}
    network: Network  # calibrated
    loss: Loss
    height: int
    width: int
    class_names: tuple[str, ...] = ()  # C of them, or none

    @property
    def classes(self) -> int:
        """Classes the model knows, C."""
        return self.network.sizes[-1]

    @cached_property
    def chunk(self) -> int:
        """Images that go through the network together, 1 to 1,024: some 20 ms, or as long as one takes."""
        return max(1, min(_CHUNK, int(_CHUNK_WORK / self.network.architecture.work)))

    @cached_property
    def work(self) -> float:
        """What answering one image takes, in multiply-adds."""
        return max(_LEAST_WORK, self.network.architecture.work)


class ModelRegistry:
    """The models of one database, their parameters in one folder."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        everywhere: Callable[[int, float], bool] | None = None,
        announce: Callable[[int], None] = lambda generation: None,
    ) -> None:
        """everywhere: waits until every other process of the server has reached a generation, for so many
        seconds at most, and returns whether they have; None where this process is alone. announce: is told of
        each generation that this process has reached."""
        self._announce = announce
        self._database = database
        self._folder = folder
        self._everywhere = everywhere
        self._loading = threading.RLock()  # a refresh may come in the middle of a load
        self._refreshing = threading.Lock()
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        self._resolved: dict[str, Model] = {}
        self.generation = 0
        """How far this process has followed the changes of models: what it serves has them up to this one."""

    def load(self, name: str, *, field: str) -> Model:
        """Returns the version that a model's name stands for; an empty one is models/mnist.

        Raises InvalidValue, naming the field, NotFound, or Corrupt if its file is damaged.
        """
        resolved = self._resolved  # a refresh() meanwhile replaces it, and what is added here is forgotten
        model = resolved.get(name)
        if model is None:
            model = resolved[name] = self._find(model_name(field, name or DEFAULT_MODEL))
        return model

    def held(self, name: str) -> Model | None:
        """Returns the version that a model's name stands for if `load` would have it at once, without waiting
        for anything."""
        return self._resolved.get(name)

    def refresh(self) -> None:
        """Looks anew at which versions the names in use stand for: another process may have changed it.

        Until a new one is loaded and has passed its self-check the one before answers; for good, if it fails.
        """
        with self._refreshing:
            generation = self._latest()
            if generation == self.generation:
                self._announce(generation)
                return
            fresh: dict[str, Model] = {}
            for name, before in list(self._resolved.items()):
                try:
                    fresh[name] = self._find(model_name("model", name or DEFAULT_MODEL))
                except NotFound:
                    pass
                except Corrupt as error:
                    log.error(
                        "alias kept", extra={"model": name, "serving": before.name, "error": str(error)}
                    )
                    fresh[name] = before
            with self._loading:
                for name in [name for name in self._loaded if not self._is_there(name)]:
                    del self._loaded[name]
                # Not what had to make room meanwhile: it would stay in memory, and nobody would count it.
                self._resolved = {name: model for name, model in fresh.items() if model.name in self._loaded}
            self.generation = generation
            self._announce(generation)

    def await_everywhere(self, generation: int, seconds: float) -> bool:
        """Brings this process up to date, and waits until every other has reached a generation, at most so
        many seconds. Returns whether they have."""
        self.refresh()
        return self._everywhere is None or self._everywhere(generation, seconds)

    def loaded(self) -> list[str]:
        """Returns the names of the versions in memory."""
        with self._loading:
            return [model.name for model in self._loaded.values()]

    def get(self, parts: ModelName) -> pb.Model:
        """Returns a model with its versions, or with the one version named. Raises NotFound."""
        exact = self._resolve(parts)
        with self._database.read() as connection:
            model = self._describe(connection, parts.model)
            if parts.version is None and parts.alias is None:
                rows = connection.execute(
                    "SELECT body FROM versions WHERE model = ? ORDER BY version DESC LIMIT ?",
                    (parts.model, VERSIONS_SHOWN),
                ).fetchall()
            else:
                rows = connection.execute(
                    "SELECT body FROM versions WHERE model = ? AND version = ?", (parts.model, exact.version)
                ).fetchall()
        model.versions.extend(parse_version(body) for (body,) in rows)
        return model

    def page(self, size: int, after: str) -> tuple[list[pb.Model], str | None]:
        """Returns at most `size` models by name, each with its newest version, and where to go on."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT model, max(version), body FROM versions WHERE model > ? "
                "GROUP BY model ORDER BY model LIMIT ?",
                (after, size + 1),
            ).fetchall()
            models = [
                self._describe(connection, model, parse_version(body)) for model, _, body in rows[:size]
            ]
        return models, rows[size - 1][0] if len(rows) > size else None

    def versions(self) -> list[tuple[str, str]]:
        """Returns model and number of every version, by model, the newest first; 10,000 at most."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT model, version FROM versions ORDER BY model, version DESC LIMIT 10000"
            ).fetchall()
        return [(model, str(version)) for model, version in rows]

    @staticmethod
    def _describe(connection: sqlite3.Connection, model: str, *versions: pb.ModelVersion) -> pb.Model:
        # The etag first: of an older state than what is shown beside it, it is refused, which does no harm.
        etag = current_etag(connection, model)
        aliases = connection.execute("SELECT alias, version FROM aliases WHERE model = ?", (model,))
        return pb.Model(name=f"models/{model}", versions=versions, aliases=dict(aliases), etag=etag)

    def _latest(self) -> int:
        with self._database.read() as connection:
            (generation,) = connection.execute("SELECT generation FROM registry").fetchone()
        return int(generation)

    def _is_there(self, name: str) -> bool:
        try:
            self._resolve(parse_model(name))
        except NotFound:
            return False
        return True

    def _find(self, name: ModelName) -> Model:
        while True:
            exact = self._resolve(name)
            try:
                return self._load(exact)
            except (Corrupt, NotFound):
                # It may have been deleted just now, after the alias had moved on.
                if self._resolve(name) == exact:
                    raise

    def _resolve(self, name: ModelName) -> ModelName:
        with self._database.read() as connection:
            if name.version is None:
                alias = name.alias or DEFAULT_ALIAS
                row = connection.execute(
                    "SELECT version FROM aliases WHERE model = ? AND alias = ?", (name.model, alias)
                ).fetchone()
            else:
                row = connection.execute(
                    "SELECT version FROM versions WHERE model = ? AND version = ?", (name.model, name.version)
                ).fetchone()
            if row is None:
                raise NotFound("model", str(name), self._there_are(connection, name.model))
        return ModelName(name.model, row[0])

    @staticmethod
    def _there_are(connection: sqlite3.Connection, model: str) -> str:
        versions = connection.execute(
            "SELECT version FROM versions WHERE model = ? ORDER BY version DESC LIMIT 10", (model,)
        ).fetchall()
        if versions:
            known = [f"models/{model}/versions/{version}" for (version,) in versions]
            aliases = connection.execute("SELECT alias FROM aliases WHERE model = ? LIMIT 10", (model,))
            known += [f"models/{model}/aliases/{alias}" for (alias,) in aliases.fetchall()]
        else:
            models = connection.execute("SELECT DISTINCT model FROM versions LIMIT 10").fetchall()
            known = [f"models/{name}" for (name,) in models]
        return "one of " + ", ".join(known) if known else "a model; there are none yet, so train one first"

    def _load(self, name: ModelName) -> Model:
        key = str(name)
        with self._loading:
            model = self._loaded.get(key)
            if model is None:
                model = self._read(name)
                self._loaded[key] = model
                while len(self._loaded) > 1 and _bytes(self._loaded) > MAX_LOADED_BYTES:
                    self._loaded.popitem(last=False)
                    self._resolved = {}
            self._loaded.move_to_end(key)
            return model

    def _read(self, name: ModelName) -> Model:
        path, version = self.stored(name)
        try:
            saved = read_model(path)
        except CheckpointError as error:
            raise Corrupt(f"{name}: {error}") from error
        if saved.network.weights_hash() != version.weights_hash:
            raise Corrupt(f"{name}: the weights' hash is not {version.weights_hash}")
        network = calibrated(saved.network, saved.temperature).widened()
        network.parameters.setflags(write=False)  # a version never changes
        image = version.network.height, version.network.width
        return Model(str(name), network, saved.config.loss, *image, saved.class_names)

    def stored(self, name: ModelName) -> tuple[Path, pb.ModelVersion]:
        """Returns the file of the version that a name stands for, and what is known of it.

        Raises NotFound.
        """
        exact = self._resolve(name)
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT file, body FROM versions WHERE model = ? AND version = ?",
                (exact.model, exact.version),
            ).fetchone()
        if row is None:
            raise NotFound("model", str(exact), "a version; this one was deleted just now")
        file, body = row
        return self._folder / file, parse_version(body)


def _bytes(models: OrderedDict[str, Model]) -> int:
    return sum(model.network.parameters.nbytes for model in models.values())


def parse_version(body: bytes) -> pb.ModelVersion:
    """Returns a version as it was stored, with what its configuration says of the network."""
    version = pb.ModelVersion.FromString(body)
    if not version.HasField("network"):
        resolved = version.config
        version.network.CopyFrom(
            pb.Network(
                layer_sizes=resolved.layer_sizes,
                height=resolved.height,
                width=resolved.width,
                activation=resolved.config.activation,
                output=resolved.config.output,
                loss=resolved.config.loss,
                dtype=resolved.config.dtype,
                class_names=resolved.config.class_names,
                layers=resolved.config.layers,
            )
        )
    return version


def add_version(
    connection: sqlite3.Connection, model: str, file: str, version: pb.ModelVersion, *, promote: bool
) -> str:
    """Makes the next version of `models/{m}` within a transaction, of parameters in `file`. Returns its name.

    A model's first version gets the alias `default`; later ones if they are to be promoted. Numbers of
    versions that were deleted are not used again.
    """
    short = model.removeprefix("models/")
    connection.execute("INSERT OR IGNORE INTO models VALUES (?, 0, 0)", (short,))
    connection.execute("UPDATE models SET last_version = last_version + 1 WHERE model = ?", (short,))
    (number,) = connection.execute("SELECT last_version FROM models WHERE model = ?", (short,)).fetchone()
    (there,) = connection.execute("SELECT count(*) FROM versions WHERE model = ?", (short,)).fetchone()
    version.version = number
    version.name = f"{model}/versions/{number}"
    connection.execute(
        "INSERT INTO versions VALUES (?,?,?,?)", (short, number, file, version.SerializeToString())
    )
    if not there or promote:
        point_alias(connection, short, DEFAULT_ALIAS, number)
    count_change(connection, short)
    return version.name


def point_alias(connection: sqlite3.Connection, model: str, alias: str, version: int) -> None:
    """Has an alias stand for a version, within a transaction that `count_change` is called in too."""
    connection.execute(
        "INSERT INTO aliases VALUES (?,?,?) "
        "ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version",
        (model, alias, version),
    )


def current_etag(connection: sqlite3.Connection, model: str) -> str:
    """Returns the etag of a model; '0' for one that there never was."""
    row = connection.execute("SELECT revision FROM models WHERE model = ?", (model,)).fetchone()
    return str(row[0]) if row else "0"


def count_change(connection: sqlite3.Connection, model: str) -> int:
    """Notes, within the transaction, that it changes a model. Returns the generation that this makes."""
    connection.execute("UPDATE models SET revision = revision + 1 WHERE model = ?", (model,))
    connection.execute("UPDATE registry SET generation = generation + 1")
    (generation,) = connection.execute("SELECT generation FROM registry").fetchone()
    return int(generation)
