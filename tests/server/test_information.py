from collections.abc import Callable

import grpc
import numpy as np
import pytest

from mnist_proto import __version__
from mnist_proto.v1 import prediction_pb2
from mnist_proto.v1 import server_pb2 as pb
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_proto.v1.server_pb2_grpc import ServerServiceStub
from mnist_server import serving
from mnist_server.environment import environment
from mnist_server.limits import Limits

DEADLINE = 2.0


@pytest.fixture
def limits() -> Limits:
    return Limits(max_images_per_request=7, max_streams=3)


def get(channel: grpc.Channel) -> pb.ServerInfo:
    return ServerServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=DEADLINE).server


def test_says_what_the_server_is_and_computes_with(channel: grpc.Channel) -> None:
    info = get(channel)
    assert info.version == __version__
    assert info.threads == serving.UNARY_THREADS
    assert info.environment == environment(serving.BLAS_THREADS)
    assert info.environment.numpy_version == np.__version__
    assert info.environment.blas_threads == 1
    assert info.HasField("start_time")
    assert get(channel).start_time == info.start_time


def test_publishes_every_limit_in_force(channel: grpc.Channel, limits: Limits) -> None:
    """Each is tried where it is enforced, in the tests of prediction, training and serving."""
    published = get(channel).limits
    assert {field.name for field in pb.Limits.DESCRIPTOR.fields} == set(vars(limits))
    for name, value in vars(limits).items():
        assert getattr(published, name) == value > 0
    assert (published.max_images_per_request, published.max_streams) == (7, 3)


def test_lists_the_models_in_memory(channel: grpc.Channel, make_version: Callable[..., str]) -> None:
    first, _ = make_version(), make_version("unused")
    assert list(get(channel).models_loaded) == []
    request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
    PredictionServiceStub(channel).Predict(request, timeout=DEADLINE)
    assert list(get(channel).models_loaded) == [first]
