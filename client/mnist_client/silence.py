"""Silence: what ends a call of the sync client on which nothing happens any more."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T")


class Cancellable(Protocol):
    """A call, of any kind."""

    def cancel(self) -> object:
        """Ends it."""


class Silence:
    """Cancels a call when so many seconds have gone by without a message in either direction.

    Time during which the caller does something else with what it has read does not count.
    """

    def __init__(self, seconds: float, waits: Callable[[], bool] = lambda: True) -> None:
        """`waits` says whether the other side owes a message at all."""
        self.seconds = seconds
        self.over = False
        """The call was cancelled for its silence."""
        self._waits = waits
        self._heard = time.monotonic()
        self._reading = True
        self._done = threading.Event()

    def sending(self, requests: Iterable[T]) -> Iterator[T]:
        """Yields requests on their way out; each counts as a sign of life, since the last one was taken."""
        for request in requests:
            self._heard = time.monotonic()
            yield request
        self._heard = time.monotonic()

    def reading(self, responses: Iterable[T]) -> Iterator[T]:
        """Yields responses on their way in."""
        for response in responses:
            self._reading = False
            try:
                yield response
            finally:
                self._heard = time.monotonic()
                self._reading = True

    @contextmanager
    def guard(self, call: Cancellable) -> Iterator[None]:
        """Listens while the context lasts. At its end the call is cancelled, if it has not ended."""
        try:
            self._heard = time.monotonic()
            threading.Thread(target=self._listen, args=(call,), name="silence", daemon=True).start()
            yield
        finally:
            self._done.set()
            call.cancel()

    def _listen(self, call: Cancellable) -> None:
        left = self.seconds
        while not self._done.wait(left):
            left = self.seconds
            if self._reading and self._waits():
                left += self._heard - time.monotonic()
            if left <= 0:
                self.over = True
                call.cancel()
                return
