import grpc
import pytest

from mnist_client import errors
from mnist_client.cli.exit_codes import ExitCode, exit_code, explain
from mnist_client.datasets import DataError, DataNotFound, DataUnreachable


def kinds(root: type[Exception]) -> set[type[Exception]]:
    return {root}.union(*(kinds(kind) for kind in root.__subclasses__()))


def of(kind: type[Exception]) -> Exception:
    """An error of a kind, however it is made."""
    if issubclass(kind, errors.ServerError):
        return kind(grpc.StatusCode.UNKNOWN, "why")
    if kind is errors.JobFailed:
        return errors.JobFailed("jobs/a", "why")
    return kind("why")


EXPECTED: dict[type[Exception], ExitCode] = {
    errors.Unavailable: ExitCode.UNREACHABLE,
    DataUnreachable: ExitCode.UNREACHABLE,
    errors.DeadlineExceeded: ExitCode.DEADLINE,
    TimeoutError: ExitCode.DEADLINE,
    errors.Unauthenticated: ExitCode.NOT_ALLOWED,
    errors.PermissionDenied: ExitCode.NOT_ALLOWED,
    errors.InvalidInput: ExitCode.BAD_INPUT,
    DataError: ExitCode.BAD_INPUT,
    errors.NotFound: ExitCode.NOT_FOUND,
    DataNotFound: ExitCode.NOT_FOUND,
    errors.AlreadyExists: ExitCode.CONDITION,
    errors.ConditionNotMet: ExitCode.CONDITION,
    errors.ResourceExhausted: ExitCode.CONDITION,
    errors.JobCancelled: ExitCode.CONDITION,
    errors.JobFailed: ExitCode.UNEXPECTED,
    errors.Unimplemented: ExitCode.UNEXPECTED,
    errors.CallCancelled: ExitCode.UNEXPECTED,
    errors.DataLoss: ExitCode.UNEXPECTED,
    errors.InternalError: ExitCode.UNEXPECTED,
    KeyError: ExitCode.UNEXPECTED,
}


@pytest.mark.parametrize("kind", EXPECTED, ids=lambda kind: kind.__name__)
def test_exit_code(kind: type[Exception]) -> None:
    assert exit_code(of(kind)) == EXPECTED[kind]


def test_no_error_of_the_sdk_is_forgotten() -> None:
    roots = {errors.MnistError, errors.ServerError}
    assert kinds(errors.MnistError) - roots <= set(EXPECTED)


def test_the_numbers_are_the_contract_s() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "UNREACHABLE": 3,
        "DEADLINE": 4,
        "NOT_ALLOWED": 5,
        "BAD_INPUT": 6,
        "NOT_FOUND": 7,
        "CONDITION": 8,
        "INTERRUPTED": 130,
    }


def test_fields_are_told_unless_the_message_has_them() -> None:
    error = errors.InvalidInput(
        grpc.StatusCode.INVALID_ARGUMENT,
        "epochs: 0 is not valid",
        violations=(("epochs", "epochs: 0 is not valid"), ("seed", "expected at least 0")),
    )
    assert explain(error) == ["epochs: 0 is not valid", "  seed: expected at least 0"]


def test_what_helps_is_told() -> None:
    full = errors.ResourceExhausted(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", retry_after=5.0)
    assert explain(full) == ["the queue is full", "  Trying again may help, in 5 s."]
    away = errors.Unavailable(grpc.StatusCode.UNAVAILABLE, "refused", server="127.0.0.1:1")
    assert "mnist-server serve" in explain(away)[1]
    assert explain(TimeoutError("too late")) == ["too late"]
