"""A channel: the connection to a server, with the limits, deadlines and retries that every call goes by."""

import json
import os
import re
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf.wrappers_pb2 import Int32Value, StringValue

DEADLINE_SECONDS = 10.0
DEFAULT_SERVER = "127.0.0.1:50051"
DEFAULT_PORT = 50051
MAX_RECEIVE_BYTES = 64 * 2**20
# Below 30 s, servers that nobody has tuned answer pings with GOAWAY (too_many_pings).
_KEEPALIVE_MS = 30_000
_KEEPALIVE_TIMEOUT_MS = 20_000
# A server that was restarted is found again within these; gRPC's own would be 1 s growing to 120 s, and 20 s
# until an address that does not answer is given up.
_FIRST_RECONNECT_MS = 200
_LONGEST_RECONNECT_MS = 3_000
_CONNECT_TIMEOUT_MS = 5_000

# Calls that may be made twice: they read, or, as CancelTraining, change nothing the second time.
IDEMPOTENT = {
    "mnist.v1.PredictionService": ("Predict",),
    "mnist.v1.TrainingService": ("GetTrainingJob", "ListTrainingJobs", "CancelTraining", "PauseTraining"),
    "mnist.v1.ModelService": ("GetModel", "ListModels"),
    "mnist.v1.DatasetService": ("GetDataset", "ListDatasets"),
    "mnist.v1.ServerService": ("GetServerInfo",),
    "grpc.health.v1.Health": ("Check",),
}
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in IDEMPOTENT.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    # A failure takes a token and a success gives a tenth of one back: below half of them nothing is retried,
    # so that a server in trouble is not called four times as often. A worker that dies takes all its calls
    # along at one moment, and each is to be retried: up to a hundred of them.
    "retryThrottling": {"maxTokens": 200, "tokenRatio": 0.1},
}


def server_address(server: str | None) -> str:
    """Returns the address to call: `server`, else $MNIST_SERVER, else 127.0.0.1:50051.

    A host alone gets the port 50051.
    """
    address = server or os.environ.get("MNIST_SERVER") or DEFAULT_SERVER
    return address if ":" in address else f"{address}:{DEFAULT_PORT}"


def channel_options(server: str) -> list[tuple[str, str | int]]:
    """Returns the options of a channel to `server`, for grpc and grpc.aio alike."""
    options: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", _FIRST_RECONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ]
    if is_local(server):
        # An http_proxy of the environment would take calls to this machine elsewhere.
        options.append(("grpc.enable_http_proxy", 0))
    return options


def is_local(server: str) -> bool:
    """Says whether an address is a Unix socket or a loopback address of this machine."""
    if server.startswith(("unix:", "unix-abstract:")):
        return True
    address = re.sub(r"^(dns|ipv4|ipv6):(//[^/]*/)?", "", server)
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


class HealthCheck(NamedTuple):
    """The call `Check` of grpc.health.v1.Health."""

    path: str
    serialize: Callable[[StringValue], bytes]
    parse: Callable[[bytes], Int32Value]
    request: StringValue


def health_check(service: str) -> HealthCheck:
    """Returns what it takes to ask how a service is.

    A HealthCheckRequest is a string of number 1 and its response an enum of number 1: on the wire they are
    these wrappers, so the SDK needs no package more.
    """
    return HealthCheck(
        "/grpc.health.v1.Health/Check",
        StringValue.SerializeToString,
        Int32Value.FromString,
        StringValue(value=service),
    )
