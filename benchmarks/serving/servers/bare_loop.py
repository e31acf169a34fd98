"""A bare loop on gRPC's completion queue: what Python, NumPy and gRPC's core can do, and nothing else served.

Raw bytes in and out: uint8 images, float32 probabilities. All requests that are ready together are answered
by one forward pass. It uses private names of grpcio throughout: a limit, not a peer.
"""

import importlib
import sys
from functools import partial
from typing import Any

import numpy as np
from forward import forward

METHOD = "/benchmark.Echo/Predict"
MAX_BYTES = 16 * 2**20
INPUTS, CLASSES = 784, 10
ASKED, TOGETHER = 64, 64

cygrpc: Any = importlib.import_module("grpc._cython.cygrpc")


class Loop:
    """One server, one queue, one thread."""

    def __init__(self, port: str) -> None:
        self.queue = cygrpc.CompletionQueue()
        options = ((b"grpc.so_reuseport", 0), (b"grpc.max_receive_message_length", MAX_BYTES))
        self.server = cygrpc.Server(options, False)
        self.server.register_completion_queue(self.queue)
        self.server.register_method(METHOD)
        self.server.add_http2_port(f"127.0.0.1:{port}".encode())
        self.server.start()
        self.waiting: list[tuple[Any, bytes]] = []
        self.marked = False

    def run(self) -> None:
        """Answers for ever."""
        for _ in range(ASKED):
            self.ask()
        while True:
            event = self.queue.poll()
            event.tag(event)
            event = None

    def ask(self) -> None:
        """Asks the core for one more call."""
        self.server.request_registered_call(self.queue, self.queue, METHOD, self.arrived)

    def arrived(self, event: Any) -> None:
        """A call is there."""
        self.ask()
        receive = (cygrpc.ReceiveMessageOperation(0),)
        event.call.start_server_batch(receive, partial(self.received, event.call))

    def received(self, call: Any, event: Any) -> None:
        """Its message is there: answered with all that are queued before an empty batch comes round."""
        message = event.batch_operations[0].message()
        if message is None:  # the client has left
            return
        self.waiting.append((call, message))
        if not self.marked:
            self.marked = True
            call.start_server_batch((), self.round)
        elif len(self.waiting) >= TOGETHER:
            self.answer()

    def round(self, event: Any) -> None:
        """All that were ready are there."""
        self.marked = False
        if self.waiting:
            self.answer()

    def answer(self) -> None:
        """Makes one forward pass, and ends the calls."""
        waiting, self.waiting = self.waiting, []
        images = np.frombuffer(b"".join([message for _, message in waiting]), dtype=np.uint8)
        rows = forward(images.reshape(-1, INPUTS)).tobytes()
        start = 0
        for call, message in waiting:
            stop = start + len(message) // INPUTS * CLASSES * 4
            operations = (
                cygrpc.ReceiveCloseOnServerOperation(0),
                cygrpc.SendInitialMetadataOperation((), 0),
                cygrpc.SendMessageOperation(rows[start:stop], 0),
                cygrpc.SendStatusFromServerOperation((), 0, b"", 0),
            )
            call.start_server_batch(operations, _ended)
            start = stop


def _ended(event: Any) -> None:
    """Nobody waits for a call's end."""


if __name__ == "__main__":
    Loop(sys.argv[1]).run()
