"""The database: jobs, events, models and aliases in one SQLite file that survives any process.

Several processes use it at once: the server and its trainers. Each opens connections of its own, after it
was started, and lends each to one thread at a time: there are as many as are in use at once, not one for each
of the hundreds of threads that streams live in. Writes begin as writes (BEGIN IMMEDIATE): a read that turns
into a write fails with SQLITE_BUSY at once, whatever the timeout (https://sqlite.org/lang_transaction.html).
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnist_server.errors import Corrupt, WrongState

BUSY_TIMEOUT_SECONDS = 10
# Of the primary result codes, the last byte (https://sqlite.org/rescode.html).
_CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# Messages of the contract are stored as they are (`body`); columns beside them are what is searched by.
_JOBS_AND_VERSIONS = """
CREATE TABLE datasets (hash TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    state INTEGER NOT NULL,
    dataset TEXT NOT NULL REFERENCES datasets (hash),
    request_id TEXT UNIQUE,
    request_hash TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE events (
    job TEXT NOT NULL REFERENCES jobs (name),
    sequence INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE versions (
    model TEXT NOT NULL,
    version INTEGER NOT NULL,
    file TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL,
    PRIMARY KEY (model, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE aliases (
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (model, alias),
    FOREIGN KEY (model, version) REFERENCES versions (model, version)
) STRICT, WITHOUT ROWID;
"""
# A row of `models` outlives its versions, so that no number is ever given twice. `revision` counts a model's
# changes, and is its etag; `generation` counts those of all models, and says what a process has seen of them.
_MODELS = """
CREATE TABLE models (
    model TEXT PRIMARY KEY,
    last_version INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO models SELECT model, max(version), 1 FROM versions GROUP BY model;
CREATE TABLE registry (generation INTEGER NOT NULL) STRICT;
INSERT INTO registry VALUES (1);
"""
# What a running job's trainer is asked to do, and whether the job may go on where its bits will differ.
_PAUSING = """
ALTER TABLE jobs ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN allow_inexact INTEGER NOT NULL DEFAULT 0;
"""
# A row of `datasets` stays for the jobs that name it; one of `stored_datasets` says that the files are there.
# Its body is NULL where an older server has stored it, until somebody asks.
_STORED_DATASETS = """
CREATE TABLE stored_datasets (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    hash TEXT NOT NULL UNIQUE REFERENCES datasets (hash),
    bytes INTEGER NOT NULL,
    body BLOB
) STRICT;
INSERT INTO stored_datasets (hash, bytes) SELECT hash, bytes FROM datasets ORDER BY rowid;
CREATE INDEX jobs_by_dataset ON jobs (dataset, state);
"""
# A file of schema n has had the first n of them; the others are done when it is opened. Never changed, only
# added to.
_SCHEMAS = (_JOBS_AND_VERSIONS, _MODELS, _PAUSING, _STORED_DATASETS)
SCHEMA_VERSION = len(_SCHEMAS)


class Database:
    """One SQLite file, and the connections of this process to it."""

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes it, or brings one of an older program up to date.

        Raises WrongState if a newer program wrote it, Corrupt if it is no database, OSError if it cannot be
        opened.
        """
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._pollers = threading.local()
        try:
            with self.write() as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version > SCHEMA_VERSION:
                    raise WrongState(
                        f"database: {path} has schema {version}: expected at most {SCHEMA_VERSION}; "
                        "a newer version of the server wrote it"
                    )
                for schema in _SCHEMAS[version:]:
                    for statement in schema.split(";"):
                        connection.execute(statement)
                if version < SCHEMA_VERSION:
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        except sqlite3.OperationalError as error:
            raise OSError(f"{path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection for one thread and for short reads: a longer one keeps SQLite's log from shrinking.

        Raises Corrupt where the file turns out to be damaged.
        """
        # Appending to a list and popping from it are each one step, so threads need no lock here.
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            yield connection
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:  # 0: it was used wrongly
                raise self._corrupt(error) from error
            raise
        finally:
            self._idle.append(connection)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing.

        A durable one is on the disk when it ends. Another survives the death of any process, and after the
        machine's own only the last of them may be missing.
        """
        with self.read() as connection:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # where the disk failed, SQLite has rolled back itself
                    connection.execute("ROLLBACK")
                raise

    def data_version(self) -> int:
        """Returns a number that differs from what this thread was told last, once anyone has written."""
        # Numbers of two connections cannot be compared: each thread that asks has one for this alone.
        connection: sqlite3.Connection | None = getattr(self._pollers, "connection", None)
        if connection is None:
            connection = self._pollers.connection = self._connect()
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def close(self) -> None:
        """Closes the connections that no thread uses, and the one that this thread polls with."""
        poller: sqlite3.Connection | None = getattr(self._pollers, "connection", None)
        if poller is not None:
            del self._pollers.connection
            poller.close()
        while self._idle:
            self._idle.pop().close()

    def _corrupt(self, error: sqlite3.Error) -> Corrupt:
        return Corrupt(f"database: {self.path} cannot be read: {error}")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection
