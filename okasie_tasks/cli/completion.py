"""``okasie completion``: the script that lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.cli.output import emit


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@command_options
def completion(context: Context, shell: str) -> None:
    """Print the completion script of SHELL: for bash, put `eval "$(okasie completion bash)"` into ~/.bashrc."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has all three
    group = click.get_current_context().find_root().command
    script = kind(group, {}, "okasie", "_OKASIE_COMPLETE").source()
    emit(context, {"shell": shell, "script": script}, lambda: click.echo(script))
