"""The model registry: what can be served, by name and version.

A version never changes once it is made, so a network is loaded once and shared by every thread without a
lock. Aliases do change; `refresh` makes the registry look at them anew.
"""

import sqlite3
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from mnist_core import CheckpointError, Network, load_model
from mnist_core.configuration import Loss
from mnist_proto.names import DEFAULT_ALIAS, DEFAULT_MODEL, ModelName
from mnist_proto.v1 import model_pb2 as pb
from mnist_server.database import Database
from mnist_server.errors import Corrupt, NotFound
from mnist_server.names import model_name

MAX_LOADED_BYTES = 2**30
VERSIONS_SHOWN = 100


@dataclass(frozen=True)
class Model:
    """One immutable version of a model, in memory."""

    name: str  # models/{m}/versions/{n}
    network: Network
    loss: Loss
    height: int
    width: int

    @property
    def classes(self) -> int:
        """Classes the model knows, C."""
        return self.network.sizes[-1]


class ModelRegistry:
    """The models of one database, their parameters in one folder."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._loading = threading.Lock()
        self._loaded: OrderedDict[ModelName, Model] = OrderedDict()
        self._resolved: dict[str, Model] = {}

    def load(self, name: str, *, field: str) -> Model:
        """Returns the version that a model's name stands for; an empty one is models/mnist.

        Raises InvalidValue, naming the field, NotFound, or Corrupt if its file is damaged.
        """
        resolved = self._resolved  # a refresh() meanwhile replaces it, and what is added here is forgotten
        model = resolved.get(name)
        if model is None:
            model = resolved[name] = self._load(self._resolve(model_name(field, name or DEFAULT_MODEL)))
        return model

    def held(self, name: str) -> Model | None:
        """Returns the version that a model's name stands for if `load` would have it at once, without waiting
        for anything."""
        return self._resolved.get(name)

    def refresh(self) -> None:
        """Forgets which versions the names stand for: another process may have changed it."""
        self._resolved = {}

    def loaded(self) -> list[str]:
        """Returns the names of the versions in memory."""
        with self._loading:
            return [model.name for model in self._loaded.values()]

    def get(self, parts: ModelName) -> pb.Model:
        """Returns a model with its versions, or with the one version named. Raises NotFound."""
        exact = self._resolve(parts)
        with self._database.read() as connection:
            model = pb.Model(name=f"models/{parts.model}", aliases=self._aliases(connection, parts.model))
            if parts.version is None and parts.alias is None:
                rows = connection.execute(
                    "SELECT body FROM versions WHERE model = ? ORDER BY version DESC LIMIT ?",
                    (parts.model, VERSIONS_SHOWN),
                ).fetchall()
            else:
                rows = connection.execute(
                    "SELECT body FROM versions WHERE model = ? AND version = ?", (parts.model, exact.version)
                ).fetchall()
        model.versions.extend(pb.ModelVersion.FromString(body) for (body,) in rows)
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
                pb.Model(
                    name=f"models/{model}",
                    versions=[pb.ModelVersion.FromString(body)],
                    aliases=self._aliases(connection, model),
                )
                for model, _, body in rows[:size]
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
    def _aliases(connection: sqlite3.Connection, model: str) -> dict[str, int]:
        return dict(connection.execute("SELECT alias, version FROM aliases WHERE model = ?", (model,)))

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
        with self._loading:
            model = self._loaded.get(name)
            if model is None:
                model = self._read(name)
                self._loaded[name] = model
                while len(self._loaded) > 1 and _bytes(self._loaded) > MAX_LOADED_BYTES:
                    self._loaded.popitem(last=False)
                    self._resolved = {}
            self._loaded.move_to_end(name)
            return model

    def _read(self, name: ModelName) -> Model:
        with self._database.read() as connection:
            file, body = connection.execute(
                "SELECT file, body FROM versions WHERE model = ? AND version = ?", (name.model, name.version)
            ).fetchone()
        version = pb.ModelVersion.FromString(body)
        try:
            network, config, _ = load_model(self._folder / file)
        except CheckpointError as error:
            raise Corrupt(f"{name}: {error}") from error
        if network.weights_hash() != version.weights_hash:
            raise Corrupt(f"{name}: the weights' hash is not {version.weights_hash}")
        return Model(str(name), network, config.loss, version.config.height, version.config.width)


def _bytes(models: OrderedDict[ModelName, Model]) -> int:
    return sum(model.network.parameters.nbytes for model in models.values())


def add_version(
    connection: sqlite3.Connection, model: str, file: str, version: pb.ModelVersion, *, promote: bool
) -> str:
    """Makes the next version of `models/{m}` within a transaction, of parameters in `file`. Returns its name.

    A model's first version gets the alias `default`; later ones if they are to be promoted.
    """
    short = model.removeprefix("models/")
    (last,) = connection.execute("SELECT max(version) FROM versions WHERE model = ?", (short,)).fetchone()
    version.version = (last or 0) + 1
    version.name = f"{model}/versions/{version.version}"
    connection.execute(
        "INSERT INTO versions VALUES (?,?,?,?)", (short, version.version, file, version.SerializeToString())
    )
    if last is None or promote:
        connection.execute(
            "INSERT INTO aliases VALUES (?,?,?) "
            "ON CONFLICT (model, alias) DO UPDATE SET version = excluded.version",
            (short, DEFAULT_ALIAS, version.version),
        )
    return version.name
