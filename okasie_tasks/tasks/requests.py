"""The requests of applications and commands: taken from the outbox, re-sent when a message is lost, or discarded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from celery.signals import task_revoked

from okasie_tasks.celery import app
from okasie_tasks.errors import OkasieError, RetryLater
from okasie_tasks.logs import get_logger
from okasie_tasks.services import services
from okasie_tasks.store.outbox import TASKS, OutboxEntry
from okasie_tasks.telemetry import tracing
from okasie_tasks.urgent.preview import no_preview
from okasie_tasks.worker.settings import QUEUE_OF

log = get_logger(__name__)

_OLD_FACTOR: Final = 4
"""While other messages wait in its queue, a message counts as lost only after this many times the usual wait."""


@contextlib.contextmanager
def taken(task_id: str) -> Iterator[None]:
    """Mark a request as taken once the block has recorded it, or has refused it for good.

    While it waits, its message is not lost: another one would wait beside it, and more with each look at the outbox.
    """
    try:
        yield
    except RetryLater as later:
        services().outbox.waits(task_id, services().runs.now_ms() + int(later.seconds * 1000))
        raise
    except OkasieError:
        services().outbox.taken(task_id)
        raise
    services().outbox.taken(task_id)


@contextlib.contextmanager
def failing(task_id: str) -> Iterator[None]:
    """Record an error that the block raises as the outcome of the request as a whole."""
    try:
        yield
    except RetryLater:
        raise
    except OkasieError as error:
        services().pushes.fail(task_id, str(error))
        raise


def became(task_id: str, run: str) -> None:
    """Record the run that a sync became; without one, the request has failed."""
    record = services().pushes
    if not run:
        record.fail(task_id, "another run of this account is already queued; nothing was started")
        return
    if by := record.by(task_id):
        services().runs.note_once(run, "requested_by", by)
    record.became(task_id, run)


def resend_lost(now_ms: int, *, after_seconds: float) -> None:
    """Re-send the requests whose message was lost.

    The id stays the same, so a request whose first message arrives after all is executed once.
    """
    for task_id, entry in services().outbox.lost(now_ms, after_seconds=after_seconds, discard=_discard):
        queue, old = QUEUE_OF[entry.task], now_ms - entry.at_ms > _OLD_FACTOR * after_seconds * 1000
        if old or not services().redis.llen(queue):
            log.warning("request was not picked up; re-sending", task=entry.task, task_id=task_id)
            services().deliveries.forget(task_id)
            with tracing.within(entry.traceparent):
                app.send_task(entry.task, kwargs=entry.kwargs, task_id=task_id, queue=queue)


def expired(task_id: str) -> bool:
    """Whether a request has expired, by Redis' clock: then it is discarded."""
    entry = services().outbox.get(task_id)
    if entry is None or entry.expires_ms > services().runs.now_ms():
        return False
    services().outbox.taken(task_id)
    _discard(task_id, entry)
    return True


def _discard(task_id: str, entry: OutboxEntry | None) -> None:
    """Log and count a request that is not executed, and record that as its outcome."""
    discarded = services().discarded
    if entry is None:
        log.warning("request cannot be read; discarded", task_id=task_id)
        discarded.add("unreadable", task="", task_id=task_id, account="", reason="its entry in the outbox is malformed")
        return
    account, reason = str(entry.kwargs.get("account")), "the request expired before a worker took it up"
    log.warning("request expired; discarded", task=entry.task, task_id=task_id, account=account)
    discarded.add("expired", task=entry.task, task_id=task_id, account=account, reason=reason)
    services().pushes.fail(task_id, f"{reason}; nothing was sent")
    if entry.task == "okasie.preview":
        services().previews.put(task_id, no_preview(entry.kwargs.get("reference"), reason))


@task_revoked.connect
def _expired_on_arrival(sender: Any, request: Any, *, expired: bool = False, **_: object) -> None:
    """Record a request whose message has an ``expires``, as other applications may set it."""
    if expired and sender.name in TASKS:
        task_id = str(request.id)
        entry = services().outbox.get(task_id)
        services().outbox.taken(task_id)
        now_ms = services().runs.now_ms()
        _discard(task_id, entry or OutboxEntry(sender.name, dict(request.kwargs or {}), now_ms, now_ms))
