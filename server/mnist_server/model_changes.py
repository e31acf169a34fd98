"""Changes of models: aliases that move and versions that go, each change one transaction.

A change may carry the etag that the model had when the caller read it, and is refused if that has changed
since: two people who promote at once cannot undo each other without noticing.
"""

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from mnist_core.durable import sync_directory
from mnist_proto.names import DEFAULT_ALIAS, ModelName
from mnist_server import pretrained
from mnist_server.database import Database
from mnist_server.errors import NotFound, Stale, WrongState
from mnist_server.registry import count_change, current_etag, point_alias

_ALIASES_NAMED = 10


def set_alias(database: Database, model: str, alias: str, version: int, etag: str) -> int:
    """Has an alias of a model stand for a version; 0 removes it. Returns the generation that has the change.

    Raises NotFound, Stale, or WrongState for removing `default`.
    """
    with database.write() as connection:
        check_etag(connection, model, etag)
        before = _aliases(connection, model).get(alias, 0)
        if version:
            if version not in _versions(connection, model):
                raise NotFound("version", str(ModelName(model, version)), "a version that is there")
            if version != before:
                point_alias(connection, model, alias, version)
        elif not before:
            raise NotFound("alias", str(ModelName(model, alias=alias)), "an alias that is there")
        elif alias == DEFAULT_ALIAS:
            raise WrongState(
                f"alias: {ModelName(model, alias=alias)} cannot be removed: expected another version for "
                f"it, or DeleteModel of models/{model}; it answers where the model is named alone"
            )
        else:
            connection.execute("DELETE FROM aliases WHERE model = ? AND alias = ?", (model, alias))
        return _generation(connection) if version == before else count_change(connection, model)


def delete_version(database: Database, folder: Path, model: str, version: int, etag: str) -> int:
    """Deletes one version. Returns the generation that has the change.

    Raises NotFound, Stale, or WrongState, naming the aliases that stand for it, or for the pretrained one.
    """
    with database.write() as connection:
        check_etag(connection, model, etag)
        name = ModelName(model, version)
        row = connection.execute(
            "SELECT file FROM versions WHERE model = ? AND version = ?", (model, version)
        ).fetchone()
        if row is None:
            raise NotFound("model", str(name), "a version that is there")
        _refuse_pretrained(name, row)
        standing = [alias for alias, number in _aliases(connection, model).items() if number == version]
        _refuse_aliases(name, model, standing, "they stand for another version, or for none")
        connection.execute("DELETE FROM versions WHERE model = ? AND version = ?", (model, version))
        generation = count_change(connection, model)
    remove_files(folder, row)
    return generation


def delete_model(database: Database, folder: Path, model: str, etag: str, *, force: bool) -> tuple[int, int]:
    """Deletes a model whole; its aliases only with `force`. Returns the generation that has the change, and
    how many versions went.

    Raises NotFound, Stale, or WrongState, naming the aliases, or where one is the pretrained version.
    """
    with database.write() as connection:
        check_etag(connection, model, etag)
        files = [row[0] for row in connection.execute("SELECT file FROM versions WHERE model = ?", (model,))]
        if not files:
            raise NotFound("model", f"models/{model}", "a model that is there")
        _refuse_pretrained(ModelName(model), files)
        if not force:
            _refuse_aliases(
                ModelName(model), model, _aliases(connection, model), "`force`, to delete them too"
            )
        connection.execute("DELETE FROM aliases WHERE model = ?", (model,))
        connection.execute("DELETE FROM versions WHERE model = ?", (model,))
        generation = count_change(connection, model)
    remove_files(folder, files)
    return generation, len(files)


def check_etag(connection: sqlite3.Connection, model: str, etag: str) -> None:
    """Raises Stale unless `etag` is the model's, or empty; NotFound if there is no such model."""
    if not _versions(connection, model):
        raise NotFound("model", f"models/{model}", "a model that is there")
    current = current_etag(connection, model)
    if etag not in ("", current):
        raise Stale(
            f"etag: {etag!r} is not that of models/{model} any more: expected {current!r}; "
            "the model has changed since it was read, so read it again"
        )


def remove_files(folder: Path, files: Iterable[str]) -> None:
    """Removes the files of versions that no row names any more. What is left here, the next start removes."""
    for file in files:
        (folder / file).unlink(missing_ok=True)
    sync_directory(folder)


def _versions(connection: sqlite3.Connection, model: str) -> set[int]:
    return {row[0] for row in connection.execute("SELECT version FROM versions WHERE model = ?", (model,))}


def _aliases(connection: sqlite3.Connection, model: str) -> dict[str, int]:
    return dict(connection.execute("SELECT alias, version FROM aliases WHERE model = ?", (model,)))


def _generation(connection: sqlite3.Connection) -> int:
    (generation,) = connection.execute("SELECT generation FROM registry").fetchone()
    return int(generation)


def _refuse_pretrained(name: ModelName, files: Iterable[str]) -> None:
    if pretrained.FILE in files:
        raise WrongState(
            f"model: {name} cannot be deleted: expected versions that were trained or imported here; the "
            "pretrained model came with the server, and stays"
        )


def _refuse_aliases(name: ModelName, model: str, aliases: Iterable[str], expected: str) -> None:
    standing = sorted(aliases)
    if standing:
        named = ", ".join(str(ModelName(model, alias=alias)) for alias in standing[:_ALIASES_NAMED])
        more = f" and {len(standing) - _ALIASES_NAMED} more" if len(standing) > _ALIASES_NAMED else ""
        raise WrongState(
            f"model: {name} cannot be deleted with {named}{more} standing for it: expected that {expected}"
        )
