"""The command that prints completion scripts for shells."""

from __future__ import annotations

import click

from cloaca._cli._options import COMMAND_SETTINGS, UNUSED_DATABASE


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@UNUSED_DATABASE
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash, add `eval "$(cloaca completion bash)"` to ~/.bashrc. For zsh, add the same line with
    `zsh` to ~/.zshrc. For fish, write the script to ~/.config/fish/completions/cloaca.fish.
    """
    from click.shell_completion import get_completion_class

    from cloaca._cli._root import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "cloaca", "_CLOACA_COMPLETE").source())
