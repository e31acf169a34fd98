"""Exit codes: what a command's end says to the script that called it."""

from enum import IntEnum

from mnist_client import errors
from mnist_client.datasets import DataError, DataNotFound, DataUnreachable


class ExitCode(IntEnum):
    """What a command ends with."""

    DONE = 0
    UNEXPECTED = 1  # or the job failed
    USAGE = 2
    UNREACHABLE = 3
    DEADLINE = 4
    NOT_ALLOWED = 5
    BAD_INPUT = 6
    NOT_FOUND = 7
    CONDITION = 8  # not met: an accuracy too low, a job cancelled, a queue full
    INTERRUPTED = 130


# Read from the top: a class stands above its parents.
_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (DataNotFound, ExitCode.NOT_FOUND),
    (DataUnreachable, ExitCode.UNREACHABLE),
    (DataError, ExitCode.BAD_INPUT),
    (errors.InvalidInput, ExitCode.BAD_INPUT),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.AlreadyExists, ExitCode.CONDITION),
    (errors.ConditionNotMet, ExitCode.CONDITION),
    (errors.ResourceExhausted, ExitCode.CONDITION),
    (errors.Unavailable, ExitCode.UNREACHABLE),
    (errors.DeadlineExceeded, ExitCode.DEADLINE),
    (errors.Unauthenticated, ExitCode.NOT_ALLOWED),
    (errors.PermissionDenied, ExitCode.NOT_ALLOWED),
    (errors.JobCancelled, ExitCode.CONDITION),
    (TimeoutError, ExitCode.DEADLINE),
)


def exit_code(error: BaseException) -> ExitCode:
    """Returns what a command that ends with `error` exits with; UNEXPECTED for what nobody foresaw."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def explain(error: Exception) -> list[str]:
    """Returns an error in lines: its own words, then each field that was wrong and is not named in them."""
    lines = [str(error)]
    if isinstance(error, errors.ServerError):
        lines += [
            f"  {field}: {description}"
            for field, description in error.violations
            if description not in lines[0]
        ]
        if isinstance(error, errors.Unavailable):
            lines.append(
                "  `mnist-server serve` starts a server here; --server or MNIST_SERVER names another."
            )
        if error.retry_after is not None:
            lines.append(f"  Trying again may help, in {error.retry_after:.0f} s.")
    return lines
