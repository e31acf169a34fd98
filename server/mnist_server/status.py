"""From errors to gRPC statuses: the one table, and the one place where it is read.

Every status carries a google.rpc.ErrorInfo, a wrong field a BadRequest, and what may be tried again a
RetryInfo. What is not in the table is our bug: it is logged with an id, and the caller gets the id.
"""

import errno
import logging
import math
import secrets
import sqlite3

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from mnist_core import InvalidValue
from mnist_core.pictures import PictureError
from mnist_server.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    LimitReached,
    NotFound,
    NotReady,
    Stale,
    WrongState,
)

log = logging.getLogger(__name__)

DOMAIN = "mnist.v1"
# The disk, the quota of the server's user, and the limit of its process.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_SECONDS = 30.0
# Statuses travel as HTTP/2 headers, of which gRPC takes 8 KiB; a byte of text may need seven there (it comes
# three times, percent-encoded and in base64). A value that fills a megabyte is cut.
_MAX_BYTES = 1000

STATUSES: dict[type[Exception], code_pb2.Code.ValueType] = {
    InvalidValue: code_pb2.INVALID_ARGUMENT,
    InvalidRequest: code_pb2.INVALID_ARGUMENT,
    PictureError: code_pb2.INVALID_ARGUMENT,
    NotFound: code_pb2.NOT_FOUND,
    AlreadyExists: code_pb2.ALREADY_EXISTS,
    WrongState: code_pb2.FAILED_PRECONDITION,
    Stale: code_pb2.ABORTED,
    LimitReached: code_pb2.RESOURCE_EXHAUSTED,
    NotReady: code_pb2.UNAVAILABLE,
    Corrupt: code_pb2.DATA_LOSS,
}


def to_status(error: Exception) -> status_pb2.Status:
    """Returns the status that an error leaves the server as."""
    if _is_full(error):
        error = LimitReached("the server's disk is full: expected room for what was sent", _DISK_SECONDS)
    code = STATUSES.get(type(error))
    if code is None:
        log_id = secrets.token_hex(8)
        log.error("internal error", exc_info=error, extra={"log_id": log_id})
        info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"log_id": log_id})
        return _status(code_pb2.INTERNAL, f"internal error: the server's log has it as {log_id}", info)
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=_reason(type(error).__name__), domain=DOMAIN)
    ]
    if isinstance(error, InvalidValue | InvalidRequest):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field), description=_cut(str(error))
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, LimitReached):
        seconds = math.floor(error.retry_after)
        delay = Duration(seconds=seconds, nanos=int((error.retry_after - seconds) * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return _status(code, _cut(str(error)), *details)


def _is_full(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        # There is a code where SQLite itself has failed, and none where it was used wrongly.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _FULL


def abort(context: grpc.ServicerContext, error: Exception) -> None:
    """Ends a call with the status of an error. Raises, always, so that nothing is done after it."""
    context.abort_with_status(rpc_status.to_status(to_status(error)))


def _status(code: code_pb2.Code.ValueType, message: str, *details: Message) -> status_pb2.Status:
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    return status_pb2.Status(code=code, message=message, details=packed)


def _reason(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_").upper()


def _cut(text: str) -> str:
    data = text.encode(errors="replace")
    if len(data) > _MAX_BYTES:
        half = _MAX_BYTES // 2
        data = data[:half] + b" ... " + data[-half:]
    return data.decode(errors="ignore")
