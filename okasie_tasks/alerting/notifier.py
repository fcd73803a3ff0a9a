"""Detects alerts in the records of runs and accounts, queues them and sends them, outside of all runs.

Every control worker has a notifier thread. One worker of the fleet detects alerts at a time, and each alert is sent by
one worker. If a worker dies, the list of ended runs and the alert's lease let another worker continue.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from okasie_tasks.alerting.rules import (
    Alert,
    are_many,
    of_lost_fields,
    of_refused_key,
    of_rejects,
    of_run,
    of_stale,
    of_waiting_sells,
    of_workers_gone,
    payload,
)
from okasie_tasks.core.staleness import is_stale
from okasie_tasks.errors import OkasieError
from okasie_tasks.logs import about, get_logger
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.staleness import stale_after
from okasie_tasks.sync import plan_review, waiting_sells
from okasie_tasks.sync.lost_fields import lost_reasons

if TYPE_CHECKING:
    from okasie_tasks.alerting.queue import AlertQueue, ClaimedAlert
    from okasie_tasks.settings import Settings
    from okasie_tasks.store.controls import HeldPlans
    from okasie_tasks.store.records import Run
    from okasie_tasks.store.request_stats import Counters
    from okasie_tasks.store.runs import Runs
    from okasie_tasks.store.workers import Workers

log = get_logger(__name__)

DETECT_SECONDS: Final = 5.0
_DETECT_STALE_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = (10.0, 30.0, 60.0, 300.0)
"""The waits after the first, second, ... failed try. After one more failure the alert is given up."""
_TOO_OLD_MS: Final = 24 * 3600 * 1000
"""Runs that ended longer ago cause no alert: alerts were off, or the whole fleet was down."""

Send = Callable[[Mapping[str, Any]], None]


class AlertContext(NamedTuple):
    """What detecting and sending alerts needs. ``after``: account -> seconds until it is stale, None for never."""

    queue: AlertQueue
    runs: Runs
    plans: HeldPlans
    counters: Counters
    workers: Workers
    kinds: Sequence[str]
    after: Mapping[str, float | None]
    channels: Mapping[str, Send]


def alert_context(
    settings: Settings,
    *,
    queue: AlertQueue,
    runs: Runs,
    plans: HeldPlans,
    counters: Counters,
    workers: Workers,
    channels: Mapping[str, Send],
) -> AlertContext:
    """The `AlertContext` of a whole fleet."""
    after = {name: stale_after(account, settings.alerts) for name, account in settings.accounts.items()}
    return AlertContext(queue, runs, plans, counters, workers, settings.alerts.kinds, after, channels)


# -- detecting -----------------------------------------------------------------------------------------------------


def detect(ctx: AlertContext) -> None:
    """Queue the alerts that have come up since the last call, unless another worker of the fleet is doing that."""
    token = uuid4().hex
    if not ctx.queue.claim_detection("ended", token, seconds=DETECT_SECONDS * 0.9):
        return
    for run in ctx.queue.ended():
        try:
            for alert in (rule(ctx, run) for rule in (_of_run, _of_lost_fields, _of_waiting_sells, _of_rejects)):
                if alert is not None:
                    _put(ctx, alert)
        except ValueError as error:
            # One record that cannot be read must not keep all later alerts from being sent.
            log.warning("alert check failed", run=run, error=type(error).__name__, reason=str(error))
        ctx.queue.remove_ended(run)
    if ctx.queue.claim_detection("stale", token, seconds=_DETECT_STALE_SECONDS * 0.9):
        for account, seconds in ctx.after.items():
            for alert in (_stale(ctx, account, seconds), _refused_key(ctx, account)):
                if alert is not None:
                    _put(ctx, alert)
        if (alert := _workers_gone(ctx)) is not None:
            _put(ctx, alert)


def _put(ctx: AlertContext, alert: Alert) -> None:
    if alert.kind in ctx.kinds and ctx.queue.put(alert, list(ctx.channels)):
        log.warning("alert", account=alert.account, run=alert.run, kind=alert.kind, reason=alert.reason)


def _of_run(ctx: AlertContext, name: str) -> Alert | None:
    run, now_ms = ctx.runs.get(name), ctx.runs.now_ms()
    if run is None or run.account not in ctx.after or now_ms - run.ended_ms > _TOO_OLD_MS or run.state == "done":
        return None
    if run.state == "held" and run.facts.get("held_run") != run.id:
        return None  # the plan is already held under the name of an earlier run
    error = json.loads(run.facts.get("error", "{}"))
    plan = ctx.plans.get(run.account, now_ms=now_ms) if run.state == "held" else None
    reasons = [held.reason for held in plan_review.holds_of(run)]
    expires = (iso(plan.expires_ms) or "") if plan is not None else ""
    return of_run(run.account, run.id, run.state, error, reasons, at_ms=run.ended_ms, expires=expires)


def _of_lost_fields(ctx: AlertContext, name: str) -> Alert | None:
    run, now_ms = ctx.runs.get(name), ctx.runs.now_ms()
    if run is None or run.account not in ctx.after or now_ms - run.ended_ms > _TOO_OLD_MS:
        return None
    return of_lost_fields(run.account, run.id, lost_reasons(run), at_ms=run.ended_ms) if run.fact("lost_new") else None


def _of_waiting_sells(ctx: AlertContext, name: str) -> Alert | None:
    run, now_ms = ctx.runs.get(name), ctx.runs.now_ms()
    if run is None or run.account not in ctx.after or now_ms - run.ended_ms > _TOO_OLD_MS:
        return None
    if not run.fact("waiting_alert") or not (reason := waiting_sells.sentence(run)):
        return None
    return of_waiting_sells(run.account, run.id, reason, rows=run.fact("nameless"), at_ms=run.ended_ms)


def _of_rejects(ctx: AlertContext, name: str) -> Alert | None:
    run, now_ms = ctx.runs.get(name), ctx.runs.now_ms()
    if run is None or run.account not in ctx.after or now_ms - run.ended_ms > _TOO_OLD_MS:
        return None
    rejected, rows = run.fact("new_rejects"), run.fact("rows")
    return of_rejects(run.account, run.id, rejected, rows, at_ms=run.ended_ms) if are_many(rejected, rows) else None


def _refused_key(ctx: AlertContext, account: str) -> Alert | None:
    since_ms, reason, accepted_ms = ctx.runs.refused_key(account)
    if not since_ms:
        return None
    if max(accepted_ms, *ctx.counters.read(account).success_ms.values(), 0) > since_ms:
        ctx.runs.forget_refused_key(account)
        return None
    return of_refused_key(account, reason, since_ms=since_ms, now_ms=ctx.runs.now_ms())


def _workers_gone(ctx: AlertContext) -> Alert | None:
    gone = ctx.workers.vanished()
    if not gone:
        return None
    attended = {queue for worker in ctx.workers.live() for queue in worker.queues}
    unattended = sorted({queue for worker in gone for queue in worker.queues} - attended)
    newest, names = max(gone, key=lambda worker: (worker.at_ms, worker.name)), [worker.name for worker in gone]
    key, last = f"{newest.name} since {newest.at_ms}", iso(newest.at_ms) or ""
    return of_workers_gone(names, unattended, key=key, last=last, now_ms=ctx.runs.now_ms())


def _stale(ctx: AlertContext, account: str, seconds: float | None) -> Alert | None:
    now_ms = ctx.runs.now_ms()
    if seconds is None or "stale" not in ctx.kinds:
        return None
    if ctx.runs.controls.paused_ms(account):
        return None
    success = max(ctx.counters.read(account).success_ms.values(), default=0)
    resumed = ctx.runs.controls.resumed_ms(account)
    since = max(success or ctx.queue.watched_since_ms(account, now_ms), resumed)
    active = ctx.runs.active(account)
    run: Run | None = ctx.runs.get(active) if active else None
    moved = run.progress_ms if run is not None and run.state == "running" else 0
    if not is_stale(since_ms=since, now_ms=now_ms, after_seconds=seconds, moved_ms=moved):
        return None
    return of_stale(account, since_ms=since, since=iso(since) or "", ever=bool(success), now_ms=now_ms)


# -- sending -------------------------------------------------------------------------------------------------------


def deliver(ctx: AlertContext) -> int:
    """Send the alerts that are due; returns the number of messages sent."""
    sent = 0
    while (claimed := ctx.queue.claim_next()) is not None:
        with about(account=claimed.alert.account, run=claimed.alert.run or ""):
            sent += _send(ctx, claimed)
    return sent


def _send(ctx: AlertContext, claimed: ClaimedAlert) -> bool:
    facts = {"channel": claimed.channel, "kind": claimed.alert.kind}
    send = ctx.channels.get(claimed.channel)
    if send is None:
        ctx.queue.finish(claimed)  # a channel that the configuration no longer has
        return False
    document = payload(claimed.alert, iso(claimed.alert.at_ms) or "", more=claimed.merged - 1)
    try:
        send(document)
    except Exception as error:
        # No exception of a channel may end the notifier thread.
        reason = str(error) if isinstance(error, OkasieError) else type(error).__name__
        if claimed.tries >= len(_RETRY_SECONDS):
            log.error("alert given up", **facts, tries=claimed.tries + 1, reason=reason)  # noqa: TRY400 - a condition
            ctx.queue.finish(claimed)
        else:
            log.warning("alert not delivered", **facts, tries=claimed.tries + 1, reason=reason)
            ctx.queue.retry_later(claimed, seconds=_RETRY_SECONDS[claimed.tries])
        return False
    log.info("alert sent", **facts, more=claimed.merged - 1)
    ctx.queue.finish(claimed)
    return True


class AlertNotifier(threading.Thread):
    """Detects and sends alerts every few seconds, until its worker ends."""

    def __init__(self, ctx: AlertContext, every_seconds: float = DETECT_SECONDS) -> None:
        super().__init__(name="okasie-alerts", daemon=True)
        self._ctx, self._every = ctx, every_seconds

    def run(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._every):
            try:
                detect(self._ctx)
                deliver(self._ctx)
            except Exception as error:
                log.warning("alert check failed", error=type(error).__name__, reason=str(error))
