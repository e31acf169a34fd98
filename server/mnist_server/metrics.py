"""Metrics: what one process counts of its calls, in plain integers that other processes may read.

The integers lie in a buffer of SLOT_BYTES. In shared memory it is a worker's slot: that worker alone writes
it, everyone may read it, and nothing is sent or stored. The worker that takes a dead one's place goes on in
its slot, so a count that was seen never gets smaller; only the calls that died with it are no longer in
flight.

    process   pid, start, processes so far                                  (_PROCESS)
    methods   a row a method: started, lost, by code, by latency, sum       (_ROW)
    batches   requests a forward pass, images a forward pass                (_Histogram)
    models    a row a model version, as they come: name, then numbers       (_MODEL_ROW)
"""

import mmap
import os
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mnist_server.methods import METHODS, OTHER

# Upper bounds of a latency, in nanoseconds: 25 us to 10 s. A prediction takes some hundred microseconds.
LATENCY_BOUNDS = tuple(
    microseconds * 1000
    for microseconds in (
        *(25, 50, 100, 250, 500),
        *(1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000),
        *(1_000_000, 2_500_000, 5_000_000, 10_000_000),
    )
)
REQUEST_BOUNDS = tuple(2**power for power in range(10))  # 1 to 512
IMAGE_BOUNDS = tuple(2**power for power in range(15))  # 1 to 16,384
CODES = 17  # gRPC's status codes, OK = 0 to UNAUTHENTICATED = 16
_UNKNOWN = 2
# Versions of models that a worker counts one by one. Those it answers with later count as one, OTHER_MODEL: a
# row is never given to another version, since its numbers would fall.
MODEL_ROWS = 256
OTHER_MODEL = "other"

# Layout, in words of eight bytes: one is read and written whole.
_WORD = 8
_PROCESS = 8
_PID, _BEGAN, _PROCESSES = range(3)
_STARTED, _LOST, _CODE = 0, 1, 2
_BUCKET = _CODE + CODES
_SUM = _BUCKET + len(LATENCY_BOUNDS) + 1
_ROW = _SUM + 1
_BATCHES = _PROCESS + _ROW * len(METHODS)
_BATCHES_SUM = _BATCHES + len(REQUEST_BOUNDS) + 1
_IMAGES = _BATCHES_SUM + 1
_IMAGES_SUM = _IMAGES + len(IMAGE_BOUNDS) + 1
_MODELS = _IMAGES_SUM + 1
_NAME_WORDS = 16
_NAME_BYTES = _NAME_WORDS * _WORD
_SUCCESSES, _SUCCESS_TIME, _FAILURES, _FAILURE_TIME, _PREDICTED, _PASSES, _PASS_TIME, _LAST = range(
    1 + _NAME_WORDS, 9 + _NAME_WORDS
)
_MODEL_ROW = _LAST + 1
SLOT_BYTES = (_MODELS + _MODEL_ROW * MODEL_ROWS) * _WORD

_ROWS = {method: _PROCESS + _ROW * index for index, method in enumerate(METHODS)}
_OTHER_ROW = _ROWS[OTHER]

Buffer = bytearray | memoryview | mmap.mmap


