"""The feed: one thread that looks for what other processes wrote, and wakes whoever waits for it.

Jobs are followed through their durable history, so a watcher may come, go and come back at any time. What
a watcher has not read yet waits in the database, not in memory: a slow one costs no more than a quick one.

Each watcher is a thread that sleeps. Woken all at once, hundreds of them would keep a prediction waiting
until the last has said its message; so they are woken a few at a time, by a thread of its own, with pauses in
which others compute. And the more there are, the more seldom they hear of progress inside an epoch.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mnist_proto.v1 import training_pb2 as pb
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import LimitReached
from mnist_server.jobs import ENDED, Jobs
from mnist_server.limits import HEARTBEAT_SECONDS, Limits
from mnist_server.progress import read_progress

log = logging.getLogger(__name__)

POLL_SECONDS = 0.02
# A watcher's progress notices come no more often than this.
PROGRESS_SECONDS = 0.25
_RETRY_SECONDS = 5.0
# Watchers that are told of progress at that pace; twice as many are told half as often.
_WATCHERS_AT_FULL_PACE = 50
# Watchers that are woken together, and how long others may compute before the next are: 500 in some 200 ms.
_WOKEN_TOGETHER = 8
_PAUSE_SECONDS = 0.003
# Events a job's feed keeps in memory for watchers that are up to date. Others read pages from the database.
_TAIL = 64
_PAGE = 100

_pause = time.sleep

_LAST_EVENTS = frozenset({"succeeded", "failed", "cancelled"})

Message = pb.TrainingEvent | pb.TrainingNotice


class _JobFeed:
    """What is new of one job, for all its watchers."""

    def __init__(self, folder: Path, job: pb.TrainingJob) -> None:
        self.folder = folder
        self.last_sequence = job.last_sequence
        self.ended = job.state in ENDED
        # Replaced, never changed: watchers read it without a lock.
        self.tail: tuple[pb.TrainingEvent, ...] = ()
        self.progress: pb.Progress | None = None
        self.wake: set[threading.Event] = set()
        # Its watchers are about to be woken: they will find all that is new by then.
        self.told = False


class Feed:
    """The one poller of a process."""

    def __init__(
        self,
        directory: DataDirectory,
        database: Database,
        on_change: Callable[[], None],
        max_watchers: int = Limits.max_watchers,
    ) -> None:
        """`on_change` is called, in the poller's thread, before watchers hear of a change."""
        self._max_watchers = max_watchers
        self._watchers = 0
        self._directory = directory
        self._database = database
        self._jobs = Jobs(database)
        self._on_change = on_change
        self._feeds: dict[str, _JobFeed] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._draining = False
        self._thread = threading.Thread(target=self._poll, name="feed", daemon=True)
        # Jobs of which there is news; None ends the thread.
        self._news: queue.SimpleQueue[_JobFeed | None] = queue.SimpleQueue()
        self._waker = threading.Thread(target=self._wake, name="waker", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()
        self._waker.start()

    def drain(self) -> None:
        """Ends every watch, each with a notice that says where to watch on from."""
        with self._lock:
            self._draining = True
            for feed in self._feeds.values():
                for woken in feed.wake:
                    woken.set()

    def stop(self) -> None:
        """Stops looking."""
        self._stopping.set()
        self._news.put(None)
        self._thread.join(timeout=5)
        self._waker.join(timeout=5)

    def watch(
        self,
        job: str,
        after: int,
        when_cancelled: Callable[[Callable[[], None]], bool],
        *,
        limited: bool = True,
    ) -> Iterator[Message]:
        """Yields a job's events after a sequence, in order, then follows it until it has ended.

        Notices come between them: progress, heartbeats, and `draining` when the server stops.
        `when_cancelled` takes a function to be called when nobody reads any more, and returns False if that
        is so already. Raises NotFound, and, if `limited`, LimitReached for one watcher too many.
        """
        state = self._jobs.get(job)
        epochs = state.last_epoch.epoch + 1 if state.HasField("last_epoch") else 0
        woken, cancelled = threading.Event(), threading.Event()

        def cancel() -> None:
            cancelled.set()
            woken.set()

        if not when_cancelled(cancel):
            return
        feed = self._join(job, woken, limited=limited)
        try:
            heard = time.monotonic()
            progress: pb.Progress | None = None
            while not cancelled.is_set():
                woken.clear()  # before looking, so that nothing new is missed
                if feed.ended and after >= feed.last_sequence:
                    return
                notice = pb.TrainingNotice(job=job, sequence=after)
                for event in self._events(feed, job, after):
                    after, heard = event.sequence, time.monotonic()
                    if event.HasField("epoch_finished"):
                        epochs = max(epochs, event.epoch_finished.epoch + 1)
                    yield event
                if after > notice.sequence:
                    continue
                if self._draining:  # after what there was to say: Train's stream begins with `accepted`
                    notice.draining.SetInParent()
                    yield notice
                    return
                quiet = time.monotonic() - heard
                news = feed.progress
                if news is progress or (news is not None and news.epoch < epochs):
                    news = None
                if news is not None and quiet >= PROGRESS_SECONDS:
                    progress = news
                    notice.progress.CopyFrom(news)
                elif quiet >= HEARTBEAT_SECONDS:
                    notice.heartbeat.SetInParent()
                else:
                    woken.wait((HEARTBEAT_SECONDS if news is None else PROGRESS_SECONDS) - quiet)
                    continue
                heard = time.monotonic()
                yield notice
        finally:
            self._leave(job, woken)

    def _events(self, feed: _JobFeed, job: str, after: int) -> Sequence[pb.TrainingEvent]:
        if after >= feed.last_sequence:
            return []
        tail = feed.tail
        if tail and tail[0].sequence <= after + 1:
            return tail[after + 1 - tail[0].sequence :]
        events = self._jobs.events(job, after, _PAGE)
        if not events:
            self._jobs.get(job)  # there were some when it was last looked: it has been deleted
        return events

    def _join(self, job: str, woken: threading.Event, *, limited: bool) -> _JobFeed:
        with self._lock:
            if limited and self._watchers >= self._max_watchers:
                raise LimitReached(
                    f"{self._watchers} streams watch jobs: expected fewer than {self._max_watchers}",
                    _RETRY_SECONDS,
                )
            feed = self._feeds.get(job)
            if feed is None:
                feed = self._feeds[job] = _JobFeed(self._directory.job(job), self._jobs.get(job))
            feed.wake.add(woken)
            self._watchers += 1
            return feed

    def _leave(self, job: str, woken: threading.Event) -> None:
        with self._lock:
            feed = self._feeds[job]
            feed.wake.discard(woken)
            self._watchers -= 1
            if not feed.wake:
                del self._feeds[job]

    def _poll(self) -> None:
        seen = None
        next_progress = 0.0
        while not self._stopping.wait(POLL_SECONDS):
            try:
                version = self._database.data_version()
                if version != seen:
                    self._on_change()
                    self._look_for_events()
                    seen = version
                if (now := time.monotonic()) >= next_progress:
                    next_progress = now + PROGRESS_SECONDS * max(1.0, self._watchers / _WATCHERS_AT_FULL_PACE)
                    self._look_for_progress()
            except Exception:
                log.exception("looking for changes failed; trying again")
                self._stopping.wait(1.0)

    def _watched(self) -> list[tuple[str, _JobFeed]]:
        with self._lock:
            return list(self._feeds.items())

    def _look_for_events(self) -> None:
        for job, feed in self._watched():
            while events := self._jobs.events(job, feed.last_sequence, _PAGE):
                feed.tail = (feed.tail + tuple(events))[-_TAIL:]
                feed.last_sequence = events[-1].sequence  # before `ended`, which says that it is the last
                feed.ended = events[-1].WhichOneof("event") in _LAST_EVENTS
                self._tell(feed)

    def _look_for_progress(self) -> None:
        for _, feed in self._watched():
            progress = read_progress(feed.folder)
            if progress is not None and progress != feed.progress:
                feed.progress = progress
                self._tell(feed)

    def _tell(self, feed: _JobFeed) -> None:
        if not feed.told:
            feed.told = True
            self._news.put(feed)

    def _wake(self) -> None:
        while (feed := self._news.get()) is not None:
            feed.told = False  # before anybody looks, so that nothing new is missed
            with self._lock:  # who joins later looks for itself
                sleeping = list(feed.wake)
            for start in range(0, len(sleeping), _WOKEN_TOGETHER):
                if start:
                    _pause(_PAUSE_SECONDS)
                for woken in sleeping[start : start + _WOKEN_TOGETHER]:
                    woken.set()
