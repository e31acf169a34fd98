"""Descriptors: the pool that knows the messages of the foreign package `inference`.

Protobuf's default pool takes a name once. Triton's client puts a package `inference` of its own there, so that a
process with both would end with "duplicate symbol". Ours lie in a pool beside it; the generated module asks this
one for its pool where others ask protobuf's `descriptor_pool` (the Makefile changes that one line).
"""

from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()


def Default() -> DescriptorPool:  # the name that generated code calls
    """Returns the pool."""
    return POOL
