"""Errors that the network's part can raise, and whose fault each one is.

InvalidValue     the caller's: a value that cannot be used
Diverged         the hyperparameters': training ran away to numbers that are none
CheckpointError  the file's: it is missing, damaged, or no checkpoint
ChecksumError    of those, one whose content is not what was written
"""

import reprlib
from pathlib import Path


class InvalidValue(ValueError):
    """A value that cannot be used: which field, what it was, and what was expected."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(field, value, expected)
        self.field = field
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.field}: {_repr.repr(self.value)} is not valid: expected {self.expected}"


class Diverged(ArithmeticError):
    """The loss or a parameter became infinite or NaN during `epoch` (from 0)."""

    def __init__(self, epoch: int) -> None:
        super().__init__(epoch)
        self.epoch = epoch

    def __str__(self) -> str:
        return (
            f"training diverged in epoch {self.epoch}: the loss or a parameter is no longer finite; "
            "a smaller learning_rate may help"
        )


class CheckpointError(Exception):
    """A checkpoint or model file that cannot be read, and why."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


class ChecksumError(CheckpointError):
    """A checkpoint or model file whose content is not what was written."""


# A value may be as long as a caller likes; the message may not.
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80
