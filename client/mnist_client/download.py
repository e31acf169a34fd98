"""The download of MNIST: its four files, from the first mirror that gives them whole, into a cache."""

import gzip
import hashlib
import http.client
import io
import os
import queue
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mnist_client.data_errors import DataError, DataNotFound, DataUnreachable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# SHA-256 of the four originals, uncompressed: any mirror's gzip will do.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

STALL_SECONDS = 10.0  # without a byte, and a mirror is given up
REACH_SECONDS = 18.0  # without an answer from any mirror, and all of them are
_FILE_SECONDS = 600.0  # for one file from one mirror, however it trickles
_ROUNDS = 3  # how often a mirror that breaks off is asked again
_MAX_BYTES = 64 << 20  # the largest of the four is 47,040,016 bytes
_CHUNK = 1 << 18

Report = Callable[[str], None]


class _Failed(Exception):
    """What a mirror did instead of giving a file whole; `again` where it may do better next time."""

    def __init__(self, reason: str, *, again: bool = False) -> None:
        super().__init__(reason)
        self.again = again


def mnist_folder(report: Report | None = None) -> Path:
    """Returns the folder of the four files: where MNIST_DATA points, or else the user's cache.

    The folder of MNIST_DATA is not looked into here. A file of the cache that is absent or damaged is
    downloaded, from the mirrors in MNIST_MIRROR (addresses apart by blanks or commas) or else from `MIRRORS`;
    `report` is told of each download in a line.

    Raises DataUnreachable where no mirror gives a file (within 20 s where none answers at all), DataNotFound
    where MNIST_DATA is no folder, and DataError where MNIST_MIRROR is no address or the cache cannot be
    written.
    """
    if given := os.environ.get("MNIST_DATA"):
        if not (folder := Path(given).expanduser()).is_dir():
            raise DataNotFound(f"MNIST_DATA: found {given!r}; expected a folder that has MNIST's four files")
        return folder
    mirrors = _mirrors(os.environ.get("MNIST_MIRROR", ""))
    folder = _cache_folder()
    try:
        download_mnist(folder, mirrors, report=report)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}; expected room for MNIST's 55 MB. "
            "Set MNIST_DATA to a folder that has the four files."
        ) from error
    return folder


