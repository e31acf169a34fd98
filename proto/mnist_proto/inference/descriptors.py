"""Descriptors: the pool that knows the messages of the foreign package `inference`.

Protobuf's default pool takes a name once. Triton's client puts a package `inference` of its own there, so
that a process with both would end with "duplicate symbol". Ours lie in a pool beside it; the generated module
asks this one for its pool where others ask protobuf's `descriptor_pool` (the Makefile changes that line).
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()


def Default() -> DescriptorPool:  # the name that generated code calls
    """Returns the pool."""
    return POOL


class Descriptors:
    """Looks up what reflection asks for in this pool, then in protobuf's own. Raises KeyError."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("Find"):
            raise AttributeError(name)

        def find(*arguments: object) -> Any:
            try:
                return getattr(POOL, name)(*arguments)
            except KeyError:
                return getattr(descriptor_pool.Default(), name)(*arguments)

        return find
