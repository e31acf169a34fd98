"""Parameters: what every command takes, and how words of the command line become values."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from mnist_client.batches import stored_name
from mnist_client.cli.output import FORMATS, TABLE
from mnist_client.client import Client
from mnist_client.datasets import Dataset, load_dataset
from mnist_client.errors import InvalidInput
from mnist_client.hyperparameters import Augmentation
from mnist_client.layers import parse_layers
from mnist_proto.names import expand_dataset, expand_job, expand_model, is_id

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Settings:
    """What holds for every command, given before it or after it."""

    server: str | None = None
    output: str = TABLE
    timeout: float = 10.0

    def connect(self) -> Client:
        """Returns a client of the server; a context manager."""
        return Client(self.server, timeout=self.timeout)


pass_settings = click.make_pass_decorator(Settings, ensure=True)


def shared_options(*, from_environment: bool = False) -> Callable[[F], F]:
    """Gives a command or a group --server, --output and --timeout, whose values are then in `Settings`.

    The root alone reads them from the environment: MNIST_SERVER, and no MNIST_TRAIN_SERVER beside it.
    """
    shared: dict[str, Any] = {
        "callback": _remember,
        "expose_value": False,
        "allow_from_autoenv": from_environment,
    }
    options = (
        click.option(
            "--server", metavar="HOST:PORT", help="Server to call. [default: 127.0.0.1:50051]", **shared
        ),
        click.option(
            "-o",
            "--output",
            type=click.Choice(FORMATS),
            help="Form of the answer. [default: table]",
            **shared,
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help="How long one answer may take. [default: 10]",
            **shared,
        ),
    )

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    settings = context.ensure_object(Settings)
    if value is not None and parameter.name is not None:
        setattr(settings, parameter.name, value)


def read_data(spec: str) -> Dataset | str:
    """Returns the data set that a SPEC names, read; datasets/{sha256}, which the server has, as it is."""
    if stored_name(spec) is not None:
        return spec
    return load_dataset(spec, report=lambda line: click.echo(line, err=True))


class Word(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on only
    """One word of the command line, made into a value by a function that raises ValueError."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        """Returns the value; a usage error says what was expected instead of the word."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def layer_sizes(text: str) -> tuple[int, ...]:
    """Returns the sizes of hidden layers: '100,100' is (100, 100); '' or 'none' is no hidden layer, ()."""
    if text.strip().lower() in ("", "none"):
        return ()
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not valid: expected sizes such as 30 or 100,100, or none") from None


def augmentation(text: str) -> Augmentation:
    """Returns what 'rotation=10,shift=1.5' says. Raises ValueError."""
    known = [field.name for field in fields(Augmentation)]
    pairs = [word.partition("=") for word in text.split(",")]
    try:
        values = {name.strip().replace("-", "_"): float(value) for name, _, value in pairs}
    except ValueError:
        values = {"": 0.0}
    if len(values) < len(pairs) or not values.keys() <= set(known):
        raise ValueError(
            f"{text!r} is not valid: expected NAME=NUMBER apart by commas, of {', '.join(known)}"
        )
    return Augmentation(**values)


def layers(text: str) -> str:
    """Returns layers as they are. Raises ValueError."""
    try:
        parse_layers(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from None
    return text


def class_names(text: str) -> tuple[str, ...]:
    """Returns the names of classes: 'cat,dog' is ('cat', 'dog'). Raises ValueError for an empty one."""
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ValueError(f"{text!r} is not valid: expected names with commas between, such as cat,dog")
    return names


def alias_name(text: str) -> str:
    """Returns the name of an alias as it is. Raises ValueError."""
    if not is_id(text):
        raise ValueError(f"{text!r} is not valid: expected an alias matching [a-z][a-z0-9-]{{0,62}}")
    return text


# What the wire calls models/{m}, models/{m}/versions/{n} or models/{m}/aliases/{a}: m, m@3, m@stable.
MODEL = Word("model", expand_model)
ALIAS = Word("alias", alias_name)
DATASET = Word("dataset", expand_dataset)
JOB = Word("job", expand_job)
SIZES = Word("sizes", layer_sizes)
NAMES = Word("names", class_names)
LAYERS = Word("layers", layers)
AUGMENTATION = Word("augmentation", augmentation)
