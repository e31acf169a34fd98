"""Completion: the script by which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    Example:
      eval "$(mnist-client completion bash)"                                   # in ~/.bashrc
      eval "$(mnist-client completion zsh)"                                    # in ~/.zshrc
      mnist-client completion fish > ~/.config/fish/completions/mnist-client.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # click knows all three
    click.echo(script(context.find_root().command, {}, "mnist-client", "_MNIST_CLIENT_COMPLETE").source())
