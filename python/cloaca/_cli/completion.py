"""Completion for shells."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES


@click.command(context_settings=HELP_NAMES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash, add `eval "$(cloaca completion bash)"` to ~/.bashrc; for zsh the same to ~/.zshrc; for
    fish, write it to ~/.config/fish/completions/cloaca.fish.
    """
    from click.shell_completion import get_completion_class

    from cloaca._cli._root import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "cloaca", "_CLOACA_COMPLETE").source())
