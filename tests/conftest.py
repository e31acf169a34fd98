"""What every test run says before it begins."""

import os


def pytest_report_header() -> str:
    """Says which real digits the tests that learn will learn from."""
    folder = os.environ.get("MNIST_DATA")
    return f"real digits: mnist-5k{f' and MNIST, from {folder}' if folder else '; MNIST_DATA is not set'}"
