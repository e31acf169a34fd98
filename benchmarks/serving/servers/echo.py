"""A plain grpc.server with four threads, raw bytes in and out: uint8 images, float32 probabilities."""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from forward import forward

THREADS, MAX_BYTES = 4, 16 * 2**20


def predict(pixels: bytes, context: grpc.ServicerContext) -> bytes:
    """Answers one request."""
    return forward(np.frombuffer(pixels, dtype=np.uint8).reshape(-1, 784)).tobytes()


def main(port: str) -> None:
    """Serves until it is ended."""
    server = grpc.server(
        ThreadPoolExecutor(THREADS),
        options=[("grpc.max_receive_message_length", MAX_BYTES), ("grpc.so_reuseport", 0)],
    )
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(predict)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("benchmark.Echo", {"Predict": method}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
