"""``okasie cancel``, ``pause`` and ``resume``: a person stops a run, or all work of an account, and lets it go on."""

from __future__ import annotations

from typing import Any

import click

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.cli.output import emit
from okasie_tasks.cli.report import print_run


@click.command()
@click.argument("run")
@command_options
def cancel(context: Context, run: str) -> None:
    """End RUN: one that waits at once, one at work after its requests in flight. The cursor stays where it was."""
    from okasie_tasks.cli import stopping  # noqa: PLC0415 - Celery only where it is needed

    document = stopping.cancel(context, run)
    emit(context, document, lambda: print_run(document))


@click.command()
@click.argument("account")
@command_options
def pause(context: Context, account: str) -> None:
    """Stop all work of ACCOUNT until it is resumed: no run begins, none goes on, and pushes and sells wait."""
    from okasie_tasks.cli import stopping  # noqa: PLC0415

    document = stopping.pause(context, account)
    emit(context, document, lambda: _print_pause(document))


@click.command()
@click.argument("account")
@command_options
def resume(context: Context, account: str) -> None:
    """Let ACCOUNT go on where it was paused."""
    from okasie_tasks.cli import stopping  # noqa: PLC0415

    document = stopping.resume(context, account)

    def show() -> None:
        since = document["was_paused_since"]
        click.echo(f"{account} goes on; it was paused since {since}" if since else f"{account} was not paused")

    emit(context, document, show)


def _print_pause(document: dict[str, Any]) -> None:
    account = document["account"]
    again = " already" if document["was_paused"] else ""
    click.echo(f"{account} is{again} paused, since {document['paused_since']}; `okasie resume {account}` lets it go on")
    if document["active"]:
        click.echo(f"run {document['active']} waits where it is, after its requests in flight")
