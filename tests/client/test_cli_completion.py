import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode

CLIENT = str(Path(sys.executable).with_name("mnist-client"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    result = CliRunner().invoke(program, ["completion", shell])
    assert result.exit_code == ExitCode.DONE
    assert f"_MNIST_CLIENT_COMPLETE={shell}_complete" in result.stdout
    assert "mnist-client" in result.stdout


def test_another_shell_is_a_usage_error() -> None:
    assert CliRunner().invoke(program, ["completion", "csh"]).exit_code == ExitCode.USAGE


def test_what_the_script_asks_is_answered() -> None:
    environ = {
        "_MNIST_CLIENT_COMPLETE": "bash_complete",
        "COMP_WORDS": "mnist-client jobs ",
        "COMP_CWORD": "2",
    }
    answer = subprocess.run([CLIENT], env=os.environ | environ, capture_output=True, text=True, timeout=60)
    assert answer.stdout.split() == [
        f"plain,{command}" for command in ("cancel", "delete", "list", "pause", "resume", "show", "watch")
    ]
