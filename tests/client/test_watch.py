"""A watch: neither a gap nor a repeat, over streams that break in every way they do."""

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mnist_client import (
    AsyncClient,
    Client,
    DataLoss,
    DeadlineExceeded,
    Draining,
    ErrorInfo,
    Event,
    Heartbeat,
    InternalError,
    InvalidInput,
    JobCancelled,
    JobFailed,
    NotFound,
    Notice,
    Progress,
    ServerError,
    Succeeded,
    Unavailable,
)
from mnist_client.errors import from_code
from mnist_client.watch import Backoff, Uploading, Watch, accepted_job
from mnist_proto.v1 import training_pb2 as pb

Serve = Callable[..., str]
JOB = "jobs/a"
LAST = 6  # events of the job: accepted, started, three epochs, succeeded


def event(sequence: int, **kind: Any) -> pb.WatchTrainingResponse:
    """Event number `sequence` of a job of three epochs, or another of that number."""
    if kind:
        pass
    elif sequence == 1:
        kind["accepted"] = pb.Accepted()
    elif sequence == LAST:
        kind["succeeded"] = pb.Succeeded(
            model_version="models/m/versions/1", stop_reason=pb.STOP_REASON_EPOCHS
        )
    elif sequence > 2:
        kind["epoch_finished"] = pb.EpochFinished(epoch=sequence - 3)
    else:
        kind["started"] = pb.Started()
    return pb.WatchTrainingResponse(event=pb.TrainingEvent(job=JOB, sequence=sequence, **kind))


def notice(sequence: int, **kind: Any) -> pb.WatchTrainingResponse:
    return pb.WatchTrainingResponse(notice=pb.TrainingNotice(job=JOB, sequence=sequence, **kind))


# What is not I/O


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Watch:
    return Watch(JOB, 0, server="server", reconnect_timeout=60.0, contact=True, clock=clock)


def unavailable() -> ServerError:
    return from_code(14, "not there", "server")


def test_a_watch_asks_for_what_it_has_not_seen(watch: Watch) -> None:
    assert watch.request() == pb.WatchTrainingRequest(job=JOB, after_sequence=0)
    for sequence in (1, 2, 3):
        watch.take(event(sequence))
    watch.take(notice(3, heartbeat=pb.Heartbeat()))
    assert watch.request().after_sequence == 3


@pytest.mark.parametrize("wrong", [0, 1, 2, 4, 9])
def test_a_gap_or_a_repeat_is_an_error_that_does_not_go_away(watch: Watch, wrong: int) -> None:
    watch.take(event(1))
    watch.take(event(2))
    with pytest.raises(DataLoss, match=f"event {wrong} came after event 2") as raised:
        watch.take(event(wrong, started=pb.Started()))
    with pytest.raises(DataLoss):
        watch.lost(raised.value)


def test_an_event_of_a_later_server_counts_though_it_says_nothing(watch: Watch) -> None:
    watch.take(event(1))
    unknown = pb.WatchTrainingResponse(event=pb.TrainingEvent(job=JOB, sequence=2))
    assert watch.take(unknown) is None
    assert isinstance(watch.take(event(3)), Event)


def test_a_stream_without_a_message_means_that_there_is_nothing_more(watch: Watch) -> None:
    watch.request()
    assert watch.ended() is None
    watch.request()
    watch.take(event(1))
    assert watch.ended() is not None


@pytest.mark.parametrize(
    "error",
    [
        unavailable(),
        from_code(1, "RST_STREAM", "server"),
        from_code(2, "Stream removed", "server"),
        from_code(13, "Received RST_STREAM with error code 2", "server"),
        DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing was heard"),
        ServerError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=1.0),
    ],
    ids=lambda error: error.code.name,
)
def test_an_interruption_is_waited_out(watch: Watch, clock: Clock, error: ServerError) -> None:
    clock.now += 59
    assert 0 < watch.lost(error) <= 1.0
    clock.now += 1
    with pytest.raises(type(error)):
        watch.lost(error)


@pytest.mark.parametrize("code", [3, 4 + 1, 7, 8, 9, 12, 15, 16])
def test_another_error_is_not(watch: Watch, code: int) -> None:
    error = from_code(code, "words", "server")
    with pytest.raises(type(error)):
        watch.lost(error)


def test_an_internal_error_that_the_server_itself_speaks_of_is_not_waited_out(watch: Watch) -> None:
    error = from_code(13, "internal error", "server")
    error.details = ErrorInfo("INTERNAL", "mnist.v1")
    with pytest.raises(InternalError):
        watch.lost(error)


