"""A refusal is a status other than OK on its way to the caller of a hot method."""

from typing import Any

import grpc
from grpc_status import rpc_status

from mnist_server.status import to_status


class Refusal(Exception):
    """Ends a call with a code, a text, and the metadata that its details travel in."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        super().__init__(code)
        self.code, self.details, self.trailing = code, details, trailing

    @property
    def number(self) -> int:
        """The code, as the wire has it."""
        number: int = self.code.value[0]
        return number


def refusal(error: Exception) -> Refusal:
    """Returns what an error leaves the server as."""
    if isinstance(error, Refusal):
        return error
    status = rpc_status.to_status(to_status(error))
    return Refusal(status.code, status.details, status.trailing_metadata)
