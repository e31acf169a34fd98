"""The wire contract: generated stubs, arrays to bytes and back, and the hash of a data set."""

__version__ = "0.1.0"