class Metrics:
    """Counts what one process does. Any thread may call it: nothing is lost, and a call takes some hundred
    nanoseconds."""

    def __init__(self, slot: Buffer | None = None, slots: Sequence[Buffer] = ()) -> None:
        """Goes on counting in `slot`, SLOT_BYTES of writable memory, zeros at first; without one, in memory
        of its own. `slots` are those of all workers, this one's too."""
        if slot is None:
            slot = bytearray(SLOT_BYTES)
        self._slots = tuple(slots) or (slot,)
        self._cells = cells = memoryview(slot).cast("B")[:SLOT_BYTES].cast("q")
        # `cells[i] += 1` is two steps, between which another thread may come. Reentrant, because the end of a
        # call may be counted by the garbage collector, as it closes a stream's generator amid another count.
        lock = threading.RLock()
        self._acquire, self._release = lock.acquire, lock.release
        names = ((_name(cells[row : row + 1 + _NAME_WORDS].tolist()), row) for row in _model_rows())
        self._models = {name: row for name, row in names if name}
        for row in _ROWS.values():  # whoever had the slot before took its calls along
            handled = sum(cells[row + _CODE : row + _BUCKET].tolist())
            cells[row + _LOST] = cells[row + _STARTED] - handled
        cells[_PID] = os.getpid()
        cells[_BEGAN] = time.time_ns()
        cells[_PROCESSES] += 1

    # Taking the lock by its methods costs half of what `with` does.

    def started(self, method: str, count: int = 1) -> None:
        """Calls have begun, by their full name, and are in flight until they are `finished`."""
        row = _ROWS.get(method, _OTHER_ROW)
        self._acquire()
        try:
            self._cells[row] += count
        finally:
            self._release()

    def finished(self, method: str, code: int, nanoseconds: int) -> None:
        """A call that was `started` has ended, with a status code, so long after it began."""
        self.finished_all(method, code, (nanoseconds,))

    def finished_all(self, method: str, code: int, nanoseconds: Sequence[int]) -> None:
        """Calls that were `started` have ended, with the same status code, each so long after it began."""
        row = _ROWS.get(method, _OTHER_ROW)
        buckets = [row + _BUCKET + bisect_left(LATENCY_BOUNDS, each) for each in nanoseconds]
        cells = self._cells
        self._acquire()
        try:
            cells[row + _CODE + (code if 0 <= code < CODES else _UNKNOWN)] += len(buckets)
            for bucket in buckets:
                cells[bucket] += 1
            cells[row + _SUM] += sum(nanoseconds)
        finally:
            self._release()

    def observe(self, method: str, code: int, nanoseconds: int) -> None:
        """A call began and has ended: `started` and `finished` in one."""
        self.started(method)
        self.finished(method, code, nanoseconds)

    def inference(
        self, model_version: str, ok: bool, count: int, nanoseconds: int, *, requests: int = 1
    ) -> None:
        """A version of a model answered requests with `count` images, in `nanoseconds` in all, or failed to.
        `model_version` is models/{m}/versions/{n}, of a version that there is."""
        cells = self._cells
        self._acquire()
        try:
            row = self._models.get(model_version) or self._add_model(model_version)
            if ok:
                cells[row + _SUCCESSES] += requests
                cells[row + _SUCCESS_TIME] += nanoseconds
                cells[row + _PREDICTED] += count
                cells[row + _LAST] = time.time_ns()
            else:
                cells[row + _FAILURES] += requests
                cells[row + _FAILURE_TIME] += nanoseconds
        finally:
            self._release()

    def forward(self, model_version: str, requests: int, images: int, nanoseconds: int) -> None:
        """One forward pass of a version answered so many requests with so many images in all, each request
        in `nanoseconds`."""
        cells = self._cells
        self._acquire()
        try:
            row = self._models.get(model_version) or self._add_model(model_version)
            cells[_BATCHES + bisect_left(REQUEST_BOUNDS, requests)] += 1
            cells[_BATCHES_SUM] += requests
            cells[_IMAGES + bisect_left(IMAGE_BOUNDS, images)] += 1
            cells[_IMAGES_SUM] += images
            cells[row + _SUCCESSES] += requests
            cells[row + _SUCCESS_TIME] += requests * nanoseconds
            cells[row + _PREDICTED] += images
            cells[row + _PASSES] += 1
            cells[row + _PASS_TIME] += nanoseconds
            cells[row + _LAST] = time.time_ns()
        finally:
            self._release()

    def _add_model(self, name: str) -> int:
        used = len(self._models)
        data = name.encode()
        if name != OTHER_MODEL and (used >= MODEL_ROWS - 1 or len(data) > _NAME_BYTES):
            return self._models.get(OTHER_MODEL) or self._add_model(OTHER_MODEL)
        row = self._models[name] = _MODELS + _MODEL_ROW * used
        words = memoryview(data.ljust(_NAME_BYTES, b"\0")).cast("q")
        self._cells[row + 1 : row + 1 + _NAME_WORDS] = words
        self._cells[row] = len(data)  # from now on the row has a name, for whoever reads
        return row

    def read(self) -> "Counts":
        """Returns the sums over all workers."""
        return Counts.of(self._slots)


