from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from mnist_proto import __version__
from mnist_proto.v1 import training_pb2
from mnist_server.environment import differences, environment, limit_threads


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def one_thread_afterwards() -> Iterator[None]:
    yield
    limit_threads(1)


def test_the_environment_is_what_numpy_runs_on() -> None:
    found = environment(3)
    assert found.code_version == __version__
    assert found.numpy_version == np.__version__
    assert found.blas_threads == 3
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    # SciPy brings one of its own.
    numpys = [library for library in libraries if "scipy.libs" not in library["filepath"]]
    expected = numpys[0] if numpys else {}
    assert found.blas == expected.get("internal_api", "unknown")
    assert found.blas_version == (expected.get("version") or "unknown")
    assert found.blas_kernel == expected.get("architecture", "unknown")


@pytest.mark.usefixtures("one_thread_afterwards")
def test_threads_are_limited_for_good() -> None:
    for threads in (2, 1):
        limit_threads(threads)
        assert blas_threads() == {threads}


def test_the_same_environment_has_no_differences() -> None:
    assert differences(environment(1), environment(1)) == []


@pytest.mark.parametrize("field", [field.name for field in training_pb2.Environment.DESCRIPTOR.fields])
def test_every_difference_is_named(field: str) -> None:
    then, now = environment(1), environment(1)
    setattr(then, field, 7 if field == "blas_threads" else "other")
    assert differences(then, now) == [f"{field} was {getattr(then, field)}, is {getattr(now, field)}"]
