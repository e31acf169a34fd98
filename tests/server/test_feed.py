import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from mnist_proto.v1 import training_pb2 as pb
from mnist_server import feed as feed_module
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import LimitReached, NotFound
from mnist_server.feed import Feed, Message
from mnist_server.jobs import Jobs
from mnist_server.progress import ProgressWriter

SECONDS = 20  # a deadline for what takes some milliseconds

STARTED = pb.TrainingEvent(started=pb.Started())
FAILED = pb.TrainingEvent(failed=pb.Failed(reason="of it"))


def epoch(number: int) -> pb.TrainingEvent:
    return pb.TrainingEvent(epoch_finished=pb.EpochFinished(epoch=number))


def still_reading(cancel: Callable[[], None]) -> bool:
    return True


class Watcher:
    """Reads a watch in a thread of its own, as a stream's client would."""

    def __init__(self, feed: Feed, job: str, after: int = 0) -> None:
        self.messages: queue.Queue[Message | None] = queue.Queue()
        self.cancel: Callable[[], None] | None = None
        self._watch = feed.watch(job, after, self._when_cancelled)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _when_cancelled(self, cancel: Callable[[], None]) -> bool:
        self.cancel = cancel
        return True

    def _read(self) -> None:
        try:
            for message in self._watch:
                self.messages.put(message)
        finally:
            self.messages.put(None)

    def next(self) -> Message | None:
        """The next message, or None when the watch has ended."""
        return self.messages.get(timeout=SECONDS)

    def event(self) -> pb.TrainingEvent:
        """The next event; notices before it are passed over."""
        while not isinstance(message := self.next(), pb.TrainingEvent):
            assert message is not None, "the watch has ended"
        return message

    def notice(self, kind: str) -> pb.TrainingNotice:
        """The next notice of a kind; what comes before it is passed over."""
        while True:
            message = self.next()
            assert message is not None, "the watch has ended"
            if isinstance(message, pb.TrainingNotice) and message.WhichOneof("notice") == kind:
                return message

    def sequences(self) -> list[int]:
        """The sequences of all events until the watch ends."""
        return [
            message.sequence for message in iter(self.next, None) if isinstance(message, pb.TrainingEvent)
        ]

    def ended(self) -> bool:
        self._thread.join(SECONDS)
        return not self._thread.is_alive()


