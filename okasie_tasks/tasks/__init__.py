"""The Celery tasks and how they chain.

::

    okasie.sync  -> begins the account's run, publishes page 1
    okasie.fetch_page, load_inventory, diff_chunk, spool, upsert_chunk, confirm_sells, mark_sold
                 -> one part each: permit, claim, do, close; publish the next window when this one is nearly done
                    (see okasie_tasks.tasks.parts)
    okasie.advance -> the body of every window's chord: moves the run to its next phase, or ends it
    okasie.watchdog -> every 5 s, called by a thread of each control worker and by Beat: republishes lost messages of
                 parts and of other applications' requests, and ends stuck parts
    okasie.push, sell -> add to the account's urgent queue, then send it at once in the urgent lane
    okasie.send_urgent -> continues an urgent queue whose sender had to wait
    okasie.preview -> reads both sides of one listing, for an operator
    okasie.resume -> continues everything that a pause stopped

A window is one flat chord: ``chord(group(parts), advance)``. A part that is alone is published without one, and its
task does what ``okasie.advance`` would. Messages carry ids only; the state is in Redis. A message that is delivered
twice finds its part closed. A lost message is published again.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from celery import Task
from celery.exceptions import WorkerShutdown
from celery.signals import task_received

from okasie_tasks.alerting import notifier
from okasie_tasks.celery import app
from okasie_tasks.core import daily, record_types
from okasie_tasks.errors import ConfigurationError, OkasieError, RetryLater
from okasie_tasks.logs import about, get_logger
from okasie_tasks.services import services
from okasie_tasks.settings import AccountSettings
from okasie_tasks.sync import failover, phases, watchdog
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.tasks import parts as _parts  # noqa: F401 - registers the tasks of the parts
from okasie_tasks.tasks import requests
from okasie_tasks.tasks.deliveries import once
from okasie_tasks.tasks.dispatch import (
    LONGEST_COUNTDOWN_SECONDS,
    RUN_EVENTS,
    advance_run,
    again_later,
    begin_waiting,
    is_waiting,
    publish,
    send_parts,
)
from okasie_tasks.tasks.part_runner import BROKER_ERRORS, BROKER_RETRY_SECONDS, RNG, SLOTS
from okasie_tasks.tasks.unknown_account import context_of_push, context_of_request, context_of_run
from okasie_tasks.urgent import accept
from okasie_tasks.urgent.preview import no_preview, read_both_sides
from okasie_tasks.urgent.sender import Sender
from okasie_tasks.worker.bootsteps import on_first_start
from okasie_tasks.worker.health import migrates
from okasie_tasks.worker.settings import API, CONTROL, DIFF, URGENT

log = get_logger(__name__)

_STEADY: dict[str, Any] = {
    "autoretry_for": BROKER_ERRORS,
    "default_retry_delay": BROKER_RETRY_SECONDS,
    "max_retries": None,
    "throws": (OkasieError,),
}


# -- the control tasks ---------------------------------------------------------------------------------------------


@app.task(name="okasie.sync", bind=True, **_STEADY)
@once
def sync(
    self: Task[Any, Any],
    account: str,
    mode: str = "incremental",
    *,
    plan_only: bool = False,
    requested: bool = False,
    scheduled: bool = False,
) -> str:
    """Request a run of ``account`` and begin it unless another one is active. Returns its id, or "".

    ``requested``: the run's record exists already. ``scheduled``: Beat requests the daily full run, at every UTC time
    at which ``full_at`` may fall. The account's local time decides, and each local day gets one run.
    Raises `ConfigurationError` for an unknown account or mode.
    """
    request = str(self.request.id)
    if requests.expired(request):
        return ""
    with requests.taken(request), requests.failing(request):
        ctx = context_of_run(account)
        phases.check_mode(mode)
        if scheduled:
            _request_daily(ctx, services().account(account))
        elif not requested and not services().outbox.was_taken(request):
            requests.became(request, ctx.runs.request(account, mode, plan_only=plan_only)[0])
    run = ctx.runs.begin(account)
    if run is not None:
        log.info("run begins", account=account, run=run)
        publish(ctx, run)
        RUN_EVENTS.publish(ctx.runs, run, now=True)
    return run or ""


def _request_daily(ctx: AccountContext, account: AccountSettings) -> None:
    if account.full_at is None:
        return
    now = datetime.fromtimestamp(ctx.runs.now_ms() / 1000, UTC)
    day = daily.due_day(now, account.full_at, ZoneInfo(account.timezone))
    if day is not None:
        ctx.runs.request(account.name, "full", day=day.isoformat())


@app.task(name="okasie.advance", bind=True, **_STEADY)
@once
def advance(self: Task[Any, Any], account: str, run: str) -> None:
    """Move a run to its next phase when the current one is finished. The body of every window's chord."""
    ctx = context_of_run(account, run)
    advance_run(ctx, run)


