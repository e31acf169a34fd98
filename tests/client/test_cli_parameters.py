import click
import pytest
from click.testing import CliRunner, Result

from mnist_client.cli.parameters import (
    AUGMENTATION,
    JOB,
    LAYERS,
    MODEL,
    SIZES,
    Settings,
    Word,
    layer_sizes,
    pass_settings,
    shared_options,
)
from mnist_client.hyperparameters import Augmentation

FRESH: dict[str, str | None] = {"MNIST_SERVER": None, "MNIST_OUTPUT": None, "MNIST_TIMEOUT": None}


@click.group(context_settings={"auto_envvar_prefix": "MNIST"})
@shared_options(from_environment=True)
def root() -> None:
    """A program of the same build."""


@root.group()
@shared_options()
def jobs() -> None:
    """A group in it."""


@jobs.command()
@shared_options()
@pass_settings
def show(settings: Settings) -> None:
    """Shows what it was given."""
    click.echo(f"{settings.server} {settings.output} {settings.timeout:g}")


def run(*words: str, **environ: str) -> Result:
    return CliRunner(env=FRESH | environ).invoke(root, words)


def test_defaults() -> None:
    assert run("jobs", "show").stdout == "None table 10\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--server", "h:1", "-o", "csv", "--timeout", "3", "jobs", "show"),
        ("jobs", "--server", "h:1", "-o", "csv", "--timeout", "3", "show"),
        ("jobs", "show", "--server", "h:1", "--output", "csv", "--timeout", "3"),
        ("--server", "h:1", "jobs", "-o", "csv", "show", "--timeout", "3"),
    ],
)
def test_before_the_command_or_after_it(words: tuple[str, ...]) -> None:
    assert run(*words).stdout == "h:1 csv 3\n"


def test_the_later_one_counts() -> None:
    assert run("-o", "json", "jobs", "-o", "csv", "show", "-o", "jsonl").stdout == "None jsonl 10\n"


def test_flag_over_environment_over_default() -> None:
    environ = {"MNIST_SERVER": "env:1", "MNIST_OUTPUT": "json", "MNIST_TIMEOUT": "2"}
    assert run("jobs", "show", **environ).stdout == "env:1 json 2\n"
    assert run("--server", "h:1", "jobs", "show", "-o", "csv", **environ).stdout == "h:1 csv 2\n"


def test_only_the_program_s_own_variables_are_read() -> None:
    assert (
        run("jobs", "show", MNIST_JOBS_SHOW_SERVER="h:1", MNIST_JOBS_OUTPUT="csv").stdout == "None table 10\n"
    )


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("30", (30,)),
        ("100,100", (100, 100)),
        (" 5 , 6 ", (5, 6)),
        ("", ()),
        ("none", ()),
        ("NONE", ()),
        ("0", (0,)),
    ],
)
def test_layer_sizes(text: str, sizes: tuple[int, ...]) -> None:
    assert layer_sizes(text) == sizes


@pytest.mark.parametrize("text", ["x", "1.5", "30,", ",", "30;40"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected sizes such as 30"):
        layer_sizes(text)


@pytest.mark.parametrize(
    ("word", "text", "value"),
    [
        (MODEL, "m", "models/m"),
        (MODEL, "m@3", "models/m/versions/3"),
        (MODEL, "m@stable", "models/m/aliases/stable"),
        (MODEL, "models/m", "models/m"),
        (JOB, "job-a", "jobs/job-a"),
        (JOB, "jobs/job-a", "jobs/job-a"),
        (SIZES, "7", (7,)),
        (LAYERS, "20C5-P-30", "20C5-P-30"),
        (AUGMENTATION, "rotation=10", Augmentation(rotation=10)),
        (
            AUGMENTATION,
            "shift=1.5, elastic-sigma=5,elastic=-1",
            Augmentation(shift=1.5, elastic=-1, elastic_sigma=5),
        ),
    ],
)
def test_words_become_values(word: Word, text: str, value: object) -> None:
    assert word.convert(text, None, None) == value
    assert word.convert(value, None, None) == value  # click may hand over what it was given


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (MODEL, "M"),
        (MODEL, "m@"),
        (JOB, "jobs/"),
        (SIZES, "x"),
        (LAYERS, "20C"),
        (AUGMENTATION, ""),
        (AUGMENTATION, "turn=3"),
        (AUGMENTATION, "shift"),
        (AUGMENTATION, "shift=1,shift=2"),
        (AUGMENTATION, "shift=far"),
    ],
)
def test_words_that_are_not_valid_are_usage_errors(word: Word, text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected"):
        word.convert(text, None, None)
