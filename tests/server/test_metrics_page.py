import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from mnist_server import metrics_page
from mnist_server.metrics_page import CONTENT_TYPE, MAX_CONNECTIONS, MetricsPage

TIMEOUT = 30.0


@pytest.fixture
def start() -> Iterator[Callable[..., MetricsPage]]:
    """start(render, port=...) -> a page that is being served, until the test ends."""
    pages: list[MetricsPage] = []

    def start(render: Callable[[], bytes] = lambda: b"up 1\n", port: int = 0) -> MetricsPage:
        page = MetricsPage("127.0.0.1", port, render)
        page.start()
        pages.append(page)
        return page

    yield start
    for page in pages:
        page.stop()


Start = Callable[..., MetricsPage]


def get(page: MetricsPage, path: str = "/metrics", method: str = "GET") -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection(page.address, timeout=TIMEOUT)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.getheader("Content-Type")
    connection.close()
    return found


def connect(page: MetricsPage) -> socket.socket:
    host, _, port = page.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT)


def test_the_page_is_what_is_rendered_each_time(start: Start) -> None:
    counted = iter(range(10))
    page = start(lambda: b"scrapes %d\n" % next(counted))
    assert get(page) == (200, b"scrapes 0\n", CONTENT_TYPE)
    assert get(page, "/metrics?name=x") == (200, b"scrapes 1\n", CONTENT_TYPE)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/favicon.ico", "/../metrics"])
def test_there_is_nothing_else(start: Start, path: str) -> None:
    status, body, _ = get(start(), path)
    assert status == 404
    assert b"/metrics" in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(start: Start, method: str) -> None:
    assert get(start(), method=method)[0] == 501


def test_a_page_that_cannot_be_rendered_is_an_error_without_its_text(start: Start) -> None:
    def fail() -> bytes:
        raise ValueError("secret")

    status, body, _ = get(start(fail))
    assert status == 500
    assert b"secret" not in body


def test_a_port_that_is_in_use_is_named(start: Start) -> None:
    port = int(start().address.rpartition(":")[2])
    with pytest.raises(OSError, match=rf"metrics: 127\.0\.0\.1:{port} cannot be listened on: "):
        start(port=port)


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(OSError, match=r"metrics: 192\.0\.2\.1:0 cannot be listened on: "):
        MetricsPage("192.0.2.1", 0, lambda: b"")


def test_a_stopped_page_lets_go_of_its_port(start: Start) -> None:
    page = start()
    port = int(page.address.rpartition(":")[2])
    assert get(page)[0] == 200
    page.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{page.address}/metrics", timeout=TIMEOUT)
    assert get(start(lambda: b"new\n", port=port))[1] == b"new\n"


def test_one_that_was_never_started_lets_go_too() -> None:
    page = MetricsPage("127.0.0.1", 0, lambda: b"")
    page.stop()
    MetricsPage("127.0.0.1", int(page.address.rpartition(":")[2]), lambda: b"").stop()


def test_no_more_connections_than_it_takes_and_each_comes_to_an_end(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = start()
    silent = [connect(page) for _ in range(MAX_CONNECTIONS)]
    for connection in silent:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
    with connect(page) as refused:
        assert refused.recv(1) == b""
    monkeypatch.setattr(metrics_page, "SECONDS", 0.0)
    for connection in silent:
        assert connection.recv(1) == b""
        connection.close()
    monkeypatch.setattr(metrics_page, "SECONDS", TIMEOUT)
    assert get_patiently(page) == 200


def get_patiently(page: MetricsPage) -> int:
    """The threads of connections that were hung up may need a moment to go."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return get(page)[0]
        except (ConnectionError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_stopping_does_not_wait_for_who_is_connected(start: Start) -> None:
    entered, leave = threading.Event(), threading.Event()

    def render() -> bytes:
        entered.set()
        leave.wait(TIMEOUT)
        return b""

    page = start(render)
    with connect(page) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert entered.wait(TIMEOUT)
        page.stop()
        assert slow.recv(1) == b""
    leave.set()