# -- the watchdog --------------------------------------------------------------------------------------------------


@app.task(name="okasie.watchdog")
def watch(every_seconds: float = watchdog.LOOK_SECONDS, hurried: bool = False) -> None:
    """Check every account's run: republish lost parts, move stuck runs on, begin waiting runs.

    Does nothing while another process runs the watchdog, or ran it within the last ``every_seconds``.
    """
    svc = services()
    timeouts = watchdog.HURRIED if hurried or failover.is_recent(svc.runs) else _timeouts()
    if not svc.runs.watch(uuid4().hex, seconds=every_seconds * 0.9):
        return
    for account in svc.settings.accounts:
        try:
            with about(account=account):
                _watch_account(svc.context(account), account, timeouts)
        except BROKER_ERRORS:
            raise
        except Exception:
            # An error in one account must not keep the watchdog from the others.
            log.exception("watchdog failed for an account", account=account)
    requests.resend_lost(svc.runs.now_ms(), after_seconds=timeouts.stalled)


def _watch_account(ctx: AccountContext, account: str, timeouts: watchdog.WatchdogTimeouts) -> None:
    failover.request_healing(ctx)
    active = ctx.runs.active(account)
    for run, stage, parts in watchdog.look(ctx, account, timeouts, waiting=is_waiting):
        send_parts(ctx, run, [(stage, parts)])
    if active and ctx.runs.active(account) != active:
        RUN_EVENTS.publish(ctx.runs, active, now=True)
    begin_waiting(ctx)
    if ctx.urgent_queue.unattended(ctx.runs.now_ms()):
        _send_waiting(account)


def _timeouts() -> watchdog.WatchdogTimeouts:
    """The usual time-outs. ``okasie_stalled_seconds`` in celeryconfig.py shortens them, for tests."""
    usual = watchdog.USUAL
    stalled = float(app.conf.get("okasie_stalled_seconds", usual.stalled))
    return usual._replace(stalled=stalled, unmoved=min(usual.unmoved, stalled))


@on_first_start
def _start_threads(consumer: Any) -> None:
    """Start the threads of a control worker: the watchdog, which so does not depend on Beat, and the alerts.

    First the state in Redis gets this release's layout. Ends the worker if that is not possible.
    """
    try:
        services().migrate(_workers, lambda waits_for: migrates(", ".join(waits_for)), _pause)
    except ConfigurationError as error:
        log.critical("worker stops", reason=str(error))
        raise WorkerShutdown(1) from error
    RUN_EVENTS.home = str(consumer.hostname)
    SLOTS.bind(consumer.pool)
    services().urgent_threads = max(1, SLOTS.count)
    if CONTROL in consumer.app.amqp.queues.consume_from:
        watchdog.WatchdogThread(watch, float(app.conf.get("okasie_watchdog_seconds", watchdog.LOOK_SECONDS))).start()
        if services().settings.alerts.on:
            notifier.AlertNotifier(services().alerting()).start()


def _workers() -> list[str]:
    """The workers that consume any of the project's queues. This one does not answer yet."""
    ours = {CONTROL, URGENT, API, DIFF, str(app.conf.okasie_feeds_queue)}
    answers = app.control.inspect(timeout=1.0).active_queues() or {}
    return sorted(name for name, queues in answers.items() if ours & {queue["name"] for queue in queues})


def _pause(seconds: float) -> None:
    """Sleep, unless this worker is to stop."""
    time.sleep(seconds)
    if SLOTS.stopping():
        raise WorkerShutdown(0)


