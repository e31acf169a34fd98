"""Silence: a call on which nothing happens is ended, one on which something does is not."""

import threading
import time
from collections.abc import Iterator

from mnist_client.silence import Silence


class Call:
    """Notes when it is cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


def test_a_silent_call_is_cancelled() -> None:
    call, silence = Call(), Silence(0.05)
    with silence.guard(call):
        assert call.cancelled.wait(10)
    assert silence.over


def test_a_call_is_cancelled_at_its_end_without_blame() -> None:
    call, silence = Call(), Silence(60)
    with silence.guard(call):
        assert not call.cancelled.is_set()
    assert call.cancelled.is_set()
    assert not silence.over


def test_messages_keep_a_call_alive() -> None:
    # 1.5 s in all, while 1 s without a message would end it.
    for direction in ("sending", "reading"):
        call, silence = Call(), Silence(1.0)

        def trickle() -> Iterator[int]:
            for number in range(30):
                time.sleep(0.05)
                yield number

        with silence.guard(call):
            for _ in getattr(silence, direction)(trickle()):
                assert not call.cancelled.is_set()
        assert not silence.over


def test_a_slow_reader_is_not_the_servers_silence() -> None:
    call, silence = Call(), Silence(0.1)
    with silence.guard(call):
        for _ in silence.reading([1, 2]):
            assert not call.cancelled.wait(0.5)
        assert call.cancelled.wait(10)  # reading again, and nothing comes


def test_a_server_that_owes_nothing_may_be_silent() -> None:
    owes = threading.Event()
    call, silence = Call(), Silence(0.1, waits=owes.is_set)
    with silence.guard(call):
        assert not call.cancelled.wait(0.5)
        owes.set()
        assert call.cancelled.wait(10)


def test_the_listener_is_gone_with_the_call() -> None:
    before = threading.active_count()
    with Silence(60).guard(Call()):
        assert threading.active_count() == before + 1
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
