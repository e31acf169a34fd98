"""The package: what it exports, and what importing it does not bring along."""

import inspect
import subprocess
import sys

import mnist_client
from mnist_client import data_errors, errors, results


def test_exports_are_sorted_and_there() -> None:
    assert mnist_client.__all__ == sorted(mnist_client.__all__)
    assert all(hasattr(mnist_client, name) for name in mnist_client.__all__)


def test_exports_are_complete() -> None:
    public = {
        name
        for name, value in vars(mnist_client).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(mnist_client.__all__)
    for module in (errors, data_errors, results):
        classes = {
            name
            for name, value in inspect.getmembers(module, inspect.isclass)
            if value.__module__ == module.__name__ and not name.startswith("_")
        }
        assert classes <= set(mnist_client.__all__), module.__name__


def run(script: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_pillow_and_rich_are_not_needed() -> None:
    blocked = "import sys; sys.modules['PIL'] = sys.modules['rich'] = None\n"
    script = blocked + "import mnist_client; print(mnist_client.Client('127.0.0.1:1'))"
    assert run(script) == "Client('127.0.0.1:1')\n"


def test_importing_it_brings_along_no_more_than_it_needs() -> None:
    heavy = [
        *("PIL", "rich", "click", "numpy.random", "mlxtend", "pandas", "tqdm"),
        *("mnist_core", "mnist_server", "safetensors", "threadpoolctl"),
    ]
    script = f"import sys, mnist_client; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(script) == "[]\n"