@app.task(name="okasie.resume", bind=True, throws=(OkasieError,))
@once
def resume(self: Task[Any, Any], account: str) -> None:
    """Continue what a pause stopped: parts whose messages came during the pause, a waiting run, the urgent queue."""
    ctx = context_of_request(account)
    log.info("account resumed", account=account)
    if run := ctx.runs.active(account):
        for name, stage, parts in watchdog.open_again(ctx, run):
            send_parts(ctx, name, [(stage, parts)])
    begin_waiting(ctx)
    if ctx.urgent_queue.count():
        _send_waiting(account)


# -- the urgent lane -----------------------------------------------------------------------------------------------


@app.task(name="okasie.push", bind=True, **_STEADY)
@once
def push_listings(
    self: Task[Any, Any],
    account: str,
    references: list[str] | None = None,
    listings: list[dict[str, Any]] | None = None,
    version: int = 0,
) -> None:
    """Send listings now: by reference (read from the source), or inline in write shape.

    ``version``: the caller's version of the ``listings`` (ms since the epoch), for calls that may arrive out of order.
    """
    push = str(self.request.id)
    if requests.expired(push):
        return
    try:
        with requests.taken(push):
            ctx = context_of_push(account, push, references if listings is None else _references_of(listings))
            reads = services().source_reads(account)
            accept.accept_push(ctx, push, references=references, listings=listings, version=version, reads=reads)
    except RetryLater as later:
        raise again_later(self, later, later.seconds) from None
    _send_urgent(ctx, str(self.request.id))


def _references_of(listings: object) -> list[Any]:
    """Return the references in a message's ``listings``, which may be of any type."""
    rows = listings if isinstance(listings, list) else []
    return [row.get("externalReference") for row in rows if isinstance(row, dict)]


@app.task(name="okasie.sell", bind=True, **_STEADY)
@once
def sell(self: Task[Any, Any], account: str, references: list[str]) -> None:
    """Mark listings sold now."""
    if requests.expired(str(self.request.id)):
        return
    with requests.taken(str(self.request.id)):
        ctx = context_of_push(account, str(self.request.id), references)
        accept.accept_sell(ctx, str(self.request.id), references=references)
    _send_urgent(ctx, str(self.request.id))


@app.task(name="okasie.send_urgent", bind=True, **_STEADY)
@once
def send_urgent(self: Task[Any, Any], account: str) -> None:
    """Continue sending an account's urgent queue."""
    try:
        _sender(context_of_request(account), str(self.request.id)).run()
    except RetryLater as later:
        raise again_later(self, later, later.seconds) from None


@app.task(name="okasie.preview", bind=True, **_STEADY)
@once
def preview(self: Task[Any, Any], account: str, reference: str) -> None:
    """Read both sides of one listing and store them for ten minutes, under the id of this message."""
    task_id = str(self.request.id)
    if requests.expired(task_id):
        return
    try:
        with requests.taken(task_id):
            ctx = context_of_request(account)
            document = read_both_sides(ctx, task_id, reference, services().source_reads(account))
    except RetryLater as later:
        raise again_later(self, later, later.seconds) from None
    except ConfigurationError as error:
        services().previews.put(task_id, no_preview(reference, str(error)))
        raise
    services().previews.put(task_id, document)


def _send_urgent(ctx: AccountContext, token: str) -> None:
    """Send in this slot, because another message would cost time. What must wait is continued by a new message."""
    try:
        _sender(ctx, token).run()
    except RetryLater as later:
        _send_waiting(ctx.policy.account, countdown=min(later.seconds, LONGEST_COUNTDOWN_SECONDS))


def _send_waiting(account: str, countdown: float = 0.0) -> None:
    label = f"{account}: pending pushes and sells"
    send_urgent.apply_async(kwargs={"account": account}, countdown=countdown or None, argsrepr=label)


def _sender(ctx: AccountContext, token: str) -> Sender:
    return Sender(ctx, token, rng=RNG, coming=lambda: int(services().redis.llen(URGENT)))


@task_received.connect
def _received(request: Any, **_: object) -> None:
    """Stamp pushes and sells in their order of arrival, which the threads that execute them need not keep."""
    if request.name in (push_listings.name, sell.name):
        services().pushes.receive(str(request.id))


# All modules of a worker are loaded by now, and its pool has not started.
record_types.prepare()
