"""The port: held for the whole server by a process that does not listen, so that its workers may share it."""

import errno
import socket
from contextlib import ExitStack, closing

# Of a name's addresses those that this machine does not have are passed over, as grpcio does.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Port:
    """A port that only the processes of one server listen on.

    Its sockets are bound with SO_REUSEPORT and never listen: the kernel gives connections to those that do,
    which the workers bind beside them. As long as they are there nobody else gets the port, also while no
    worker lives.
    """

    def __init__(self, host: str, port: int) -> None:
        """Takes a port on all addresses of a host; 0 picks one. Raises OSError, naming both, if it is in use
        or the host is not this machine's."""
        self._held = ExitStack()
        self.number = port
        refusal: OSError | None = None
        held = 0
        try:
            for family, _, _, _, address in socket.getaddrinfo(
                host.strip("[]"), port, type=socket.SOCK_STREAM
            ):
                try:
                    self._take(family, address)
                    held += 1
                except OSError as error:
                    refusal = error
                    if error.errno not in _NOT_HERE:
                        break
            else:
                if held:
                    return
        except OSError as error:  # the name is none
            refusal = error
        self.close()
        raise OSError(
            f"{host}:{port} cannot be listened on: it is in use, or not this machine's"
        ) from refusal

    def close(self) -> None:
        """Leaves the port to others."""
        self._held.close()

    def _take(self, family: int, address: tuple[object, ...]) -> None:
        address = (address[0], self.number, *address[2:])
        if self.number:
            # Without SO_REUSEPORT, which would share the port with any other server of the same user. With
            # SO_REUSEADDR connections that are about to end do not count.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                _only(alone, family)
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(address)
        with ExitStack() as opened:
            shared = opened.enter_context(closing(socket.socket(family, socket.SOCK_STREAM)))
            _only(shared, family)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(address)
            self.number = shared.getsockname()[1]
            self._held.push(opened.pop_all())


def _only(taken: socket.socket, family: int) -> None:
    """Has an IPv6 address not stand for IPv4's as well."""
    if family == socket.AF_INET6:
        taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
