"""What of ``okasie alerts`` needs Redis and Celery."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from okasie_tasks import logs
from okasie_tasks.alerting.channels import channels
from okasie_tasks.cli.follow import services_of
from okasie_tasks.cli.options import Context
from okasie_tasks.errors import OkasieError
from okasie_tasks.reports.listing import iso
from okasie_tasks.settings import AlertSettings, load_settings


def overview(context: Context) -> dict[str, Any]:
    """Who is told, of what, and what waits in the fleet."""
    services = services_of(context)
    settings = services.settings.alerts
    waiting = []
    for slot, due_ms, count, tries in services.alerting().box.waiting():
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


def test(context: Context) -> dict[str, Any]:
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
