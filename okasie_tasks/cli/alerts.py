"""``okasie alerts``: channels, alerts that wait, and a test."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from okasie_tasks import logs
from okasie_tasks.alerting.channels import channels
from okasie_tasks.cli.common import Context, command_options, emit, table
from okasie_tasks.cli.fleet_client import services_of
from okasie_tasks.errors import ConfigurationError, OkasieError
from okasie_tasks.reports.listing import iso
from okasie_tasks.settings import AlertSettings, load_settings


@click.command()
@click.option("--test", is_flag=True, help="Send a test by every channel from here; tells the outcome.")
@command_options
def alerts(context: Context, test: bool) -> None:
    """Show who is told of what and which alerts wait; or send a test alert."""
    document = send_test(context) if test else overview(context)
    if not document["channels"]:
        raise ConfigurationError("nobody is told: set webhook, or email, under [alerts]", where="alerts")
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


def overview(context: Context) -> dict[str, Any]:
    """Who is told, of what, and what waits in the fleet."""
    services = services_of(context)
    settings = services.settings.alerts
    waiting = []
    for slot, due_ms, count, tries in services.alerting().queue.waiting():
        channel, kind, account = slot.split(" ", 2)
        waiting.append(
            {"channel": channel, "kind": kind, "account": account, "due": iso(due_ms), "alerts": count, "tries": tries}
        )
    return {
        "channels": [{"name": name, "to": _to(settings, name)} for name in channels(settings)],
        "kinds": list(settings.kinds),
        "every_seconds": settings.every.total_seconds(),
        "max_per_hour": settings.max_per_hour,
        "waiting": waiting,
    }


def send_test(context: Context) -> dict[str, Any]:
    """Send a test by every channel from here; needs neither Redis nor workers."""
    loaded = load_settings(context.config)
    logs.set_up(loaded.log)
    reason = "this is a test: alerts of okasie-tasks arrive here"
    told = {
        **dict.fromkeys(("account", "run"), None),
        "kind": "test",
        "reason": reason,
        "what_to_do": "nothing",
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "more": 0,
        "test": True,
        "text": f"okasie-tasks: test alert\n{reason}",
    }
    return {"channels": [_tried(loaded.alerts, name, send, told) for name, send in channels(loaded.alerts).items()]}


def _tried(settings: AlertSettings, name: str, send: Any, told: dict[str, Any]) -> dict[str, Any]:
    found = {"name": name, "to": _to(settings, name)}
    try:
        send(told)
    except OkasieError as error:
        return found | {"ok": False, "message": str(error)}
    return found | {"ok": True, "message": None}


def _to(settings: AlertSettings, name: str) -> str:
    if name == "email":
        return ", ".join(settings.email.to)
    return settings.webhook.source if settings.webhook else ""
