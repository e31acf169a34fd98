"""What can go wrong with a request, in the server's own words.

ServerError
├── NotFound            the caller's: no such model, version, alias or job
├── AlreadyExists       the caller's: a request id was used for something else
├── WrongState          the caller's: not possible in the state that the thing is in
├── Stale               the caller's: the thing has changed since the caller read it
├── InvalidRequest      the caller's: messages that do not make a request (a batch before the configuration)
├── LimitReached        nobody's: the server is full; try again later
├── NotReady            the server's: some of its processes have not yet done what was asked
└── Corrupt             the disk's: what was written is not what is read

Wrong values are `mnist_core.InvalidValue`. None of these knows a gRPC status code: `status.py` does.
"""


class ServerError(Exception):
    """A request that cannot be answered; the text is for the caller."""


class NotFound(ServerError):
    """Nothing of that name exists."""

    def __init__(self, kind: str, name: str, expected: str) -> None:
        super().__init__(f"{kind}: {name!r} was not found: expected {expected}")
        self.kind, self.name = kind, name


class AlreadyExists(ServerError):
    """The name or id is taken by something else."""


class WrongState(ServerError):
    """Not possible in the state that the thing is in."""


class Stale(ServerError):
    """The thing has changed since the caller read it."""


class NotReady(ServerError):
    """Some process of the server has not yet done what was asked; it will."""


class InvalidRequest(ServerError):
    """The messages of a stream do not make a request."""

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(f"{field}: {found} is not valid: expected {expected}")
        self.field, self.found, self.expected = field, found, expected


class LimitReached(ServerError):
    """The server is full. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Corrupt(ServerError):
    """A file's contents are not what was written."""
