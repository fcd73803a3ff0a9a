"""Alerting: what people should know is found in the records, put into the box and sent, beside all runs, never in one.

Every control worker has a messenger. One of the fleet looks at a time, and each alert is taken by one; whoever dies in
between leaves a list or a lease that the next one goes on from.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

from okasie_tasks.alerting.rules import Alert, is_stale, of_run, of_stale, payload, stale_seconds
from okasie_tasks.errors import OkasieError
from okasie_tasks.logs import about, get_logger
from okasie_tasks.reports.listing import iso
from okasie_tasks.sync import plan_review

if TYPE_CHECKING:
    from okasie_tasks.alerting.queue import AlertQueue, Taken
    from okasie_tasks.settings import AccountSettings, AlertSettings, Settings
    from okasie_tasks.store.controls import HeldPlans
    from okasie_tasks.store.records import Run
    from okasie_tasks.store.request_stats import Counters
    from okasie_tasks.store.runs import Runs

log = get_logger(__name__)

LOOK_SECONDS: Final = 5.0
_STALE_LOOK_SECONDS: Final = 60.0
_WAITS: Final = (10.0, 30.0, 60.0, 300.0)
"""After the first, second, ... try that failed; one more failure and it is given up."""
_TOO_OLD_MS: Final = 24 * 3600 * 1000
"""Nobody is told of what ended so long ago: alerts were off, or the whole fleet was."""

Send = Callable[[Mapping[str, Any]], None]


class AlertContext(NamedTuple):
    """What alerts are found with and sent by. ``after``: account -> seconds until it is stale, None for never."""

    queue: AlertQueue
    runs: Runs
    plans: HeldPlans
    counters: Counters
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
    channels: Mapping[str, Send],
) -> AlertContext:
    """The desk of a whole fleet."""
    after = {name: _stale_after(account, settings.alerts) for name, account in settings.accounts.items()}
    return AlertContext(queue, runs, plans, counters, settings.alerts.kinds, after, channels)


def _stale_after(account: AccountSettings, alerts: AlertSettings) -> float | None:
    every, wanted = account.incremental_every, alerts.stale_after
    return stale_seconds(
        every.total_seconds() if every else None,
        account.full_at is not None,
        wanted.total_seconds() if wanted else None,
    )


# -- finding -------------------------------------------------------------------------------------------------------


def detect(ctx: AlertContext) -> None:
    """Put into the box what came up since the last look, if nobody else of the fleet is looking."""
    token = uuid4().hex
    if not ctx.queue.looks("ended", token, seconds=LOOK_SECONDS * 0.9):
        return
    for run in ctx.queue.ended():
        if (alert := _of_run(ctx, run)) is not None:
            _put(ctx, alert)
        ctx.queue.seen(run)
    if "stale" in ctx.kinds and ctx.queue.looks("stale", token, seconds=_STALE_LOOK_SECONDS * 0.9):
        for account, seconds in ctx.after.items():
            if seconds is not None and (alert := _stale(ctx, account, seconds)) is not None:
                _put(ctx, alert)


def _put(ctx: AlertContext, alert: Alert) -> None:
    if alert.kind in ctx.kinds and ctx.queue.put(alert, list(ctx.channels)):
        log.warning("alert", account=alert.account, run=alert.run, kind=alert.kind, reason=alert.reason)


def _of_run(ctx: AlertContext, name: str) -> Alert | None:
    run, now_ms = ctx.runs.get(name), ctx.runs.now_ms()
    if run is None or run.account not in ctx.after or now_ms - run.ended_ms > _TOO_OLD_MS:
        return None
    if run.state == "held" and run.facts.get("held_run") != run.id:
        return None  # the same plan as before waits, under its first run's name
    error = json.loads(run.facts.get("error", "{}"))
    plan = ctx.plans.get(run.account, now_ms=now_ms) if run.state == "held" else None
    reasons = [held.reason for held in plan_review.holds_of(run)]
    expires = (iso(plan.expires_ms) or "") if plan is not None else ""
    return of_run(run.account, run.id, run.state, error, reasons, at_ms=run.ended_ms, expires=expires)


def _stale(ctx: AlertContext, account: str, seconds: float) -> Alert | None:
    now_ms = ctx.runs.now_ms()
    if ctx.runs.controls.paused_ms(account):
        return None
    success = max(ctx.counters.read(account).success_ms.values(), default=0)
    resumed = ctx.runs.controls.resumed_ms(account)
    since = max(success or ctx.queue.first_looked_ms(account, now_ms), resumed)
    active = ctx.runs.active(account)
    run: Run | None = ctx.runs.get(active) if active else None
    moved = run.progress_ms if run is not None and run.state == "running" else 0
    if not is_stale(since_ms=since, now_ms=now_ms, after_seconds=seconds, moved_ms=moved):
        return None
    return of_stale(account, since_ms=since, since=iso(since) or "", ever=bool(success), now_ms=now_ms)


# -- sending -------------------------------------------------------------------------------------------------------


def deliver(ctx: AlertContext) -> int:
    """Send what is due; returns how many messages went out."""
    sent = 0
    while (taken := ctx.queue.take()) is not None:
        with about(account=taken.alert.account, run=taken.alert.run or ""):
            sent += _send(ctx, taken)
    return sent


def _send(ctx: AlertContext, taken: Taken) -> bool:
    facts = {"channel": taken.channel, "kind": taken.alert.kind}
    send = ctx.channels.get(taken.channel)
    if send is None:
        ctx.queue.over(taken)  # a channel that the configuration no longer has
        return False
    told = payload(taken.alert, iso(taken.alert.at_ms) or "", more=taken.stands_for - 1)
    try:
        send(told)
    except Exception as error:
        # Whatever a channel raises: no alert may end the messenger.
        reason = str(error) if isinstance(error, OkasieError) else type(error).__name__
        if taken.tries >= len(_WAITS):
            log.error("alert given up", **facts, tries=taken.tries + 1, reason=reason)  # noqa: TRY400 - a condition
            ctx.queue.over(taken)
        else:
            log.warning("alert not delivered", **facts, tries=taken.tries + 1, reason=reason)
            ctx.queue.again(taken, seconds=_WAITS[taken.tries])
        return False
    log.info("alert sent", **facts, more=taken.stands_for - 1)
    ctx.queue.over(taken)
    return True


class AlertNotifier(threading.Thread):
    """Looks and sends every few seconds, as long as its worker lives."""

    def __init__(self, ctx: AlertContext, every_seconds: float = LOOK_SECONDS) -> None:
        super().__init__(name="okasie-alerts", daemon=True)
        self._ctx, self._every = ctx, every_seconds

    def run(self) -> None:
        pause = threading.Event()
        while not pause.wait(self._every):
            try:
                detect(self._ctx)
                deliver(self._ctx)
            except Exception as error:
                log.warning("alerts could not be looked for", error=type(error).__name__, reason=str(error))