@dataclass
class Histogram:
    """How often a value was at most each of `bounds`, and above them all, and the sum of the values."""

    bounds: tuple[int, ...]
    buckets: list[int]
    sum: int


@dataclass
class MethodCounts:
    """The calls of one method."""

    started: int
    codes: list[int]  # how many ended with each status code, by its number
    latency: Histogram  # nanoseconds, of all that ended
    in_flight: int


@dataclass
class ModelCounts:
    """What one version of a model did. Times are nanoseconds."""

    successes: int = 0  # requests
    success_time: int = 0
    failures: int = 0
    failure_time: int = 0
    images: int = 0
    passes: int = 0  # forward passes
    pass_time: int = 0
    last: int = 0  # when it last answered, in nanoseconds since 1970; 0: never


@dataclass
class Worker:
    """The process that counts in a slot. A pid of 0: there has been none."""

    pid: int
    began: int  # nanoseconds since 1970
    processes: int  # that have counted there, this one among them


@dataclass
class Counts:
    """What slots hold, summed up."""

    methods: dict[str, MethodCounts]
    batch_requests: Histogram
    batch_images: Histogram
    models: dict[str, ModelCounts] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    def of(cls, slots: Iterable[Buffer]) -> "Counts":
        """Reads slots while others write them: each number is one that was true, not all at one moment."""
        read = [memoryview(slot).cast("B")[:SLOT_BYTES].cast("q").tolist() for slot in slots]
        words = [sum(column) for column in zip(*(slot[:_MODELS] for slot in read), strict=True)]
        methods = {}
        for method, row in _ROWS.items():
            started, lost = words[row], words[row + _LOST]
            codes = words[row + _CODE : row + _BUCKET]
            latency = _histogram(words, row + _BUCKET, LATENCY_BOUNDS)
            # A call that began and ended while the slot was read may have been seen to end alone.
            methods[method] = MethodCounts(started, codes, latency, max(0, started - lost - sum(codes)))
        counts = cls(
            methods,
            _histogram(words, _BATCHES, REQUEST_BOUNDS),
            _histogram(words, _IMAGES, IMAGE_BOUNDS),
            workers=[Worker(slot[_PID], slot[_BEGAN], slot[_PROCESSES]) for slot in read],
        )
        for slot in read:
            for row in _model_rows():
                if not (name := _name(slot[row : row + 1 + _NAME_WORDS])):
                    break
                model = counts.models.setdefault(name, ModelCounts())
                model.successes += slot[row + _SUCCESSES]
                model.success_time += slot[row + _SUCCESS_TIME]
                model.failures += slot[row + _FAILURES]
                model.failure_time += slot[row + _FAILURE_TIME]
                model.images += slot[row + _PREDICTED]
                model.passes += slot[row + _PASSES]
                model.pass_time += slot[row + _PASS_TIME]
                model.last = max(model.last, slot[row + _LAST])
        return counts


def _histogram(words: list[int], start: int, bounds: tuple[int, ...]) -> Histogram:
    end = start + len(bounds) + 1
    return Histogram(bounds, words[start:end], words[end])


def _model_rows() -> range:
    return range(_MODELS, _MODELS + _MODEL_ROW * MODEL_ROWS, _MODEL_ROW)


def _name(words: list[int]) -> str:
    length, *name = words
    return struct.pack(f"{_NAME_WORDS}q", *name)[:length].decode()