class Changes:
    """Counts what the feed tells of; fails the first times, if asked to."""

    def __init__(self) -> None:
        self.failures = 0
        self.seen = threading.Semaphore(0)

    def __call__(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("of the test")
        self.seen.release()


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
def feed(directory: DataDirectory, database: Database, changes: Changes) -> Iterator[Feed]:
    feed = Feed(directory, database, changes)
    feed.start()
    yield feed
    feed.drain()
    feed.stop()


@pytest.fixture
def trainer(database: Database) -> Iterator[Jobs]:
    """Jobs as another process writes them."""
    other = Database(database.path)
    yield Jobs(other)
    other.close()


def test_a_job_is_followed_from_its_first_event_to_its_last(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    watcher = Watcher(feed, name)
    assert watcher.event().HasField("accepted")
    for event in (STARTED, epoch(0), epoch(1), FAILED):
        trainer.append(name, event, durable=False)
        found = watcher.event()
        assert found == event  # append() has given it name, sequence and time
    assert watcher.next() is None
    assert watcher.ended()


def test_only_events_after_the_sequence_are_sent(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    for number in range(4):
        trainer.append(name, epoch(number))
    watcher = Watcher(feed, name, after=3)
    assert [watcher.event().sequence for _ in range(2)] == [4, 5]
    trainer.append(name, FAILED)
    assert watcher.sequences() == [6]


@pytest.mark.parametrize("after", [0, 2, 3, 4, 2**64 - 1])
def test_a_watch_of_a_job_that_has_ended_ends(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str], after: int
) -> None:
    name = make_job()
    trainer.append(name, STARTED)
    trainer.append(name, FAILED)
    assert Watcher(feed, name, after).sequences() == [1, 2, 3][after:]


def test_a_watch_from_beyond_the_end_ends_with_its_job(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a client may ask that saw an epoch which the machine's own crash has lost.
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.02)
    name = make_job()
    watcher = Watcher(feed, name, after=10)
    assert watcher.notice("heartbeat").sequence == 10
    trainer.append(name, STARTED)
    trainer.append(name, FAILED)
    assert watcher.sequences() == []


def test_a_job_that_is_not_there_is_not_found(feed: Feed) -> None:
    with pytest.raises(NotFound, match="jobs/none"):
        next(feed.watch("jobs/none", 0, still_reading))


def test_a_slow_reader_misses_nothing(feed: Feed, trainer: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job()
    quick = Watcher(feed, name)
    slow = feed.watch(name, 0, still_reading)
    assert next(slow).sequence == 1
    for number in range(250):
        trainer.append(name, epoch(number), durable=False)
    trainer.append(name, FAILED, durable=False)
    assert quick.sequences() == list(range(1, 253))
    rest = [message for message in slow if isinstance(message, pb.TrainingEvent)]
    assert [event.sequence for event in rest] == list(range(2, 253))


def test_watchers_that_come_and_go_while_events_are_written_all_see_every_event(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    trainer.append(name, STARTED)
    watchers = []
    for number in range(150):
        trainer.append(name, epoch(number), durable=False)
        if number % 5 == 0:
            watchers.append((number, Watcher(feed, name, after=number)))
        if number % 10 == 5:
            cancel = watchers.pop()[1].cancel
            if cancel is not None:
                cancel()
    trainer.append(name, FAILED)
    assert len(watchers) == 15
    for after, watcher in watchers:
        assert watcher.sequences() == list(range(after + 1, 154))


def test_watchers_of_several_jobs_hear_of_their_own_alone(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    names = [make_job() for _ in range(3)]
    watchers = [Watcher(feed, name) for name in names]
    for name in reversed(names):
        trainer.append(name, FAILED)
    for name, watcher in zip(names, watchers, strict=True):
        assert [(watcher.event().job, n) for n in (1, 2)] == [(name, 1), (name, 2)]
        assert watcher.next() is None


def test_a_job_that_is_deleted_under_a_slow_watcher_is_not_found(
    feed: Feed, jobs: Jobs, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_PAGE", 2)
    name = make_job()
    for event in (STARTED, epoch(0), epoch(1), FAILED):
        jobs.append(name, event)
    slow = feed.watch(name, 0, still_reading)
    assert [next(slow).sequence for _ in range(2)] == [1, 2]
    jobs.delete(name)
    with pytest.raises(NotFound):
        next(slow)


def test_progress_is_a_notice_with_the_sequence_of_the_last_event(
    feed: Feed,
    trainer: Jobs,
    directory: DataDirectory,
    make_job: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "PROGRESS_SECONDS", 0.01)
    name = make_job()
    directory.job(name).mkdir()
    trainer.append(name, STARTED)
    watcher = Watcher(feed, name)
    writer = ProgressWriter(directory.job(name))
    writer.write(0, 10, 100, 0.5)
    notice = watcher.notice("progress")
    assert (notice.job, notice.sequence) == (name, 2)
    assert notice.progress == pb.Progress(epoch=0, images=10, total_images=100, loss=0.5)
    writer.write(0, 60, 100, 0.25)
    assert watcher.notice("progress").progress.images == 60
    trainer.append(name, FAILED)
    assert watcher.sequences() == [3]


def test_the_same_progress_is_said_once_and_that_of_a_finished_epoch_never(
    feed: Feed,
    trainer: Jobs,
    directory: DataDirectory,
    make_job: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feed_module, "PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.05)
    name = make_job()
    directory.job(name).mkdir()
    trainer.append(name, STARTED)
    trainer.append(name, epoch(0))
    writer = ProgressWriter(directory.job(name))
    writer.write(0, 90, 100, 0.5)
    watcher = Watcher(feed, name)
    kinds: list[str | None] = []
    while kinds.count("heartbeat") < 3:
        message = watcher.next()
        assert message is not None
        kinds.append(message.WhichOneof("notice") if isinstance(message, pb.TrainingNotice) else "event")
    assert kinds.count("progress") == 0
    writer.write(1, 5, 100, 0.5)
    assert watcher.notice("progress").progress.epoch == 1
    for _ in range(3):
        message = watcher.next()
        assert isinstance(message, pb.TrainingNotice)
        assert message.WhichOneof("notice") == "heartbeat"


def test_a_watch_with_nothing_to_say_says_so(
    feed: Feed, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.02)
    name = make_job()
    watcher = Watcher(feed, name)
    assert watcher.event().sequence == 1
    for _ in range(3):
        notice = watcher.next()
        assert isinstance(notice, pb.TrainingNotice)
        assert (notice.WhichOneof("notice"), notice.job, notice.sequence) == ("heartbeat", name, 1)


def test_a_cancelled_watch_ends_and_the_job_goes_on(
    feed: Feed, jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    cancelled, other = Watcher(feed, name), Watcher(feed, name)
    assert cancelled.event().sequence == other.event().sequence == 1
    assert cancelled.cancel is not None
    cancelled.cancel()
    assert cancelled.next() is None
    assert cancelled.ended()
    assert jobs.get(name).state == pb.JOB_STATE_QUEUED
    jobs.append(name, FAILED)
    assert other.sequences() == [2]


def test_a_watch_that_nobody_reads_any_more_does_not_begin(feed: Feed, make_job: Callable[..., str]) -> None:
    assert list(feed.watch(make_job(), 0, lambda cancel: False)) == []


def test_watchers_are_woken_a_few_at_a_time_with_pauses_between(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_job()
    watchers = [Watcher(feed, name) for _ in range(5)]
    assert [watcher.event().sequence for watcher in watchers] == [1] * 5
    heard = threading.Semaphore(0)
    let = threading.Semaphore(0)

    def pause(seconds: float) -> None:
        assert seconds == feed_module._PAUSE_SECONDS
        heard.release()
        assert let.acquire(timeout=SECONDS)

    monkeypatch.setattr(feed_module, "_WOKEN_TOGETHER", 2)
    monkeypatch.setattr(feed_module, "_pause", pause)
    trainer.append(name, FAILED)
    for woken in (2, 4):
        assert heard.acquire(timeout=SECONDS)
        deadline = time.monotonic() + SECONDS
        while (told := sum(not watcher.messages.empty() for watcher in watchers)) < woken:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert told == woken
        let.release()
    assert [watcher.sequences() for watcher in watchers] == [[2]] * 5


def test_watchers_that_are_being_woken_are_to_be_woken_once_more_at_most(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast events come: whoever wakes finds all of them."""
    name = make_job()
    watchers = [Watcher(feed, name) for _ in range(3)]
    assert [watcher.event().sequence for watcher in watchers] == [1] * 3
    let = threading.Event()
    monkeypatch.setattr(feed_module, "_WOKEN_TOGETHER", 1)
    monkeypatch.setattr(feed_module, "_pause", lambda seconds: let.wait(SECONDS))
    for number in range(100):
        trainer.append(name, epoch(number), durable=False)
        if number % 10 == 0:
            time.sleep(0.05)  # the poller looks every 20 ms
    trainer.append(name, FAILED)
    deadline = time.monotonic() + SECONDS
    while feed._feeds[name].last_sequence < 102:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert feed._news.qsize() <= 1
    let.set()
    assert [watcher.sequences() for watcher in watchers] == [list(range(2, 103))] * 3


def test_the_more_watch_the_more_seldom_they_hear_of_progress(
    directory: DataDirectory,
    feed: Feed,
    make_job: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With one watcher at full pace and ten there, the feed looks every ten times that pace."""
    looked: list[float] = []
    look = feed._look_for_progress

    def note() -> None:
        looked.append(time.monotonic())
        look()

    monkeypatch.setattr(feed_module, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(feed_module, "_WATCHERS_AT_FULL_PACE", 1)
    name = make_job()
    watchers = [Watcher(feed, name) for _ in range(10)]
    assert [watcher.event().sequence for watcher in watchers] == [1] * 10
    monkeypatch.setattr(feed, "_look_for_progress", note)
    deadline = time.monotonic() + SECONDS
    while len(looked) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # From the second look on, ten of them were there when the next was set.
    assert all(later - earlier >= 10 * 0.05 for earlier, later in pairwise(looked[1:]))


def test_one_watcher_too_many_is_refused(
    directory: DataDirectory, database: Database, changes: Changes, make_job: Callable[..., str]
) -> None:
    feed = Feed(directory, database, changes, max_watchers=2)
    name, other = make_job(), make_job()
    first, second = feed.watch(name, 0, still_reading), feed.watch(other, 0, still_reading)
    next(first)
    next(second)
    with pytest.raises(LimitReached, match="2 streams watch jobs: expected fewer than 2"):
        next(feed.watch(name, 0, still_reading))
    # The stream that started a job is not kept from its first event.
    assert next(feed.watch(name, 0, still_reading, limited=False)).sequence == 1
    second.close()  # type: ignore[attr-defined]  # it is a generator: grpcio drops it so
    first.close()  # type: ignore[attr-defined]
    assert next(feed.watch(name, 0, still_reading)).sequence == 1


def test_jobs_that_nobody_watches_are_forgotten(
    feed: Feed, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    name, other = make_job(), make_job()
    closed = feed.watch(name, 0, still_reading)
    next(closed)
    closed.close()  # type: ignore[attr-defined]  # it is a generator: grpcio drops it so
    watcher = Watcher(feed, other)
    trainer.append(other, FAILED)
    assert watcher.sequences() == [1, 2]
    assert watcher.ended()
    assert not feed._feeds


def test_draining_ends_every_watch_with_where_to_go_on(feed: Feed, make_job: Callable[..., str]) -> None:
    names = [make_job() for _ in range(2)]
    watchers = [Watcher(feed, name) for name in names for _ in range(3)]
    for watcher in watchers:
        assert watcher.event().sequence == 1
    feed.drain()
    for watcher in watchers:
        notice = watcher.next()
        assert isinstance(notice, pb.TrainingNotice)
        assert notice.HasField("draining")
        assert notice.sequence == 1
        assert notice.job in names
        assert watcher.next() is None
    late = Watcher(feed, names[0])
    assert late.notice("draining").sequence == 1  # after what there was to say
    assert late.next() is None


def test_changes_are_told_of_before_watchers_hear_of_them(
    directory: DataDirectory, database: Database, trainer: Jobs, make_job: Callable[..., str]
) -> None:
    waited: list[bool] = []
    go_on = threading.Event()
    go_on.set()
    feed = Feed(directory, database, lambda: waited.append(go_on.wait(SECONDS)))
    feed.start()
    try:
        name = make_job()
        watcher = Watcher(feed, name)
        assert watcher.event().sequence == 1
        time.sleep(0.1)  # what was written until now has been told of
        go_on.clear()
        trainer.append(name, FAILED)
        with pytest.raises(queue.Empty):
            watcher.messages.get(timeout=0.2)
        go_on.set()
        assert watcher.event().sequence == 2
    finally:
        go_on.set()
        feed.drain()
        feed.stop()


def test_where_nothing_changes_nothing_is_told(
    feed: Feed, changes: Changes, make_job: Callable[..., str]
) -> None:
    make_job()
    assert changes.seen.acquire(timeout=SECONDS)
    told = 1
    while told < 20 and changes.seen.acquire(timeout=0.2):
        told += 1
    assert told < 20  # at most once a commit; the poller looks ten times in this while


def test_the_feed_survives_an_error_and_tries_again(
    feed: Feed,
    trainer: Jobs,
    changes: Changes,
    make_job: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = make_job()
    watcher = Watcher(feed, name)
    assert watcher.event().sequence == 1
    assert changes.seen.acquire(timeout=SECONDS)
    changes.failures = 1
    trainer.append(name, FAILED)
    assert watcher.sequences() == [2]
    assert "looking for changes failed" in caplog.text


def test_a_stopped_feed_does_not_look_any_more(
    directory: DataDirectory, database: Database, changes: Changes, make_job: Callable[..., str]
) -> None:
    feed = Feed(directory, database, changes)
    feed.start()
    make_job()
    assert changes.seen.acquire(timeout=SECONDS)
    feed.stop()
    assert "feed" not in {thread.name for thread in threading.enumerate()}
