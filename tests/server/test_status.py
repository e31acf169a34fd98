import errno
import logging
import sqlite3
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from mnist_core import CheckpointError, InvalidValue
from mnist_core.pictures import PictureError
from mnist_server.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    LimitReached,
    NotFound,
    NotReady,
    ServerError,
    Stale,
    WrongState,
)
from mnist_server.status import DOMAIN, STATUSES, to_status

Detail = TypeVar("Detail", bound=Message)


def details(status: status_pb2.Status, kind: type[Detail]) -> list[Detail]:
    found = []
    for packed in status.details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def test_every_error_of_the_server_has_a_status() -> None:
    assert set(ServerError.__subclasses__()) <= set(STATUSES)
    assert {InvalidValue, PictureError} <= set(STATUSES)


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (InvalidValue("epochs", 0, "at least 1"), code_pb2.INVALID_ARGUMENT, "INVALID_VALUE"),
        (InvalidRequest("config", "none", "one"), code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (PictureError("text", "a picture"), code_pb2.INVALID_ARGUMENT, "PICTURE_ERROR"),
        (NotFound("job", "jobs/1", "a job"), code_pb2.NOT_FOUND, "NOT_FOUND"),
        (AlreadyExists("taken"), code_pb2.ALREADY_EXISTS, "ALREADY_EXISTS"),
        (WrongState("ended"), code_pb2.FAILED_PRECONDITION, "WRONG_STATE"),
        (Stale("changed"), code_pb2.ABORTED, "STALE"),
        (NotReady("soon"), code_pb2.UNAVAILABLE, "NOT_READY"),
        (LimitReached("full", 5.0), code_pb2.RESOURCE_EXHAUSTED, "LIMIT_REACHED"),
        (Corrupt("torn"), code_pb2.DATA_LOSS, "CORRUPT"),
    ],
)
def test_an_error_leaves_as_its_code_its_words_and_its_reason(
    error: Exception, code: code_pb2.Code.ValueType, reason: str
) -> None:
    status = to_status(error)
    assert (status.code, status.message) == (code, str(error))
    [info] = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (reason, DOMAIN)


@pytest.mark.parametrize(
    "error", [InvalidValue("config.epochs", 0, "at least 1"), InvalidRequest("config", "none", "one")]
)
def test_a_wrong_field_is_named(error: InvalidValue | InvalidRequest) -> None:
    [request] = details(to_status(error), error_details_pb2.BadRequest)
    [violation] = request.field_violations
    assert (violation.field, violation.description) == (error.field, str(error))


@pytest.mark.parametrize("seconds", [0.25, 5.0, 30.5])
def test_what_may_be_tried_again_says_when(seconds: float) -> None:
    [retry] = details(to_status(LimitReached("full", seconds)), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToNanoseconds() == seconds * 1e9


def test_only_what_may_be_tried_again_says_so() -> None:
    for error in (InvalidValue("epochs", 0, "1"), WrongState("ended"), ZeroDivisionError("by zero")):
        assert not details(to_status(error), error_details_pb2.RetryInfo)


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("a secret"), ValueError("a secret"), CheckpointError(Path("secret"), "a secret")],
)
def test_our_own_bug_is_logged_and_not_told(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mnist_server"):
        status = to_status(error)
    [record] = caplog.records
    log_id = vars(record)["log_id"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert status.code == code_pb2.INTERNAL
    assert status.message == f"internal error: the server's log has it as {log_id}"
    [info] = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == ("INTERNAL", DOMAIN, {"log_id": log_id})
    assert b"secret" not in status.SerializeToString()
    assert to_status(error).message != status.message


@pytest.mark.parametrize("length", [1000, 1500, 10**6])
@pytest.mark.parametrize("letter", ["a", "%", "\n", "é", "😀", "\ud800"])
def test_a_long_text_is_cut_to_what_headers_hold(letter: str, length: int) -> None:
    for error in (InvalidRequest("f", letter * length, "less"), AlreadyExists(f"begin{letter * length}end")):
        status = to_status(error)
        # In headers, a status is its message, percent-encoded, and all of it in base64.
        assert 3 * len(status.message.encode()) + 4 / 3 * status.ByteSize() < 7000
        assert " ... " in status.message
    assert status.message.startswith("begin")
    assert status.message.endswith("end")


def test_a_text_that_fits_is_not_cut() -> None:
    assert to_status(AlreadyExists("é" * 500)).message == "é" * 500


def _full_database() -> sqlite3.OperationalError:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE rows (value BLOB)")
    connection.execute("PRAGMA max_page_count = 3")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.execute("INSERT INTO rows VALUES (zeroblob(100000))")
    connection.close()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [*(OSError(number, "") for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)), _full_database()],
    ids=repr,
)
def test_a_full_disk_is_said_and_may_be_tried_again(error: Exception) -> None:
    status = to_status(error)
    assert status.code == code_pb2.RESOURCE_EXHAUSTED
    assert "disk is full" in status.message
    [retry] = details(status, error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 30


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, ""), OSError(errno.EACCES, ""), sqlite3.OperationalError("locked")], ids=repr
)
def test_another_failure_of_the_disk_is_ours(error: Exception) -> None:
    assert to_status(error).code == code_pb2.INTERNAL
