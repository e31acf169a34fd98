import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mnist_client.cli import Program, program
from mnist_client.cli.exit_codes import ExitCode
from mnist_client.datasets import DataNotFound
from mnist_proto import __version__

ROOT = Path(__file__).parents[2]
CLIENT = str(Path(sys.executable).with_name("mnist-client"))


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below one, by its words."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


COMMANDS = dict(commands(program))


README = [
    line
    for block in re.findall(r"^```.*?\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^[ $]*(?:\S*/)?(mnist-client .*)$", block, re.MULTILINE)
]
# A line of a list of commands: the words, two blanks or more, and what it does.
LISTED = re.compile(r"mnist-client ([a-z]+(?: [a-z]+)?) {2,}[^# ].*")


def examples() -> list[tuple[str, str]]:
    """Every command line that the help and the README show, and where."""
    of_help = [
        (f"help of {path or 'the program'}", line)
        for path, command in COMMANDS.items()
        for line in re.findall(r"^ *(mnist-client .*)$", command.help or "", re.MULTILINE)
    ]
    return of_help + [("README.md", line) for line in README if not LISTED.fullmatch(line)]


def parse(line: str) -> click.Context:
    """Reads a command line as the program would, without running it."""
    words = shlex.split(line, comments=True)[1:]
    end = next((index for index, word in enumerate(words) if re.match(r"[|>&;]", word)), len(words))
    words = words[:end]
    context = program.make_context("mnist-client", words)
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(context, context._protected_args + context.args)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


LEAVES = {path for path, command in COMMANDS.items() if not isinstance(command, click.Group)}


def test_the_commands_are_those_of_the_contract() -> None:
    assert sorted(LEAVES) == [
        "completion",
        "datasets delete",
        "datasets list",
        "datasets show",
        "datasets upload",
        "evaluate",
        "health",
        "info",
        "jobs cancel",
        "jobs delete",
        "jobs list",
        "jobs pause",
        "jobs resume",
        "jobs show",
        "jobs watch",
        "models alias",
        "models delete",
        "models export",
        "models import",
        "models list",
        "models show",
        "predict",
        "train",
    ]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(path: str) -> None:
    result = CliRunner().invoke(program, [*path.split(), "--help"])
    assert result.exit_code == 0
    _, found, example = result.stdout.partition("Example:")
    assert found
    assert f"mnist-client {path}".rstrip() in example


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_says_what_it_does(path: str) -> None:
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_readme_lists_every_command() -> None:
    listed = [match[1] for line in README if (match := LISTED.fullmatch(line))]
    assert sorted(listed) == sorted(LEAVES)


@pytest.mark.parametrize(("where", "line"), examples())
def test_every_command_line_that_is_shown_is_valid(where: str, line: str) -> None:
    if "completion" not in line:  # there the shell runs it inside quotes
        parse(line)


def test_an_example_that_is_not_valid_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parse("mnist-client train --epoch-count 3")
    with pytest.raises(click.UsageError):
        parse("mnist-client jobs watch JOB! | head")


def test_version() -> None:
    result = CliRunner().invoke(program, ["--version"])
    assert result.stdout == f"mnist-client, version {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["train", "--epochs", "many"],
        ["-o", "xml", "info"],
        ["predict"],
        ["info", "--timeout", "0"],
    ],
)
def test_a_command_line_that_is_not_valid_exits_2(words: list[str]) -> None:
    result = CliRunner().invoke(program, words)
    assert result.exit_code == ExitCode.USAGE
    assert result.stdout == ""
    assert "Usage: mnist-client" in result.stderr


def failing(error: BaseException) -> Program:
    """A program whose only command ends so."""
    group = Program("mnist-client")

    @group.command()
    def fail() -> None:
        raise error

    return group


def test_what_the_sdk_raises_is_told_in_its_own_words() -> None:
    result = CliRunner().invoke(failing(DataNotFound("x.csv: no such file")), ["fail"])
    assert result.exit_code == ExitCode.NOT_FOUND
    assert result.stderr == "Error: x.csv: no such file\n"


def test_what_nobody_foresaw_exits_1_without_a_traceback() -> None:
    result = CliRunner(env={"MNIST_DEBUG": None}).invoke(failing(KeyError("digit")), ["fail"])
    assert result.exit_code == ExitCode.UNEXPECTED
    assert "KeyError: 'digit'" in result.stderr
    assert "MNIST_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr


def test_debugging_shows_the_traceback() -> None:
    result = CliRunner(env={"MNIST_DEBUG": "1"}).invoke(failing(KeyError("digit")), ["fail"])
    assert result.exit_code == ExitCode.UNEXPECTED
    assert "Traceback (most recent call last)" in result.stderr


def test_ctrl_c_exits_130() -> None:
    result = CliRunner().invoke(failing(KeyboardInterrupt()), ["fail"])
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "Interrupted." in result.stderr


def test_a_reader_that_leaves_is_no_error_to_talk_about(trained: str) -> None:
    """As `mnist-client ... | head -0`: the pipe's other end is closed before anything is written."""
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [CLIENT, "--server", trained, "info"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(write)
    assert result.stderr == ""
    assert result.returncode == ExitCode.UNEXPECTED


def test_it_starts_without_rich_and_pillow() -> None:
    code = (
        "import sys; sys.modules['rich'] = sys.modules['PIL'] = None; "
        "from mnist_client.cli import main; sys.argv = ['mnist-client', '--version']; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == f"mnist-client, version {__version__}\n"
    assert result.returncode == 0