def test_a_server_never_spoken_with_is_not_waited_for(clock: Clock) -> None:
    watch = Watch(JOB, 0, server="server", reconnect_timeout=60.0, contact=False, clock=clock)
    with pytest.raises(Unavailable):
        watch.lost(unavailable())
    watch.take(event(1))
    assert watch.lost(unavailable()) > 0


def test_every_message_is_contact(watch: Watch, clock: Clock) -> None:
    for sequence in (1, 2):
        clock.now += 59
        watch.take(event(sequence))
    clock.now += 59
    watch.take(notice(2, heartbeat=pb.Heartbeat()))
    clock.now += 59
    assert watch.lost(unavailable()) > 0


def test_waits_grow_with_jitter_up_to_a_longest_and_begin_anew_after_a_message(watch: Watch) -> None:
    waits = [watch.lost(unavailable()) for _ in range(12)]
    assert all(0.5 * 0.1 * 2**n <= waits[n] <= 0.1 * 2**n for n in range(5))
    assert all(2.5 <= wait <= 5.0 for wait in waits[6:])
    assert len(set(waits)) == len(waits)
    watch.take(event(1))
    assert watch.lost(unavailable()) <= 0.1


def test_a_server_that_is_draining_is_not_pestered(watch: Watch) -> None:
    waits = []
    for _ in range(6):
        watch.request()
        watch.take(notice(0, draining=pb.Draining()))
        waits.append(watch.ended() or 0.0)
    assert waits[-1] >= 1.6


def test_a_server_that_says_when_to_come_back_is_heeded(watch: Watch) -> None:
    full = ServerError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=7.0)
    assert watch.lost(full) == 7.0


def test_no_wait_goes_beyond_the_time_there_is(watch: Watch, clock: Clock) -> None:
    clock.now += 58
    full = ServerError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", retry_after=7.0)
    assert watch.lost(full) == pytest.approx(2.0)


def test_a_sequence_below_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^after_sequence: -1 is not valid: expected at least 0$"):
        Watch(JOB, -1, server="server", reconnect_timeout=60.0, contact=True)


def test_an_upload_is_tried_again_when_unavailable_and_not_for_ever() -> None:
    uploading = Uploading()
    assert all(uploading.failed(unavailable()) > 0 for _ in range(3))
    with pytest.raises(Unavailable):
        uploading.failed(unavailable())
    for code in (3, 4, 8, 13):
        with pytest.raises(ServerError):
            Uploading().failed(from_code(code, "words", "server"))


def test_backoff_doubles_up_to_its_longest() -> None:
    backoff = Backoff()
    assert [round(backoff.next() / 0.1 / 2**n * 2) in (1, 2) for n in range(5)] == [True] * 5


def test_only_an_acceptance_begins_a_job() -> None:
    accepted = pb.TrainResponse(event=pb.TrainingEvent(job=JOB, sequence=1, accepted=pb.Accepted()))
    assert accepted_job(accepted, "server") == JOB
    for response in (
        pb.TrainResponse(event=pb.TrainingEvent(job=JOB, sequence=1, started=pb.Started())),
        pb.TrainResponse(notice=pb.TrainingNotice(job=JOB, heartbeat=pb.Heartbeat())),
        pb.TrainResponse(),
    ):
        with pytest.raises(InternalError, match="not the job's acceptance"):
            accepted_job(response, "server")


# Over streams that break. Each script is what the server does with the first stream, the second, and so on.

Script = Callable[[pb.WatchTrainingRequest, grpc.ServicerContext], Iterator[pb.WatchTrainingResponse]]


