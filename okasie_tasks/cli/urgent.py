"""``okasie push`` and ``okasie sell``: send now, and wait for the marketplace's answer."""

from __future__ import annotations

import sys
from typing import Any

import click

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.cli.output import emit, table
from okasie_tasks.cli.run import EXIT_FAILED, EXIT_REJECTED

_FAILED = ("failed", "not_found")


@click.command()
@click.argument("account")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return once the push is accepted.")
@command_options
def push(context: Context, account: str, references: tuple[str, ...], no_wait: bool) -> None:
    """Read the listings REF... of ACCOUNT from its source and send them now, ahead of whatever runs."""
    _send(context, "okasie.push", account, references, no_wait=no_wait)


@click.command()
@click.argument("account")
@click.argument("references", metavar="REF...", nargs=-1, required=True)
@click.option("--no-wait", is_flag=True, help="Return once the sell is accepted.")
@command_options
def sell(context: Context, account: str, references: tuple[str, ...], no_wait: bool) -> None:
    """Mark the listings REF... of ACCOUNT sold now, ahead of whatever runs."""
    _send(context, "okasie.sell", account, references, no_wait=no_wait)


def _send(context: Context, task: str, account: str, references: tuple[str, ...], *, no_wait: bool) -> None:
    from okasie_tasks.cli.wait import Waiter  # noqa: PLC0415 - Celery only where it is needed

    waiter = Waiter(context, account)
    push_id = waiter.start(task, references)
    if no_wait:
        emit(context, {"push": push_id, "account": account, "state": "queued"}, lambda: click.echo(push_id))
        return
    document = waiter.wait(push_id)
    emit(context, document, lambda: _print(document))
    sys.exit(_status(document))


def _status(document: dict[str, Any]) -> int:
    outcomes = {row["outcome"] for row in document["listings"]}
    if document["error"] or outcomes.intersection(_FAILED):
        return EXIT_FAILED
    return EXIT_REJECTED if "rejected" in outcomes else 0


def _print(document: dict[str, Any]) -> None:
    rows = [[r["reference"], r["outcome"], f"{r['seconds']:.2f} s", r["message"] or ""] for r in document["listings"]]
    if rows:
        table(["reference", "outcome", "after", ""], rows)
    if document["error"]:
        click.echo(f"failed: {document['error']}")
