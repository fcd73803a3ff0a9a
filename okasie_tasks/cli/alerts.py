"""``okasie alerts``: channels, pending alerts, and a test alert."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from okasie_tasks import logs
from okasie_tasks.alerting.channels import channels
from okasie_tasks.cli.common import Context, command_options, echo, emit, table
from okasie_tasks.cli.connect import services_of
from okasie_tasks.errors import ConfigurationError, OkasieError
from okasie_tasks.reports.listing import iso
from okasie_tasks.settings import AlertSettings, load_settings


@click.command()
@click.option(
    "--test", is_flag=True, help="Send a test alert through every channel from this machine and show the outcome."
)
@command_options
def alerts(context: Context, test: bool) -> None:
    """Show alert channels and pending alerts, or send a test alert."""
    document = send_test(context) if test else overview(context)
    if not document["channels"]:
        raise ConfigurationError(
            "no alert channel is configured: set `webhook` or `email` under [alerts]", where="alerts"
        )
    emit(context, document, lambda: _show(document))
    sys.exit(1 if any(not channel.get("ok", True) for channel in document["channels"]) else 0)


def _show(document: dict[str, Any]) -> None:
    for channel in document["channels"]:
        outcome = {True: "sent", False: f"FAILED: {channel.get('message')}"}.get(channel.get("ok"), "")
        echo(f"{channel['name']:<10}{channel['to']:<40}{outcome}".rstrip())
    if "kinds" in document:
        echo(f"alerts on {', '.join(document['kinds'])}, each at most once in {document['every_seconds']:g} s")
    if waiting := document.get("waiting"):
        rows = [[w["channel"], w["kind"], w["account"], w["due"], str(w["alerts"]), str(w["tries"])] for w in waiting]
        table(["channel", "kind", "account", "due", "alerts", "tries"], rows)


def overview(context: Context) -> dict[str, Any]:
    """Return the channels, the kinds of alerts sent through them, and the pending alerts."""
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
    """Send a test alert through every channel from this machine. Needs neither Redis nor workers."""
    loaded = load_settings(context.config)
    logs.set_up(loaded.log)
    reason = "this is a test: alerts of okasie-tasks arrive here"
    alert = {
        **dict.fromkeys(("account", "run"), None),
        "kind": "test",
        "reason": reason,
        "what_to_do": "nothing",
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "more": 0,
        "test": True,
        "text": f"okasie-tasks: test alert\n{reason}",
    }
    return {"channels": [_send(loaded.alerts, name, send, alert) for name, send in channels(loaded.alerts).items()]}


def _send(settings: AlertSettings, name: str, send: Any, alert: dict[str, Any]) -> dict[str, Any]:
    channel = {"name": name, "to": _to(settings, name)}
    try:
        send(alert)
    except OkasieError as error:
        return channel | {"ok": False, "message": str(error)}
    return channel | {"ok": True, "message": None}


def _to(settings: AlertSettings, name: str) -> str:
    if name == "email":
        return ", ".join(settings.email.to)
    return settings.webhook.source if settings.webhook else ""
