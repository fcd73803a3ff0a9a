"""Watchdog: finds in the run record which messages were lost, and publishes their parts again.

Each check advances a run whose phase is finished, and quarantines parts that crash their workers. The open parts of a
run without progress are published again, at most once per `WatchdogTimeouts.stalled`; so is a part that was left behind
by those published after it. A duplicate message finds its part claimed or closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from okasie_tasks.logs import get_logger
from okasie_tasks.sync import finish, phases
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

LOOK_SECONDS: Final = 5.0
"""Between two checks. With `WatchdogTimeouts.stalled`, a lost message is replaced within 18 s."""
Parts = tuple[str, str, Sequence[int]]
"""What to publish: run, stage, parts."""

_LEFT_BEHIND_SECONDS: Final = 15
"""Permits are given in the order of publishing. A part behind by this much quota was lost with its worker."""

_DEATHS_APART_MS: Final = 1000
"""A worker dies with many messages: one check is enough for all of them."""
_DELAYED_FACTOR: Final = 4
"""While other messages wait before its own, a run is stalled only after this many times `WatchdogTimeouts.stalled`."""


class WatchdogTimeouts(NamedTuple):
    """How long the watchdog waits before it acts, in seconds."""

    stalled: float = 13.0
    """Without progress. Longer than the limiter's longest wait (12 s): waiting for a permit counts as progress."""
    unmoved: float = 5.0
    """After the last part of a phase, for the message that advances the run."""
    deadline: float = 24 * 3600.0
    """For the whole run: full runs are daily, and a day's quota covers seventeen million listings."""


USUAL: Final = WatchdogTimeouts()
HURRIED: Final = WatchdogTimeouts(stalled=4.0, unmoved=1.0)
"""Just after Redis was unreachable: messages and claims may be lost, and live workers have resumed within this time."""
HURRY_SECONDS: Final = 20.0


def look(
    ctx: AccountContext,
    account: str,
    timeouts: WatchdogTimeouts = USUAL,
    *,
    waiting: Callable[[str], bool] = lambda _: False,
) -> Iterator[Parts]:
    """Yield what to publish again for the account's run.

    ``waiting``: whether messages for this stage are still in the queue; then they are delayed, not lost.
    """
    run_id = ctx.runs.active(account)
    run = ctx.runs.get(run_id) if run_id else None
    if run is None or run.state != "running":
        return
    if ctx.runs.controls.paused_ms(account) and not run.cancelling:
        return
    now_ms = ctx.runs.now_ms()
    if now_ms - run.started_ms > timeouts.deadline * 1000:
        hours = f"{timeouts.deadline / 3600:g}"
        finish.stop(ctx, run.id, "deadline", f"not finished after {hours} hours; the next run continues from there", "")
        return
    if not phases.is_known(run.stage):
        if now_ms - run.progress_ms >= timeouts.stalled * 1000:
            about = {"account": account, "run": run.id, "stage": run.stage}
            log.warning("run is in a phase of a newer release, whose workers must continue it", **about)
        return
    yield from _finished(ctx, run, now_ms, timeouts)
    if now_ms - max(run.fact("republished_ms"), run.progress_ms) >= timeouts.stalled * 1000:
        delayed = now_ms - run.progress_ms < _DELAYED_FACTOR * timeouts.stalled * 1000
        yield from _stalled(ctx, run, now_ms, waiting if delayed else lambda _: False)
    elif now_ms - run.fact("republished_ms") >= timeouts.stalled * 1000:
        yield from _left_behind(ctx, run, now_ms)


def after_worker_death(
    ctx: AccountContext, run_id: str, *, waiting: Callable[[str], bool] = lambda _: False
) -> Iterator[Parts]:
    """Yield what to publish again after a redelivered message whose part is already closed.

    Its worker died after closing the part, perhaps while publishing the next parts.
    """
    run = ctx.runs.get(run_id)
    now_ms = ctx.runs.now_ms()
    if run is None or run.state != "running" or now_ms - run.fact("republished_ms") < _DEATHS_APART_MS:
        return
    yield from _finished(ctx, run, now_ms, USUAL._replace(unmoved=0.0))
    run = ctx.runs.get(run_id)
    if run is not None and run.state == "running":
        yield from _stalled(ctx, run, now_ms, waiting)


