"""The page of metrics: GET /metrics over HTTP, and nothing else."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

log = logging.getLogger(__name__)

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Connections at a time; one more is closed unheard. Each has so long, however slowly it asks and reads.
MAX_CONNECTIONS = 8
SECONDS = 10.0
# How often it looks at them, and whether it is to stop.
_POLL_SECONDS = 0.1


class MetricsPage:
    """An HTTP server of one page, in threads of its own."""

    def __init__(self, host: str, port: int, render: Callable[[], bytes]) -> None:
        """Takes the port; 0 picks one. `render` returns the page. Raises OSError where it may not listen."""
        try:
            self._server = _Server(host, port, render)
        except OSError as error:
            raise OSError(f"metrics: {host}:{port} cannot be listened on: {error.strerror}") from error
        name = f"[{host}]" if ":" in host else host
        self.address = f"{name}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True
        )

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()
        log.info("metrics", extra={"url": f"http://{self.address}{PATH}"})

    def stop(self) -> None:
        """Lets go of the port, and of who is connected."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
        self._server.hang_up(older_than=0.0)


class _Server(ThreadingMixIn, TCPServer):  # not HTTPServer, which asks the name service for its own name
    allow_reuse_address = True  # after a restart; on Linux two can still not listen at once
    daemon_threads = True
    block_on_close = False  # nobody's slow connection keeps the server from stopping

    def __init__(self, host: str, port: int, render: Callable[[], bytes]) -> None:
        self.render = render
        self._open: dict[socket.socket, float] = {}  # each with when it came
        self._lock = threading.Lock()
        host = host.strip("[]")
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                return False
            self._open[request] = time.monotonic()
        return True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        self.hang_up(older_than=SECONDS)

    def hang_up(self, *, older_than: float) -> None:
        """Ends the connections that have lasted so many seconds."""
        with self._lock:
            for connection, came in self._open.items():
                if time.monotonic() - came >= older_than:
                    with suppress(OSError):  # the other end may have gone
                        connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a reader of the metrics went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "mnist-server"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"There is {PATH}.")
            return
        try:
            page = self.server.render()
        except Exception:
            log.exception("the metrics could not be rendered")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: a page that is read every few seconds would fill the log."""
