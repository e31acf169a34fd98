"""The pretrained model comes with the package, so that a new server answers before it has learnt anything.

In a data directory in which there has never been a model it becomes version 1 of `models/mnist`, as a copy: a
later version of the package may bring another one, and this directory's stays what it was. `make pretrained`
makes the file; docs/model-card.md says what it is good for.
"""

import sqlite3
from importlib import resources
from pathlib import Path

from mnist_core import read_model
from mnist_core.durable import write_file
from mnist_proto.names import DEFAULT_MODEL
from mnist_server.database import Database
from mnist_server.limits import Limits
from mnist_server.model_files import describe
from mnist_server.registry import add_version

FILE = "pretrained.safetensors"
"""Its name in the package and in a data directory: no job is called so, since a job's name has a dash."""


def install(database: Database, folder: Path) -> bool:
    """Makes the pretrained model the first version of models/mnist, its file in `folder`, the models' own.

    Does nothing where there is or was a model, or another process is quicker. Returns whether it did it.
    """
    with database.read() as connection:
        if _ever_a_model(connection):
            return False
    with resources.as_file(resources.files("mnist_server") / FILE) as path:
        version = describe(read_model(path), Limits())
        write_file(folder / FILE, path.read_bytes())
    with database.write() as connection:
        if _ever_a_model(connection):  # another worker's, of the same bytes
            return False
        add_version(connection, DEFAULT_MODEL, FILE, version, promote=True)
    return True


def _ever_a_model(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM models LIMIT 1").fetchone() is not None
