import inspect
from pathlib import Path

import mnist_core
from mnist_core import CheckpointError, Diverged, InvalidValue, errors


def test_the_tree_at_the_top_names_every_error() -> None:
    assert errors.__doc__ is not None
    classes = [
        name
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if value.__module__ == errors.__name__
    ]
    assert classes
    for name in classes:
        assert f"\n{name} " in errors.__doc__
        assert name in mnist_core.__all__


def test_errors_say_what_they_are() -> None:
    assert str(InvalidValue("epochs", 0, "an integer from 1 to 10")) == (
        "epochs: 0 is not valid: expected an integer from 1 to 10"
    )
    assert "epoch 3" in str(Diverged(3))
    assert str(CheckpointError(Path("a/b"), "it is torn")) == "a/b: it is torn"
    assert len(str(InvalidValue("name", "x" * 100_000, "less"))) < 150


def test_all_exported_names_exist_once() -> None:
    assert len(set(mnist_core.__all__)) == len(mnist_core.__all__)  # ruff keeps them sorted
    assert all(hasattr(mnist_core, name) for name in mnist_core.__all__)
