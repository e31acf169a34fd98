import datetime
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_server.logs import configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Keeps what configure_logging changes in the whole process from other tests."""
    root, grpc = logging.getLogger(), logging.getLogger("grpc")
    handlers, level, grpc_level = root.handlers[:], root.level, grpc.level
    root.handlers[:] = []  # configure_logging closes those that it finds
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    grpc.setLevel(grpc_level)


@pytest.fixture
def log() -> logging.Logger:
    return logging.getLogger("mnist_server.test")


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_machines_read_one_json_object_a_line(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    before = datetime.datetime.now(datetime.UTC)
    log.info("job %s\nof two lines", "accepted", extra={"job": "jobs/1", "pid_of": 7, "path": Path("/x")})
    log.warning("é")
    first, second = json_lines(stream)
    time = datetime.datetime.fromisoformat(str(first.pop("time")))
    assert abs(time - before) < datetime.timedelta(seconds=10)
    assert first == {
        "level": "info",
        "logger": "mnist_server.test",
        "message": "job accepted\nof two lines",
        "job": "jobs/1",
        "pid_of": 7,
        "path": "/x",
    }
    assert (second["level"], second["message"]) == ("warning", "é")


def test_machines_read_of_an_exception_where_it_came_from(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        log.error("internal error", exc_info=error, extra={"log_id": "ab"})
    [entry] = json_lines(stream)
    assert (entry["level"], entry["message"], entry["log_id"]) == ("error", "internal error", "ab")
    assert "test_logs.py" in str(entry["exception"])
    assert str(entry["exception"]).endswith("ZeroDivisionError: by zero")


def test_people_read_a_line_with_the_time_the_level_and_what_belongs_to_it(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    log.info("serving", extra={"address": "127.0.0.1:1"})
    clock, rest = stream.getvalue().split(" ", 1)
    datetime.time.fromisoformat(clock)
    assert rest == "info    serving  address=127.0.0.1:1\n"


def test_people_read_of_an_exception_too(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("error   failed")
    assert lines[-1] == "ZeroDivisionError: by zero"


def test_what_is_less_than_news_is_not_logged(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    log.debug("detail")
    logging.getLogger("grpc._server").error("Exception calling application: said twice")
    assert stream.getvalue() == ""


def test_configuring_twice_logs_once(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logging()
    configure_logging()
    log.info("once")
    assert len(json_lines(stream)) == 1
