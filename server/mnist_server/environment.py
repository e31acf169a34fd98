"""The environment: what the arithmetic runs on, down to the BLAS kernel, since that decides the last bits."""

import functools
import importlib.metadata

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from mnist_proto import __version__
from mnist_proto.v1 import training_pb2


def limit_threads(threads: int) -> None:
    """Gives each BLAS library that this process has loaded so many threads, for good."""
    threadpool_limits(limits=threads, user_api="blas")


def environment(threads: int) -> training_pb2.Environment:
    """Returns the environment of a process whose BLAS has so many threads."""
    blas = _blas()
    return training_pb2.Environment(
        code_version=__version__,
        numpy_version=np.__version__,
        blas=blas.get("internal_api", "unknown"),
        blas_version=blas.get("version") or "unknown",
        blas_kernel=blas.get("architecture", "unknown"),
        blas_threads=threads,
        scipy_version=_scipy_version(),
    )


@functools.cache
def _blas() -> dict[str, str]:
    np.zeros((1, 1)) @ np.zeros((1, 1))  # has NumPy's own library loaded
    libraries = [info for info in threadpool_info() if info["user_api"] == "blas"]
    # A SciPy wheel brings a library of its own, which SciPy's version stands for.
    return next((info for info in libraries if "scipy.libs" not in info["filepath"]), {})


def _scipy_version() -> str:
    try:
        return importlib.metadata.version("scipy")
    except importlib.metadata.PackageNotFoundError:
        return ""


def differences(then: training_pb2.Environment, now: training_pb2.Environment) -> list[str]:
    """Returns what differs between two environments, each as `name was X, is Y`."""
    return [
        f"{field.name} was {getattr(then, field.name)}, is {getattr(now, field.name)}"
        for field in training_pb2.Environment.DESCRIPTOR.fields
        if getattr(then, field.name) != getattr(now, field.name)
    ]
