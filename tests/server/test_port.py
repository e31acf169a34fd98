import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mnist_server.port import Port

HOST = "127.0.0.1"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def take(opened: ExitStack, host: str = HOST, port: int = 0) -> Port:
    taken = Port(host, port)
    opened.callback(taken.close)
    return taken


def listen(opened: ExitStack, port: int = 0, *, shared: bool) -> int:
    server = opened.enter_context(socket.socket())
    if shared:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    else:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((HOST, port))
    server.listen()
    number: int = server.getsockname()[1]
    return number


def test_0_picks_one_that_nobody_can_reach_yet(opened: ExitStack) -> None:
    port = take(opened)
    assert port.number > 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port.number))


def test_those_who_share_it_listen_beside_each_other_and_are_reached(opened: ExitStack) -> None:
    port = take(opened)
    for _ in range(2):
        assert listen(opened, port.number, shared=True) == port.number
    for _ in range(20):  # none goes to the socket that does not listen
        socket.create_connection((HOST, port.number)).close()


def test_nobody_else_gets_it_while_it_is_held(opened: ExitStack) -> None:
    port = take(opened)
    with pytest.raises(OSError, match=f"{HOST}:{port.number} cannot be listened on"):
        Port(HOST, port.number)
    with pytest.raises(OSError, match="in use"):
        listen(opened, port.number, shared=False)
    port.close()
    assert take(opened, port=port.number).number == port.number


@pytest.mark.parametrize("shared", [False, True])
def test_one_that_someone_has_is_refused_also_if_he_would_share_it(opened: ExitStack, shared: bool) -> None:
    number = listen(opened, shared=shared)
    with pytest.raises(OSError, match=f"{HOST}:{number} cannot be listened on: it is in use"):
        Port(HOST, number)


def test_connections_that_have_just_ended_are_in_nobodys_way(opened: ExitStack) -> None:
    port = take(opened)
    with ExitStack() as serving:
        listener = serving.enter_context(socket.socket())
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):  # grpcio sets both
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((HOST, port.number))
        listener.listen()
        client = serving.enter_context(socket.create_connection((HOST, port.number)))
        accepted, _ = listener.accept()
        accepted.close()  # first, so that its address rests in TIME_WAIT
        assert client.recv(1) == b""
    port.close()
    assert take(opened, port=port.number).number == port.number


def test_a_name_is_held_on_all_its_addresses(opened: ExitStack) -> None:
    port = take(opened, "localhost")
    with pytest.raises(OSError, match="cannot be listened on"):
        Port(HOST, port.number)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6(opened: ExitStack, host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    port = take(opened, host)
    with pytest.raises(OSError, match="cannot be listened on"):
        Port("::1", port.number)


@pytest.mark.parametrize("host", ["nosuch.invalid", "256.0.0.1", "[unix:/tmp/x]", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(OSError, match="cannot be listened on") as caught:
        Port(host, 0)
    assert host in str(caught.value)
