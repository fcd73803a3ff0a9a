"""The Celery app: its configuration, Beat's schedule and the steps added to its workers.

``celery -A okasie_tasks worker|beat|flower`` find `app` here. The configuration is read when Celery first asks for
it, not on import: ``$OKASIE_CONFIG``, else ``./okasie.toml``.
"""

from __future__ import annotations

import importlib
import os
import runpy
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import click
from celery import Celery
from celery.schedules import crontab, schedule

from okasie_tasks.core import daily
from okasie_tasks.core.sentinel_url import is_sentinel
from okasie_tasks.errors import OkasieError
from okasie_tasks.settings import AccountSettings, Settings, load_settings
from okasie_tasks.settings.redis_url import redis_url, redis_urls, without_login
from okasie_tasks.worker import garbage as _garbage  # noqa: F401 - connects its signal
from okasie_tasks.worker import telemetry as _telemetry  # noqa: F401 - connects its signals
from okasie_tasks.worker.bootsteps import ChildWatch, FirstStart, KeepAddress, LeaseKeeper
from okasie_tasks.worker.events import BatchedEvents
from okasie_tasks.worker.health import Health
from okasie_tasks.worker.heartbeat import Heartbeat
from okasie_tasks.worker.quarantine import QuarantineStep
from okasie_tasks.worker.sentinel import sentinel_settings, with_sentinels
from okasie_tasks.worker.settings import CONTROL, SETTINGS, WATCHDOG_SECONDS
from okasie_tasks.worker.task_logging import MaskedTask, begin_in_flower


def beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return Beat's entries: both kinds of run for every account, and the watchdog. An outdated tick is dropped."""
    entries: dict[str, dict[str, Any]] = {
        "okasie-watchdog": {
            "task": "okasie.watchdog",
            "schedule": schedule(WATCHDOG_SECONDS),
            "options": {"queue": CONTROL, "expires": WATCHDOG_SECONDS, "argsrepr": "a look after every account"},
        }
    }
    for name, account in settings.accounts.items():
        if account.incremental_every is not None:
            entries[f"okasie-{name}-incremental"] = {
                "task": "okasie.sync",
                "schedule": schedule(account.incremental_every),
                "kwargs": {"account": name, "mode": "incremental"},
                "options": {
                    "queue": CONTROL,
                    "expires": account.incremental_every.total_seconds(),
                    "argsrepr": f"{name}: incremental run, by the clock",
                },
            }
        if account.full_at is not None:
            entries[f"okasie-{name}-full"] = {
                "task": "okasie.sync",
                "schedule": _daily(account),
                "kwargs": {"account": name, "mode": "full", "scheduled": True},
                "options": {
                    "queue": CONTROL,
                    "expires": daily.LATE.total_seconds(),
                    "argsrepr": f"{name}: full run, by the clock",
                },
            }
    return entries


def _daily(account: AccountSettings) -> crontab:
    """Return every UTC time at which ``full_at`` may fall, as redbeat uses UTC. The task decides which is due."""
    assert account.full_at is not None  # noqa: S101
    times = daily.utc_times(account.full_at, ZoneInfo(account.timezone), datetime.now(UTC).date())
    hours, minutes = (",".join(map(str, numbers)) for numbers in times)
    return crontab(hour=hours, minute=minutes)


def _configuration() -> dict[str, Any]:
    """Return Celery's configuration. Under the ``celery`` command an error is one line, not a traceback."""
    command = click.get_current_context(silent=True)
    try:
        settings = load_settings()
        if command is not None and command.info_name == "flower":
            begin_in_flower(settings.log)
        return with_sentinels({**configuration(settings), **deployment()}, redis_urls(redis_url(settings)).client)
    except OkasieError as error:
        if command is not None:
            raise click.ClickException(str(error)) from error
        raise


def configuration(settings: Settings) -> dict[str, Any]:
    """Return `okasie_tasks.worker.settings` with this deployment's URLs and schedule."""
    urls = redis_urls(redis_url(settings))
    beat_url, beat_options = without_login(urls.client)
    found = {
        **SETTINGS,
        "broker_url": urls.broker,
        "result_backend": f"okasie_tasks.worker.result_backend:SteadyRedisBackend+{urls.backend}",
        # Celery 5.7 passes it to unix sockets too, which reject it.
        "redis_socket_keepalive": not urls.client.startswith("unix:"),
        # `inspect conf` and Flower show these URLs unmasked, but hide a password in the options.
        "redbeat_redis_url": beat_url,
        "redbeat_redis_options": {**SETTINGS["redbeat_redis_options"], **beat_options},
        "redbeat_key_prefix": f"{settings.redis.key_prefix}beat:",
        "beat_schedule": beat_schedule(settings),
        "okasie_feeds_queue": settings.feeds.queue,
    }
    if is_sentinel(urls.client):
        found |= sentinel_settings(urls.client)
    return with_sentinels(found, urls.client)


def deployment() -> dict[str, Any]:
    """Return the values of the deployment's ``celeryconfig.py``, found by Celery's convention.

    Not read with ``config_from_object``, because Celery prefers the values from `add_defaults` to that object's.
    """
    name = os.environ.get("CELERY_CONFIG_MODULE")
    if name is not None:
        return _public(vars(importlib.import_module(name)))
    file = Path.cwd() / "celeryconfig.py"
    return _public(runpy.run_path(str(file))) if file.is_file() else {}


def _public(names: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in names.items()
        if not name.startswith("_") and name.islower() and not isinstance(value, ModuleType) and name != "annotations"
    }


app = Celery("okasie_tasks", include=["okasie_tasks.tasks"], task_cls=MaskedTask)
app.add_defaults(_configuration)
app.steps["consumer"].update(
    {LeaseKeeper, ChildWatch, KeepAddress, FirstStart, QuarantineStep, Heartbeat, Health, BatchedEvents}
)
