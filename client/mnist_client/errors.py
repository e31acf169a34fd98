"""Errors: everything that the SDK raises on purpose, and whose fault each is.

MnistError
├── ServerError              a call ended with a status; `code` is gRPC's
│   ├── InvalidInput         yours: a value is wrong (found here, before sending, or by the server)
│   ├── NotFound             yours: no such model, version, alias or job
│   ├── AlreadyExists        yours: a request id was used for something else
│   ├── ConditionNotMet      yours: not possible in the state that the thing is in
│   ├── Unauthenticated      yours: the server does not know who you are
│   ├── PermissionDenied     yours: the server knows, and it is not allowed
│   ├── Unimplemented        a server older or newer than this SDK
│   ├── ResourceExhausted    nobody's: the server is full, or a message too large; `retry_after` may say when
│   ├── Unavailable          the network's, or a server that is stopping or not there
│   ├── DeadlineExceeded     nobody's: no answer in time; the call may still have had its effect
│   ├── CallCancelled        the call was ended before its answer: by close(), or by the server
│   ├── DataLoss             the server's disk: a checksum failed, or events are missing
│   └── InternalError        the server's: a bug, or an answer that is not the contract's
├── JobFailed                a training job ended without a model; `reason` says why
├── JobCancelled             somebody cancelled the training job
└── DataError                a data set file's: see `mnist_client.datasets`
    ├── DataNotFound
    └── DataUnreachable

Not in the tree: TimeoutError of `TrainingJob.result(timeout)`, and what the caller's own iterables raise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

M = TypeVar("M", bound=Message)


class MnistError(Exception):
    """The root of what the SDK raises on purpose."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """The machine-readable cause that the server gave (google.rpc.ErrorInfo)."""

    reason: str
    domain: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class ServerError(MnistError):
    """A call ended with a status that is not OK.

    code: gRPC's canonical status code.
    message: what the server, or gRPC where the server was not reached, says.
    details: the server's ErrorInfo; None where the server itself did not speak.
    violations: (field path, description) of each wrong value, at most the first 20.
    retry_after: seconds after which trying again may help, or None.
    server: the address called; None where nothing was sent.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        details: ErrorInfo | None = None,
        violations: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
        server: str | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.details = details
        self.violations = violations
        self.retry_after = retry_after
        self.server = server

    def __str__(self) -> str:
        return self.message


class InvalidInput(ServerError):
    """A value is wrong; the message names the field, the value and what was expected."""

    @classmethod
    def of(cls, field: str, value: object, expected: str) -> "InvalidInput":
        """Returns the error for a value that this SDK itself refuses."""
        message = f"{field}: {value} is not valid: expected {expected}"
        return cls(grpc.StatusCode.INVALID_ARGUMENT, message, violations=((field, message),))


class NotFound(ServerError):
    """Nothing of that name exists on the server."""


class AlreadyExists(ServerError):
    """The name or request id is taken by something else."""


class ConditionNotMet(ServerError):
    """Not possible in the state that the thing is in, or it was changed meanwhile."""


class Unauthenticated(ServerError):
    """The server does not know who is calling."""


class PermissionDenied(ServerError):
    """The caller is not allowed to do this."""


class Unimplemented(ServerError):
    """The server does not know the call: it is older or newer than this SDK, or another program."""


class ResourceExhausted(ServerError):
    """The server is full, or a message was larger than it takes."""


class Unavailable(ServerError):
    """The server cannot be reached, is stopping or is not ready."""

    def __str__(self) -> str:
        return self.message if self.server is None else f"{self.server} is not available: {self.message}"


class DeadlineExceeded(ServerError):
    """No answer came in time. The call may still have had its effect."""

    def __str__(self) -> str:
        return (
            self.message if self.server is None else f"{self.server} did not answer in time: {self.message}"
        )


class CallCancelled(ServerError):
    """The call was ended before its answer came."""


class DataLoss(ServerError):
    """What the server has on disk is damaged or missing."""


class InternalError(ServerError):
    """A bug of the server, or an answer that the contract does not know."""


class JobFailed(MnistError):
    """A training job ended without making a model."""

    def __init__(self, job: str, reason: str) -> None:
        super().__init__(job, reason)
        self.job = job
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.job} failed: {self.reason}"


class JobCancelled(MnistError):
    """A training job was cancelled, and made no model."""

    def __init__(self, job: str) -> None:
        super().__init__(job)
        self.job = job

    def __str__(self) -> str:
        return f"{self.job} was cancelled"


ERRORS: Mapping[grpc.StatusCode, type[ServerError]] = {
    grpc.StatusCode.CANCELLED: CallCancelled,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidInput,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: ConditionNotMet,
    grpc.StatusCode.ABORTED: ConditionNotMet,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInput,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(error: grpc.RpcError, server: str) -> ServerError:
    """Returns the SDK's error for a call to `server` that failed, with the details that the server gave."""
    # What grpc and grpc.aio raise are calls that have ended; only their types do not say so.
    ended = cast(grpc.Call, error)
    try:
        status = rpc_status.from_call(ended)
    except (ValueError, DecodeError):  # details that contradict the status: the status counts
        status = None
    details: ErrorInfo | None = None
    violations: tuple[tuple[str, str], ...] = ()
    retry_after: float | None = None
    for packed in status.details if status else ():
        if info := _unpack(packed, error_details_pb2.ErrorInfo()):
            details = ErrorInfo(info.reason, info.domain, dict(info.metadata))
        elif request := _unpack(packed, error_details_pb2.BadRequest()):
            violations = tuple((each.field, each.description) for each in request.field_violations)
        elif retry := _unpack(packed, error_details_pb2.RetryInfo()):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    code = ended.code()
    return ERRORS.get(code, InternalError)(
        code,
        ended.details() or code.name,
        details=details,
        violations=violations,
        retry_after=retry_after,
        server=server,
    )


def from_code(number: int, message: str, server: str) -> ServerError:
    """Returns the SDK's error for a status code that stands in a message (`PredictionError.code`)."""
    code = _CODES.get(number, grpc.StatusCode.UNKNOWN)
    return ERRORS.get(code, InternalError)(code, message, server=server)


def _unpack(packed: Any, into: M) -> M | None:
    try:
        return into if packed.Unpack(into) else None
    except DecodeError:
        return None
