"""Faults for the processes of a server under test, from the outside: Python imports this module by itself.

The program knows nothing of it. PYTHONPATH leads here, and a file of JSON, named by MNIST_FAULTS and read
whenever it matters, says what is to go wrong now:

clock: seconds by which the wall clock is off. The monotonic clock goes on as it is.
durable: {"call": "mkstemp", "write" or "fsync", "errno": N} for `mnist_core.durable`, the module that writes
    files.
"""

import errno
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_time, _time_ns = time.time, time.time_ns


def _fault(name: str) -> Any:
    try:
        with open(os.environ["MNIST_FAULTS"], encoding="utf-8") as file:  # noqa: PTH123  # before pathlib is there
            return json.load(file).get(name)
    except (KeyError, OSError, ValueError):
        return None


def _fail(call: str) -> None:
    fault = _fault("durable")
    if fault and fault["call"] == call:
        raise OSError(fault["errno"], f"{errno.errorcode[fault['errno']]} in {call}, which was injected")


class _File:
    """A file that may be full when it is half written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        fault = _fault("durable")
        if fault and fault["call"] == "write":
            self._file.write(memoryview(data)[: len(data) // 2])
            _fail("write")
        return int(self._file.write(data))


class _Os:
    """`os`, as durable.py sees it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        _fail("fsync")
        os.fsync(descriptor)

    def fdopen(self, *arguments: Any) -> _File:
        return _File(os.fdopen(*arguments))


class _Tempfile:
    """`tempfile`, as durable.py sees it."""

    def mkstemp(self, **options: Any) -> Any:
        _fail("mkstemp")
        return tempfile.mkstemp(**options)


class _Time:
    """`time`, as gRPC sees it, and who compares with its deadlines: its code in C has the kernel's clock."""

    time = staticmethod(_time)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


_PUT: dict[str, dict[str, Any]] = {
    "mnist_core.durable": {"os": _Os(), "tempfile": _Tempfile()},
    **{f"grpc.{name}": {"time": _Time()} for name in ("_channel", "_server")},
    **{f"mnist_server.{name}": {"time": _Time()} for name in ("hotpath", "hotpath_slow", "hotpath_stream")},
}


class _Finder(importlib.abc.MetaPathFinder):
    """Puts what these modules are to see in their namespaces."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        put = _PUT.pop(name, None)
        if put is None:
            return None
        spec = importlib.util.find_spec(name)  # this time of the others
        loader: Any = spec and spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            vars(module).update(put)

        loader.exec_module = exec_module
        return spec


if "MNIST_FAULTS" in os.environ:
    time.time = lambda: _time() + (_fault("clock") or 0.0)
    time.time_ns = lambda: _time_ns() + int((_fault("clock") or 0.0) * 1e9)
    sys.meta_path.insert(0, _Finder())
