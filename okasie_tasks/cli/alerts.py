"""``okasie alerts``: who is told of what, what waits to be told, and a test that tells the outcome."""

from __future__ import annotations

import sys
from typing import Any

import click

from okasie_tasks.cli.options import Context, command_options
from okasie_tasks.cli.output import emit, table
from okasie_tasks.errors import FixConfiguration


@click.command()
@click.option("--test", is_flag=True, help="Send a test by every channel from here; tells the outcome.")
@command_options
def alerts(context: Context, test: bool) -> None:
    """Show who is told of what and which alerts wait; or send a test alert."""
    from okasie_tasks.cli import alerting  # noqa: PLC0415 - Celery

    document = alerting.test(context) if test else alerting.overview(context)
    if not document["channels"]:
        raise FixConfiguration("nobody is told: set webhook, or email, under [alerts]", where="alerts")
    emit(context, document, lambda: _show(document))
    sys.exit(1 if any(not channel.get("ok", True) for channel in document["channels"]) else 0)


def _show(document: dict[str, Any]) -> None:
    for channel in document["channels"]:
        told = {True: "sent", False: f"FAILED: {channel.get('message')}"}.get(channel.get("ok"), "")
        click.echo(f"{channel['name']:<10}{channel['to']:<40}{told}".rstrip())
    if "kinds" in document:
        click.echo(f"told of   {', '.join(document['kinds'])}, each at most once in {document['every_seconds']:g} s")
    if waiting := document.get("waiting"):
        rows = [[w["channel"], w["kind"], w["account"], w["due"], str(w["alerts"]), str(w["tries"])] for w in waiting]
        table(["channel", "kind", "account", "due", "alerts", "tries"], rows)
