import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mnist_server.database import _SCHEMAS, SCHEMA_VERSION, Database
from mnist_server.errors import Corrupt, WrongState

INSERT = "INSERT INTO datasets VALUES (?, ?)"


def hashes(database: Database) -> list[str]:
    with database.read() as connection:
        return [row[0] for row in connection.execute("SELECT hash FROM datasets ORDER BY hash")]


def test_what_was_written_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "mnist.sqlite3"
    first = Database(path)
    with first.write() as connection:
        connection.execute(INSERT, ("a", 1))
    first.close()
    second = Database(path)
    assert hashes(second) == ["a"]
    second.close()


def test_a_file_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "mnist.sqlite3"
    raw = sqlite3.connect(path)
    raw.executescript(_SCHEMAS[0])
    raw.executemany(
        "INSERT INTO versions VALUES (?, ?, ?, x'')", [("a", 1, "f"), ("a", 4, "g"), ("b", 2, "h")]
    )
    raw.execute("PRAGMA user_version = 1")
    raw.commit()
    raw.close()
    for _ in range(2):  # the second time there is nothing to do
        database = Database(path)
        with database.read() as connection:
            models = connection.execute("SELECT * FROM models ORDER BY model").fetchall()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            generations = connection.execute("SELECT * FROM registry").fetchall()
        database.close()
        assert models == [("a", 4, 1), ("b", 2, 1)]
        assert generations == [(1,)]
        assert version == SCHEMA_VERSION


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mnist.sqlite3"
    database = Database(path)
    with database.write() as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(WrongState, match=rf"schema {SCHEMA_VERSION + 1}: expected at most {SCHEMA_VERSION}"):
        Database(path)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
    raw.close()


@pytest.mark.parametrize("data", [b"no database at all" * 300, b"SQLite format 3\0" + b"\xff" * 4080])
def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mnist.sqlite3"
    path.write_bytes(data)
    with pytest.raises(Corrupt, match=r"mnist\.sqlite3 cannot be read"):
        Database(path)
    assert path.read_bytes() == data


def test_a_file_that_cannot_be_opened_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "mnist.sqlite3").mkdir()
    with pytest.raises(OSError, match=r"mnist\.sqlite3 cannot be opened"):
        Database(tmp_path / "mnist.sqlite3")


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:  # noqa: PT012  # one statement
        connection.execute(INSERT, ("a", 1))
        raise ZeroDivisionError
    assert hashes(database) == []
    with database.write() as connection:
        connection.execute(INSERT, ("b", 1))
    assert hashes(database) == ["b"]


def test_a_commit_that_fails_leaves_no_transaction_behind(database: Database) -> None:
    # The check of foreign keys is put off until COMMIT, which then fails and, by SQLite's rule, stays open.
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:  # noqa: PT012
        connection.execute("PRAGMA defer_foreign_keys = ON")
        connection.execute("INSERT INTO events VALUES ('jobs/none', 1, x'')")
    with database.write() as connection:
        connection.execute(INSERT, ("a", 1))
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)
    assert hashes(database) == ["a"]


def test_an_error_after_which_sqlite_has_rolled_back_is_the_one_that_is_raised(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"), database.write() as connection:  # noqa: PT012
        connection.execute(INSERT, ("a", 1))
        connection.execute("INSERT OR ROLLBACK INTO datasets VALUES ('a', 2)")
    assert hashes(database) == []


@pytest.mark.parametrize("page", [1, 2])
def test_damage_that_is_found_later_is_said_with_the_files_name(database: Database, page: int) -> None:
    with database.write() as connection:
        connection.execute(INSERT, ("a", 1))
    database.close()
    raw = sqlite3.connect(database.path)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    data = database.path.read_bytes()
    database.path.write_bytes(data[: 4096 * page] + bytes(len(data) - 4096 * page))
    damaged = Database(database.path)
    with pytest.raises(Corrupt, match=rf"{database.path.name} cannot be read: .*malformed"):
        hashes(damaged)
    damaged.close()


def test_rows_of_jobs_that_are_not_there_are_refused(database: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), database.write() as connection:
        connection.execute("INSERT INTO events VALUES ('jobs/none', 1, x'')")


def test_reads_do_not_wait_for_a_writer_and_do_not_see_half_of_it(database: Database) -> None:
    with database.write() as connection:
        connection.execute(INSERT, ("a", 1))
        assert hashes(database) == []
    assert hashes(database) == ["a"]


def test_writers_of_several_threads_and_processes_wait_for_each_other(database: Database) -> None:
    other = Database(database.path)  # stands for another process: it shares nothing but the file
    errors: list[Exception] = []

    def count_up(mine: Database) -> None:
        try:
            for _ in range(25):
                with mine.write(durable=False) as connection:
                    # A value that is read and then written: lost if two writers overlapped.
                    (value,) = connection.execute("SELECT bytes FROM datasets").fetchone()
                    connection.execute("UPDATE datasets SET bytes = ?", (value + 1,))
        except Exception as error:
            errors.append(error)

    with database.write() as connection:
        connection.execute(INSERT, ("a", 0))
    threads = [threading.Thread(target=count_up, args=(mine,)) for mine in (database, other) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    with database.read() as connection:
        assert connection.execute("SELECT bytes FROM datasets").fetchone() == (150,)
    assert not errors
    other.close()


def test_a_second_writer_waits_before_it_reads_not_only_before_it_writes(database: Database) -> None:
    inside = threading.Event()

    def write() -> None:
        with database.write():
            inside.set()

    thread = threading.Thread(target=write)
    with database.write():
        thread.start()
        assert not inside.wait(0.2)
    assert inside.wait(10)
    thread.join()


def test_threads_that_read_one_after_the_other_share_one_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = 0
    connect = sqlite3.connect

    def counting(*args: object, **options: object) -> object:
        nonlocal opened
        opened += 1
        return connect(*args, **options)  # type: ignore[call-overload]  # passed on as they came

    monkeypatch.setattr(sqlite3, "connect", counting)
    database.close()
    for _ in range(30):
        thread = threading.Thread(target=hashes, args=(database,))
        thread.start()
        thread.join()
    assert opened == 1


def test_no_two_threads_are_lent_the_same_connection(database: Database) -> None:
    lent: list[sqlite3.Connection] = []
    everyone = threading.Barrier(8, timeout=10)

    def hold() -> None:
        with database.read() as connection:
            lent.append(connection)
            everyone.wait()

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(connection) for connection in lent}) == 8


def test_data_version_tells_of_every_commit_and_of_nothing_else(database: Database) -> None:
    seen = database.data_version()
    assert database.data_version() == seen
    hashes(database)
    assert database.data_version() == seen
    other = Database(database.path)
    for number, writer in enumerate((database, other, database)):
        with writer.write(durable=number > 0) as connection:
            connection.execute(INSERT, (str(number), 1))
        assert database.data_version() != seen
        seen = database.data_version()
    other.close()


# A trainer in the middle of a transaction, then after one.
_WRITER = """
import sys, time
from pathlib import Path
from mnist_server.database import Database
database = Database(Path(sys.argv[1]))
with database.write(durable=False) as connection:
    connection.execute("INSERT INTO datasets VALUES ('whole', 1)")
with database.write() as connection:
    connection.execute("INSERT INTO datasets VALUES ('half', 1)")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_process_that_is_killed_leaves_its_commits_and_nothing_of_the_rest(database: Database) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(database.path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert hashes(database) == ["whole"]
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        with database.write() as connection:  # its lock went with it
            connection.execute(INSERT, ("after", 1))
        assert hashes(database) == ["after", "whole"]
    finally:
        process.kill()
        process.communicate()
