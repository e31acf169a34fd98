"""What every test run says and sets up before it begins."""

import os
import signal


def pytest_configure() -> None:
    """Has servers begin without a model, and lets SIGINT interrupt, here and in the programs under test.

    A shell's background job and CI may ignore it; an ignored signal is inherited, and Python then raises no
    KeyboardInterrupt.
    """
    os.environ.setdefault("MNIST_PRETRAINED", "0")
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Says which real digits the tests that learn will learn from."""
    folder = os.environ.get("MNIST_DATA")
    return f"real digits: mnist-5k{f' and MNIST, from {folder}' if folder else '; MNIST_DATA is not set'}"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names a test after the argument where bytes are given, not after the bytes.

    A gzip file holds the time it was made at, and processes that run tests side by side must agree on names.
    """
    return argname if isinstance(val, bytes) else None
