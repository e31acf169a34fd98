"""The data set registry: which data sets are stored, and how much room there is for more.

A row of `datasets` stays as long as a job says its hash; a row of `stored_datasets` says that the files are
there. Who writes or removes such a row holds the directory's lock `accepting`, so that no data set goes while
a job that needs it is taken on. This module does without NumPy, as the top process does.
"""

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mnist_proto.v1 import dataset_pb2 as pb
from mnist_proto.v1 import training_pb2
from mnist_server.data_directory import INCOMING, DataDirectory
from mnist_server.database import Database
from mnist_server.errors import Corrupt, LimitReached, NotFound, WrongState

if TYPE_CHECKING:
    from mnist_server.dataset_files import Upload

log = logging.getLogger(__name__)

_RETRY_SECONDS = 60.0
_ENDED = (training_pb2.JOB_STATE_SUCCEEDED, training_pb2.JOB_STATE_FAILED, training_pb2.JOB_STATE_CANCELLED)


class DatasetRegistry:
    """The data sets of one data directory."""

    def __init__(self, directory: DataDirectory, database: Database, max_bytes: int) -> None:
        """`max_bytes` is the most that all of them together may take on the disk."""
        self._directory = directory
        self._database = database
        self._max_bytes = max_bytes

    def get(self, name: str) -> pb.Dataset:
        """Returns the data set datasets/{sha256}. Raises NotFound."""
        dataset = self._find(name)
        if dataset is None:
            raise NotFound("dataset", name, "the name of a data set that was uploaded, as ListDatasets shows")
        return dataset

    def page(self, size: int, before: int | None) -> tuple[list[pb.Dataset], int | None]:
        """Returns at most `size` data sets without mean images, the last stored first, and where the next
        page begins, if there is one."""
        found = []
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT number, hash, bytes, body FROM stored_datasets WHERE number < ? "
                "ORDER BY number DESC LIMIT ?",
                (2**62 if before is None else before, size + 1),
            )
            for number, *row in rows:
                dataset = self._read(*row)
                for split in dataset.splits:
                    split.ClearField("mean_image")
                found.append((number, dataset))
        following = found[size - 1][0] if len(found) > size else None
        return [dataset for _, dataset in found[:size]], following

    def check_room(self, more: int) -> None:
        """Raises LimitReached if there is no room for so many bytes beside what is there and what arrives."""
        arriving = 0
        for spool in self._directory.datasets.glob(f"{INCOMING}*"):
            with suppress(FileNotFoundError):  # it has become a data set, or was abandoned
                arriving += sum(file.stat().st_size for file in spool.iterdir())
        self._check(arriving + more)

    def _check(self, size: int) -> None:
        with self._database.read() as connection:
            (stored,) = connection.execute("SELECT coalesce(sum(bytes), 0) FROM stored_datasets").fetchone()
        if stored + size > self._max_bytes:
            raise LimitReached(
                f"data sets take {stored} bytes, and what arrives {size} or more: "
                f"expected at most {self._max_bytes} in all; DeleteDataset makes room",
                _RETRY_SECONDS,
            )

    @contextmanager
    def storing(self, upload: "Upload") -> Iterator[pb.Dataset]:
        """Makes an upload's files durable. Within the context a row is to name them (`add`).

        If that raises, they go again. What is stored already is not written again, unless all that is known
        of it is that it was. Raises LimitReached.
        """
        with self._directory.accepting():
            dataset = upload.describe()
            known = self._find(dataset.name)
            if known and known.splits:
                yield known
                return
            self._check(dataset.bytes)
            upload.finish()
            try:
                yield dataset
            except BaseException:
                shutil.rmtree(self._directory.dataset(dataset.name), ignore_errors=True)
                raise

    @contextmanager
    def keeping(self, name: str) -> Iterator[pb.Dataset]:
        """A data set that is not deleted while the context lasts. Raises NotFound."""
        with self._directory.accepting():
            yield self.get(name)

    def add(self, dataset: pb.Dataset) -> None:
        """Adds the row of a data set, durably, unless it is there."""
        with self._database.write() as connection:
            add(connection, dataset)

    def delete(self, name: str) -> None:
        """Deletes a data set. Raises NotFound, and WrongState if a job that has not ended needs it."""
        digest = name.removeprefix("datasets/")
        with self._directory.accepting():
            self.get(name)
            with self._database.write() as connection:
                row = connection.execute(
                    "SELECT name FROM jobs WHERE dataset = ? AND state NOT IN (?, ?, ?) "
                    "ORDER BY number LIMIT 1",
                    (digest, *_ENDED),
                ).fetchone()
                if row is not None:
                    raise WrongState(
                        f"{name} is needed by {row[0]}: expected no job on it that has not ended"
                    )
                connection.execute("DELETE FROM stored_datasets WHERE hash = ?", (digest,))
            shutil.rmtree(self._directory.dataset(name), ignore_errors=True)

    def _find(self, name: str) -> pb.Dataset | None:
        digest = name.removeprefix("datasets/")
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT hash, bytes, body FROM stored_datasets WHERE hash = ?", (digest,)
            ).fetchone()
        return None if row is None else self._read(*row)

    def _read(self, digest: str, size: int, body: bytes | None) -> pb.Dataset:
        """Returns a data set from its row, or, if an older server has stored it, from its files.

        Where they are damaged, or no job tells what they are, that is its name and size alone.
        """
        if body is not None:
            return pb.Dataset.FromString(body)
        from mnist_server.dataset_files import describe_stored

        unknown = pb.Dataset(name=f"datasets/{digest}", bytes=size)
        with self._database.read() as connection:
            row = connection.execute("SELECT body FROM jobs WHERE dataset = ? LIMIT 1", (digest,)).fetchone()
        if row is None:
            return unknown
        try:
            dataset = describe_stored(self._directory.datasets, training_pb2.TrainingJob.FromString(row[0]))
        except Corrupt as error:
            log.warning("a data set cannot be read", extra={"dataset": unknown.name, "error": str(error)})
            return unknown
        with self._database.write() as connection:
            connection.execute(
                "UPDATE stored_datasets SET body = ? WHERE hash = ?", (dataset.SerializeToString(), digest)
            )
        return dataset


def add(connection: sqlite3.Connection, dataset: pb.Dataset) -> None:
    """Adds the row of a data set within a transaction, unless it is there."""
    digest = dataset.name.removeprefix("datasets/")
    connection.execute("INSERT OR IGNORE INTO datasets VALUES (?, ?)", (digest, dataset.bytes))
    connection.execute(
        "INSERT INTO stored_datasets (hash, bytes, body) VALUES (?, ?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET body = excluded.body WHERE body IS NULL",
        (digest, dataset.bytes, dataset.SerializeToString()),
    )