class Scripts:
    """A WatchTraining that follows one script a stream, the last one for ever; and what was asked of it."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.after: list[int] = []

    def __call__(
        self, request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        script = self._scripts[min(len(self.after), len(self._scripts) - 1)]
        self.after.append(request.after_sequence)
        assert request.job == JOB
        yield from script(request, context)


def up_to(last: int) -> Script:
    """Says the events up to a sequence, and ends in good order."""

    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        for sequence in range(request.after_sequence + 1, last + 1):
            yield event(sequence)

    return script


def then_fail(last: int, code: grpc.StatusCode) -> Script:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield from up_to(last)(request, context)
        context.abort(code, "broken on purpose")

    return script


def then_drain(last: int) -> Script:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield from up_to(last)(request, context)
        yield notice(last, draining=pb.Draining())

    return script


def then_hang(last: int) -> Script:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield from up_to(last)(request, context)
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(30)

    return script


def then_be_full(last: int) -> Script:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield from up_to(last)(request, context)
        retry = Packed()
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=10_000_000)))
        status = status_pb2.Status(code=8, message="full", details=[retry])
        context.abort_with_status(rpc_status.to_status(status))

    return script


Listen = Callable[..., list[Event | Notice]]


def listen_sync(address: str, *, silence: float = 45.0, **options: Any) -> list[Event | Notice]:
    reconnect = options.pop("reconnect_timeout", 20.0)
    with Client(address, reconnect_timeout=reconnect) as client:
        client._silence = silence
        return list(client.job("a").watch(**options))


@asynccontextmanager
async def async_client(address: str, silence: float, reconnect: float) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address, reconnect_timeout=reconnect) as client:
        client._silence = silence
        yield client


def listen_async(address: str, *, silence: float = 45.0, **options: Any) -> list[Event | Notice]:
    reconnect = options.pop("reconnect_timeout", 20.0)

    async def listen() -> list[Event | Notice]:
        async with async_client(address, silence, reconnect) as client:
            return [message async for message in client.job("a").watch(**options)]

    return asyncio.run(listen())


@pytest.fixture(params=[listen_sync, listen_async], ids=["sync", "async"])
def listen(request: pytest.FixtureRequest) -> Listen:
    """Watches the job to its end, with the one client or the other."""
    function: Listen = request.param
    return function


def sequences(messages: list[Event | Notice]) -> list[int]:
    return [message.sequence for message in messages if isinstance(message, Event)]


WHOLE = list(range(1, LAST + 1))


@pytest.mark.parametrize(
    "broken",
    [
        then_fail(3, grpc.StatusCode.UNAVAILABLE),
        then_fail(3, grpc.StatusCode.CANCELLED),
        then_fail(3, grpc.StatusCode.UNKNOWN),
        then_fail(3, grpc.StatusCode.INTERNAL),
        then_fail(3, grpc.StatusCode.DEADLINE_EXCEEDED),
        then_be_full(3),
        then_drain(3),
        up_to(3),
    ],
    ids=["unavailable", "cancelled", "unknown", "internal", "deadline", "full", "draining", "ended"],
)
def test_a_watch_goes_on_where_its_stream_broke(serve: Serve, listen: Listen, broken: Script) -> None:
    scripts = Scripts(broken, then_fail(3, grpc.StatusCode.UNAVAILABLE), up_to(LAST))
    messages = listen(serve(WatchTraining=scripts))
    assert sequences(messages) == WHOLE
    assert isinstance(messages[-1], Succeeded)
    assert scripts.after == [0, 3, 3]


def test_a_watch_leaves_a_server_that_has_gone_silent(serve: Serve, listen: Listen) -> None:
    scripts = Scripts(then_hang(3), up_to(LAST))
    assert sequences(listen(serve(WatchTraining=scripts), silence=0.3)) == WHOLE
    assert scripts.after == [0, 3]


def test_a_watch_gives_up_on_a_server_that_stays_silent(serve: Serve, listen: Listen) -> None:
    scripts = Scripts(then_hang(0))
    with pytest.raises(DeadlineExceeded, match=r"nothing was heard for 0\.2 s"):
        listen(serve(WatchTraining=scripts), silence=0.2, reconnect_timeout=0.5)


def test_a_watch_goes_on_over_a_restart_of_the_server(serve: Any, listen: Listen) -> None:
    first = Scripts(then_hang(4))
    address = serve(WatchTraining=first)
    port = int(address.rpartition(":")[2])
    second = Scripts(up_to(LAST))

    def restart() -> None:
        while not first.after:
            time.sleep(0.01)
        time.sleep(0.2)
        serve.stop()
        time.sleep(0.3)
        serve(port=port, WatchTraining=second)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        assert sequences(listen(address)) == WHOLE
    finally:
        thread.join(20)
    assert second.after == [4]


def test_a_watch_gives_up_on_a_server_that_stays_away(serve: Any, listen: Listen) -> None:
    address = serve(WatchTraining=Scripts(then_fail(2, grpc.StatusCode.UNAVAILABLE)))
    scripts = Scripts(up_to(2), then_fail(2, grpc.StatusCode.UNAVAILABLE))
    serve.stop()
    address = serve(WatchTraining=scripts)
    with pytest.raises(Unavailable, match="broken on purpose"):
        listen(address, reconnect_timeout=0.5)
    assert len(scripts.after) > 2
    assert set(scripts.after[1:]) == {2}


def test_a_watch_of_a_server_that_is_not_there_fails_at_once(listen: Listen) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1:1 is not available"):
        listen("127.0.0.1:1", reconnect_timeout=3600)
    assert time.monotonic() - began < 600


def test_an_error_of_the_job_ends_the_watch(serve: Serve, listen: Listen) -> None:
    scripts = Scripts(then_fail(0, grpc.StatusCode.NOT_FOUND))
    with pytest.raises(NotFound):
        listen(serve(WatchTraining=scripts))
    assert scripts.after == [0]


def test_a_gap_ends_the_watch(serve: Serve, listen: Listen) -> None:
    def gap(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield event(1)
        yield event(3)

    scripts = Scripts(gap)
    with pytest.raises(DataLoss):
        listen(serve(WatchTraining=scripts))
    assert scripts.after == [0]


def test_a_watch_begins_where_it_is_told(serve: Serve, listen: Listen) -> None:
    scripts = Scripts(up_to(LAST))
    address = serve(WatchTraining=scripts)
    assert sequences(listen(address, after_sequence=4)) == [5, 6]
    assert sequences(listen(address, after_sequence=LAST)) == []
    assert scripts.after == [4, LAST]


def test_notices_are_yielded_when_asked_for(serve: Serve, listen: Listen) -> None:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        after = request.after_sequence
        if after == 0:
            yield event(1)
            yield notice(1, progress=pb.Progress(epoch=0, images=10, total_images=100, loss=0.5))
            yield notice(1, heartbeat=pb.Heartbeat())
            yield pb.WatchTrainingResponse(notice=pb.TrainingNotice(job=JOB, sequence=1))  # a later server's
            yield notice(1, draining=pb.Draining())
        else:
            yield from up_to(LAST)(request, context)

    address = serve(WatchTraining=script)
    messages = listen(address, notices=True)
    assert [type(message) for message in messages[1:4]] == [Progress, Heartbeat, Draining]
    assert sequences(messages) == WHOLE
    assert len(messages) == LAST + 3
    assert sequences(listen(address)) == WHOLE
    assert len(listen(address)) == LAST


# The end of a job


def ending(last: pb.WatchTrainingResponse) -> Script:
    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        yield event(1)
        yield last

    return script


async def test_a_result_is_what_the_job_made_or_why_it_did_not(serve: Any) -> None:
    for last, error, words in (
        (event(2, failed=pb.Failed(reason="no space left")), JobFailed, "jobs/a failed: no space left"),
        (event(2, cancelled=pb.Cancelled()), JobCancelled, "jobs/a was cancelled"),
    ):
        address = serve(WatchTraining=ending(last))
        with Client(address) as client, pytest.raises(error, match=f"^{words}$"):
            client.job("a").result(timeout=30)
        async with AsyncClient(address) as async_client:
            with pytest.raises(error, match=f"^{words}$"):
                await async_client.job("a").result(timeout=30)
    address = serve(WatchTraining=up_to(LAST))
    with Client(address) as client:
        succeeded = client.job("a").result()
    async with AsyncClient(address) as async_client:
        assert await async_client.job("a").result() == succeeded
    assert (succeeded.model_version, succeeded.stop_reason) == ("models/m/versions/1", "epochs")


@pytest.mark.parametrize(
    "script", [then_hang(3), then_fail(3, grpc.StatusCode.UNAVAILABLE)], ids=["hanging", "away"]
)
async def test_waiting_for_a_result_ends_in_time(serve: Serve, script: Script) -> None:
    address = serve(WatchTraining=Scripts(up_to(2), script))
    words = r"^jobs/a has not ended within 0\.5 s$"
    with Client(address) as client, pytest.raises(TimeoutError, match=words):
        client.job("a").result(timeout=0.5)
    async with AsyncClient(address) as async_client:
        with pytest.raises(TimeoutError, match=words):
            await async_client.job("a").result(timeout=0.5)


async def test_a_job_without_an_end_is_the_servers_fault(serve: Serve) -> None:
    address = serve(WatchTraining=up_to(0))
    with Client(address) as client, pytest.raises(InternalError, match="jobs/a has no last event"):
        client.job("a").result()
    async with AsyncClient(address) as async_client:
        with pytest.raises(InternalError, match="jobs/a has no last event"):
            await async_client.job("a").result()


# Leaving


def test_leaving_a_watch_ends_its_stream(serve: Serve) -> None:
    ended = threading.Event()

    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        context.add_callback(ended.set)
        for sequence in itertools.count(1):
            yield event(sequence, started=pb.Started())
            if ended.wait(0.01):
                return

    with Client(serve(WatchTraining=script)) as client:
        messages = client.job("a").watch()
        next(messages)
        messages.close()  # type: ignore[attr-defined]  # a generator, as `for ... break` leaves behind
        assert ended.wait(10)


async def test_leaving_an_async_watch_ends_its_stream(serve: Serve) -> None:
    ended = threading.Event()

    def script(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        context.add_callback(ended.set)
        yield event(1)
        ended.wait(30)

    async with AsyncClient(serve(WatchTraining=script)) as client:
        messages = client.job("a").watch()
        await anext(messages)
        await messages.aclose()  # type: ignore[attr-defined]  # an async generator
        assert await asyncio.to_thread(ended.wait, 10)
