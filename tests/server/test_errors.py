import pytest

from mnist_server import errors
from mnist_server.errors import (
    AlreadyExists,
    Corrupt,
    InvalidRequest,
    LimitReached,
    NotFound,
    ServerError,
    WrongState,
)


def test_the_tree_at_the_top_of_the_module_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = {line.split()[1] for line in errors.__doc__.splitlines() if line.startswith(("├──", "└──"))}
    assert drawn == {each.__name__ for each in ServerError.__subclasses__()}
    assert not [each for error in ServerError.__subclasses__() for each in error.__subclasses__()]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NotFound("job", "jobs/1", "a job"), "job: 'jobs/1' was not found: expected a job"),
        (InvalidRequest("config", "no message", "one"), "config: no message is not valid: expected one"),
        (AlreadyExists("taken"), "taken"),
        (WrongState("ended"), "ended"),
        (LimitReached("full", 5.0), "full"),
        (Corrupt("torn"), "torn"),
    ],
)
def test_an_error_says_it_to_the_caller(error: ServerError, message: str) -> None:
    assert str(error) == message


def test_an_error_keeps_what_a_status_needs() -> None:
    assert LimitReached("full", 5.0).retry_after == 5.0
    wrong = InvalidRequest("config", "no message", "one")
    assert (wrong.field, wrong.found, wrong.expected) == ("config", "no message", "one")
    missing = NotFound("job", "jobs/1", "a job")
    assert (missing.kind, missing.name) == ("job", "jobs/1")
