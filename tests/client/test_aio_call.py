"""A call of grpc.aio: waiting for it ends, and it ends with the status that the server gave."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from mnist_client import DeadlineExceeded
from mnist_client.aio_call import AsyncSilence, Ending, is_failed_write


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    with pytest.raises(
        DeadlineExceeded, match=r"^server did not answer in time: nothing was heard for 0\.05 s$"
    ):
        await AsyncSilence(0.05, "server").wait(never())


async def test_a_message_that_comes_is_returned() -> None:
    assert await AsyncSilence(60, "server").wait(asyncio.sleep(0, "message")) == "message"


async def test_signs_of_life_prolong_the_wait() -> None:
    silence = AsyncSilence(1.0, "server")

    async def talk() -> str:
        for _ in silence.sending(range(30)):  # 1.5 s in all
            await asyncio.sleep(0.05)
        return "message"

    assert await silence.wait(talk()) == "message"


async def test_a_sign_of_life_while_nobody_waits_does_nothing() -> None:
    silence = AsyncSilence(0.05, "server")
    silence.heard()
    assert list(silence.sending([1, 2])) == [1, 2]
    with pytest.raises(DeadlineExceeded):
        await silence.wait(never())
    silence.heard()


async def test_a_server_that_owes_nothing_is_waited_for_until_it_does() -> None:
    owes = False
    silence = AsyncSilence(0.1, "server", waits=lambda: owes)
    waiting = asyncio.create_task(silence.wait(never()))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    owes = True
    silence.heard()  # as when a request has gone out
    with pytest.raises(DeadlineExceeded):
        await waiting


async def test_a_callers_own_time_limit_stays_the_callers() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await AsyncSilence(60, "server").wait(never())


class Call:
    """A call that has ended with a status, and says so as grpc.aio's do."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self._code = code
        self._details = details
        self._callback: Any = None

    def add_done_callback(self, callback: Any) -> None:
        self._callback = callback

    def end(self) -> None:
        self._callback(self)

    async def code(self) -> grpc.StatusCode:
        return self._code

    async def details(self) -> str:
        return self._details

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(("key", "value"))


def test_the_first_status_is_noted() -> None:
    call: Any = Call(grpc.StatusCode.NOT_FOUND, "words")
    ending = Ending(call)
    call.end()
    assert ending.first is not None
    call._code, call._details = grpc.StatusCode.INTERNAL, "Internal error from Core"
    assert (ending.first.code(), ending.first.details()) == (grpc.StatusCode.NOT_FOUND, "words")
    metadata: Any = ending.first.trailing_metadata()
    assert metadata["key"] == "value"
    assert not is_failed_write(ending.first)


def test_a_call_that_went_well_has_no_error() -> None:
    call: Any = Call(grpc.StatusCode.OK, "")
    ending = Ending(call)
    call.end()
    assert ending.first is None


async def test_a_status_that_is_not_there_yet_is_left_out() -> None:
    class Waiting(Call):
        async def code(self) -> grpc.StatusCode:
            await asyncio.Event().wait()
            return grpc.StatusCode.OK

    call: Any = Waiting(grpc.StatusCode.OK, "")
    ending = Ending(call)
    call.end()
    assert ending.first is None
