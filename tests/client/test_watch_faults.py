"""A watch over a bad network: connections are cut in the middle of what is said, and servers are killed."""

import asyncio
import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from mnist_client import AsyncClient, Client, Dataset, Succeeded

if TYPE_CHECKING:
    from tests.client.conftest import ServerProcess

    StartServer = Callable[..., ServerProcess]

SECONDS = 120.0
EPOCHS = 100


class Proxy:
    """Passes bytes between its own port and a server's, until `cut` drops every connection."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]  # noqa: UP031
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            self.cuts += 1
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(near,), daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(self._to, 5) as far:
            with self._lock:
                self._pairs.add((near, far))
            with selectors.DefaultSelector() as selector:
                selector.register(near, selectors.EVENT_READ, far)
                selector.register(far, selectors.EVENT_READ, near)
                while True:
                    for key, _ in selector.select():
                        data = key.fileobj.recv(65536)  # type: ignore[union-attr]  # they are sockets
                        if not data:
                            return
                        key.data.sendall(data)


@pytest.fixture
def proxies() -> Iterator[list[Proxy]]:
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.close()


def test_every_event_is_seen_once_whatever_is_cut_and_killed(
    start_server: "StartServer", digits: Dataset, proxies: list[Proxy]
) -> None:
    server = start_server()
    proxy = Proxy(server.port)
    proxies.append(proxy)
    with Client(server.address) as client:
        job = client.train(digits, epochs=EPOCHS, hidden=60, seed=3).name
    heard: dict[str, list[int]] = {}
    ends: dict[str, type] = {}

    def watch(name: str) -> None:
        heard[name] = []
        with Client(proxy.address) as client:
            for event in client.job(job).watch():
                heard[name].append(event.sequence)
                ends[name] = type(event)

    async def watch_async() -> None:
        async def one(client: AsyncClient, name: str) -> None:
            heard[name] = []
            async for event in client.job(job).watch():
                heard[name].append(event.sequence)
                ends[name] = type(event)

        async with AsyncClient(proxy.address) as client:
            await asyncio.gather(*(one(client, f"async {index}") for index in range(3)))

    threads = [threading.Thread(target=watch, args=(f"sync {index}",)) for index in range(3)]
    threads.append(threading.Thread(target=lambda: asyncio.run(watch_async())))
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    killed = False
    while any(thread.is_alive() for thread in threads):
        assert time.monotonic() < deadline, heard
        time.sleep(0.3)
        proxy.cut()
        if not killed and heard and all(len(sequences) > EPOCHS // 4 for sequences in heard.values()):
            killed = True
            server.kill()
            server = start_server(server.port)
    assert killed
    assert proxy.cuts >= 4
    with Client(server.address) as client:
        last = client.job(job).status().last_sequence
    assert last > EPOCHS + 2  # it was continued besides
    assert heard == {name: list(range(1, last + 1)) for name in heard}
    assert len(heard) == 6
    assert set(ends.values()) == {Succeeded}
