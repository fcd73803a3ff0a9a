"""Queries the workers through Celery, for the commands that wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import redis
from kombu.exceptions import OperationalError

from okasie_tasks.celery import app
from okasie_tasks.cli.common import Context, progress_line
from okasie_tasks.cli.connect import services_of, zone_of
from okasie_tasks.errors import ConnectionFailed
from okasie_tasks.reports.fleet import status_document
from okasie_tasks.services import Services
from okasie_tasks.settings import load_settings
from okasie_tasks.store.redis_problems import redis_problem
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT

POLL_SECONDS: Final = 0.1
_PICK_UP_POLL_SECONDS: Final = 0.02
_TAKEN_UP_SECONDS: Final = 3.0
"""How long a request may stay queued before a command checks whether a worker is running."""
_NO_WORKER_SECONDS: Final = 8.0
"""How long there may be no worker: one that is being restarted takes some seconds."""
GIVE_UP_SECONDS: Final = 60.0
"""How long it may stay queued while workers answer: three times as long as it takes to replace a lost message."""


def used_queues() -> list[str]:
    """Return the queues that need a consumer."""
    return list(dict.fromkeys((CONTROL, URGENT, API, DIFF, app.conf.okasie_feeds_queue)))


def consumers() -> tuple[dict[str, int], list[str]]:
    """Return the consumers per queue, and the queues without one. Queries the workers, which takes about a second."""
    counts = dict.fromkeys(used_queues(), 0)
    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    for queues in answers.values():
        for queue in queues:
            if queue["name"] in counts:
                counts[queue["name"]] += 1
    return counts, [name for name, count in counts.items() if not count]


def unattended(*queues: str) -> list[str]:
    """Return the ``queues`` without a consumer; asked twice, since a busy worker may miss the first query."""
    missing = [name for name in consumers()[1] if name in queues]
    return [name for name in consumers()[1] if name in missing] if missing else []


def wait_for_worker(taken_up: Callable[[], bool], *queues: str) -> list[str]:
    """Wait until a worker has taken a request up, or workers answer; return the ``queues`` that stay without one."""
    began = time.monotonic()
    while not taken_up() and time.monotonic() - began < _TAKEN_UP_SECONDS:
        time.sleep(_PICK_UP_POLL_SECONDS)
    while not taken_up() and (missing := unattended(*queues)):
        if time.monotonic() - began > _NO_WORKER_SECONDS and not taken_up():
            return missing
    return []


def fleet(context: Context, account: str | None) -> dict[str, Any]:
    """Return the document of ``okasie status``. ``missing`` names what does not answer."""
    settings = load_settings(context.config)
    if account is not None and account not in settings.accounts:
        Services(settings).account(account)
    try:
        services = services_of(context)
    except ConnectionFailed as error:
        progress_line(str(error))
        return {"accounts": [], "queues": {}, "missing": ["redis"], "redis_problem": error.message}
    counts, missing, problem = _consumers_if_writable()
    names = [account] if account else list(settings.accounts)
    document = status_document(services, names, counts, missing=missing, redis_problem=problem)
    for entry in document["accounts"]:
        entry["timezone"] = zone_of(services, entry["account"])
    return document


def _consumers_if_writable() -> tuple[dict[str, int | None], list[str], str | None]:
    """Return `consumers` and no problem. To ask the workers is a write: a server that refuses writes is ``missing``."""
    try:
        return (*consumers(), None)  # type: ignore[return-value] # the counts may be None below
    except (redis.RedisError, OperationalError) as error:
        return dict.fromkeys(used_queues()), ["redis"], redis_problem(error).message