def download_mnist(
    folder: Path,
    mirrors: Sequence[str] = MIRRORS,
    *,
    stall: float = STALL_SECONDS,
    reach: float = REACH_SECONDS,
    report: Report | None = None,
) -> None:
    """Makes `folder` hold the four files, uncompressed and whole; those that are so already stay.

    Mirrors are asked in their order for NAME.gz; one that gave a file is asked first for the next, and one
    that breaks off is asked again. A file comes under its name only once it is whole, by its SHA-256, and on
    disk. `stall` is the longest silence in the middle of a file, and `reach` the longest wait for any mirror
    to answer, in seconds. Raises DataUnreachable where no mirror gives a file, and OSError where the folder
    cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = list(mirrors)
    for name, sha256 in MNIST_SHA256.items():
        path = folder / name
        if not _is_whole(path, sha256):
            giver = _fetch(path, sha256, order, stall, reach, report or _ignore)
            order = [giver, *(mirror for mirror in order if mirror != giver)]


def _fetch(
    path: Path, sha256: str, mirrors: Sequence[str], stall: float, reach: float, report: Report
) -> str:
    """Downloads one file, and returns the mirror that gave it."""
    failures: list[str] = []
    deadline = time.monotonic() + reach
    waiting = list(mirrors)
    for _ in range(_ROUNDS):
        again = []
        for index, mirror in enumerate(waiting):
            url = f"{mirror}{path.name}.gz"
            # What is left of the time, in equal parts: a mirror that is silent leaves the others theirs.
            patience = min(stall, (deadline - time.monotonic()) / (len(waiting) - index))
            report(f"Downloading {url}")
            try:
                with _open(url, stall, patience) as response:
                    deadline = time.monotonic() + reach  # something can be reached
                    _store(_Body(response, stall), path, sha256)
                return mirror
            except _Failed as failure:
                failures.append(f"{url}: {failure}")
                if failure.again:
                    again.append(mirror)
        waiting = again
    raise DataUnreachable(
        "MNIST cannot be downloaded:\n"
        + "".join(f"  {failure}\n" for failure in failures)
        + "Set MNIST_DATA to a folder that has the four files, or MNIST_MIRROR to an address that has them; "
        "or do without, with the 5,000 images of --data mnist-5k."
    )


def _open(url: str, stall: float, patience: float) -> http.client.HTTPResponse:
    """The answer to a GET, its body still to come.

    In a thread, since a name that does not resolve heeds no timeout, and each address of a name has its own.
    """
    answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()
    given_up = threading.Event()

    def ask() -> None:
        try:
            answer = _opener().open(url, timeout=stall)
        except Exception as error:
            answers.put(error)
        else:
            answers.put(answer)
            if given_up.is_set():
                answer.close()

    threading.Thread(target=ask, name="mnist-download", daemon=True).start()
    try:
        answer = answers.get(timeout=max(patience, 0.0))
    except queue.Empty:
        given_up.set()
        raise _Failed(f"no answer within {max(patience, 0.0):.1f} s") from None
    if isinstance(answer, urllib.error.HTTPError):
        answer.close()
        raise _Failed(f"HTTP status {answer.code} {answer.reason}")
    if isinstance(answer, urllib.error.URLError):
        raise _Failed(f"not reached: {answer.reason}")
    if isinstance(answer, OSError | http.client.HTTPException | ValueError):
        raise _Failed(f"{type(answer).__name__}: {answer}", again=isinstance(answer, ConnectionError))
    if isinstance(answer, Exception):
        raise answer
    return answer


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: a redirection leads to no file and to no other scheme."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


class _Body(io.RawIOBase):
    """The body of an answer as a file: each read of it ends in time, or says how the mirror failed."""

    def __init__(self, response: http.client.HTTPResponse, stall: float) -> None:
        super().__init__()
        self._response = response
        self._stall = stall
        self._deadline = time.monotonic() + _FILE_SECONDS
        length = response.headers.get("Content-Length", "")
        self._expected = int(length) if length.isascii() and length.isdecimal() else None
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fills the start of `buffer` with what has come, and returns how much: 0 once all has."""
        if self._received == self._expected:
            return 0
        if time.monotonic() > self._deadline:
            raise _Failed(f"not whole within {_FILE_SECONDS:.0f} s")
        view = memoryview(buffer)
        try:
            # Not read(), which would wait until it had all that was asked for, however slowly that came.
            data = self._response.read1(len(view))
        except TimeoutError:
            raise _Failed(f"stalled: nothing came for {self._stall:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Failed(f"cut short: {error}", again=True) from error
        if not data and self._expected is not None:
            raise _Failed(f"cut short: {self._received} of {self._expected} bytes came", again=True)
        view[: len(data)] = data
        self._received += len(data)
        return len(data)


def _store(body: _Body, path: Path, sha256: str) -> None:
    """Uncompresses a body into a file beside `path`, and renames it once it is whole and on disk."""
    digest = hashlib.sha256()
    size = 0
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            with gzip.GzipFile(fileobj=io.BufferedReader(body)) as unzipped:
                while chunk := _uncompress(unzipped):
                    size += len(chunk)
                    if size > _MAX_BYTES:
                        raise _Failed(f"found more than {_MAX_BYTES} bytes uncompressed")
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise _Failed(f"found contents of SHA-256 {digest.hexdigest()}, expected {sha256}")
            file.flush()
            os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _uncompress(unzipped: gzip.GzipFile) -> bytes:
    try:
        return unzipped.read1(_CHUNK)
    except EOFError as error:
        raise _Failed("cut short: the gzip file ends early", again=True) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _Failed(f"found no sound gzip file: {error}") from error


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _mirrors(text: str) -> Sequence[str]:
    """The addresses in MNIST_MIRROR, each ended by a slash; `MIRRORS` where there is none."""
    addresses = text.replace(",", " ").split()
    for address in addresses:
        try:
            parts = urlsplit(address)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise DataError(
                f"MNIST_MIRROR: found {address!r}; expected addresses that begin http:// or https://"
            )
    return [address.rstrip("/") + "/" for address in addresses] or MIRRORS


def _cache_folder() -> Path:
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "mnist-grpc"
        # A relative path there is to be ignored (XDG Base Directory Specification).
        given = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (given if given.is_absolute() else Path.home() / ".cache") / "mnist-grpc"
    except RuntimeError as error:
        raise DataError(
            f"no home folder to keep MNIST in: {error}; set XDG_CACHE_HOME or MNIST_DATA"
        ) from error


def _ignore(line: str) -> None:
    pass