def _stages(run: Run) -> tuple[str, ...]:
    return phases.APPLY if run.stage == "apply" else (run.stage,)


def _finished(ctx: AccountContext, run: Run, now_ms: int, timeouts: WatchdogTimeouts) -> Iterator[Parts]:
    """Quarantine exhausted parts, and advance the run if only they, or a lost message, were missing."""
    exhausted = [(stage, part) for stage in _stages(run) for part in ctx.runs.parts.quarantine_exhausted(run.id, stage)]
    for stage, part in exhausted:
        reason = f"{stage} part {part} exceeded the maximum number of claims; it appears to crash its worker"
        log.error("part quarantined", account=run.account, run=run.id, part=f"{stage} {part}", reason=reason)
        finish.note_error(ctx, run.id, "poison", reason, "")
    if exhausted or now_ms - run.progress_ms >= timeouts.unmoved * 1000:
        phases.advance(ctx, run.id)
        yield from _windows(ctx, run.id)


def _windows(ctx: AccountContext, run_id: str) -> Iterator[Parts]:
    run = ctx.runs.get(run_id)
    if run is not None and run.state == "running":
        for stage, parts in phases.windows(ctx, run_id, run.stage):
            yield run_id, stage, parts


def _stalled(ctx: AccountContext, run: Run, now_ms: int, waiting: Callable[[str], bool]) -> Iterator[Parts]:
    now = ctx.runs.get(run.id)
    if now is None or (now.stage, now.progress_ms) != (run.stage, run.progress_ms):
        return  # it has made progress since
    ctx.runs.note(run.id, republished_ms=now_ms)
    for stage in _stages(run):
        lost = [] if waiting(stage) else ctx.runs.parts.open_parts(run.id, stage)
        if lost:
            log.warning("parts are published again", account=run.account, run=run.id, stage=stage, parts=len(lost))
            yield run.id, stage, lost[:10] if stage in ("walk", "upsert", "sell") else lost


def open_again(ctx: AccountContext, run_id: str) -> Iterator[Parts]:
    """Yield all open parts of a run, as ``(run, stage, parts)``, when it is unknown which of its messages remain."""
    phases.advance(ctx, run_id)
    yield from _windows(ctx, run_id)
    run = ctx.runs.get(run_id)
    if run is None or run.state != "running":
        return
    for stage in _stages(run):
        if parts := ctx.runs.parts.open_parts(run_id, stage):
            yield run_id, stage, parts


def _left_behind(ctx: AccountContext, run: Run, now_ms: int) -> Iterator[Parts]:
    behind = max(1, ctx.policy.per_minute * _LEFT_BEHIND_SECONDS // 60)
    for stage in {"walk": ("walk",), "apply": ("upsert", "sell")}.get(run.stage, ()):
        reached = ctx.runs.parts.stage(run.id, stage).published - behind
        if lost := [part for part in ctx.runs.parts.open_parts(run.id, stage) if part < reached]:
            ctx.runs.note(run.id, republished_ms=now_ms)
            log.warning("parts left behind", account=run.account, run=run.id, stage=stage, parts=len(lost))
            yield run.id, stage, lost


def may_begin(ctx: AccountContext, account: str) -> bool:
    """Return whether a run is queued and no other is running: the message that should have begun it was lost."""
    if ctx.runs.waiting(account) is None or ctx.runs.controls.paused_ms(account):
        return False
    active = ctx.runs.active(account)
    return active is None or ctx.runs.state(active) != "running"


class WatchdogThread(threading.Thread):
    """Calls ``look(seconds until the next call, hurried)`` periodically, and more often after a call that failed."""

    def __init__(self, look: Callable[[float, bool], None], every_seconds: float) -> None:
        super().__init__(name="okasie-watchdog", daemon=True)
        self._look, self._every = look, every_seconds

    def run(self) -> None:
        pause, hurry_until = threading.Event(), 0.0
        while True:
            hurried = time.monotonic() < hurry_until
            every = min(self._every, 1.0) if hurried else self._every
            pause.wait(every)
            try:
                self._look(every, hurried)
            except Exception as error:
                # The thread must survive every error.
                log.warning("watchdog check failed", error=type(error).__name__, reason=str(error))
                hurry_until = time.monotonic() + HURRY_SECONDS
