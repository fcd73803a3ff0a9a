"""What waits for a person, over all accounts, the most urgent first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.core.estimates import duration
from okasie_tasks.core.staleness import is_stale
from okasie_tasks.reports.listing import iso
from okasie_tasks.reports.staleness import stale_after
from okasie_tasks.store.records import KEEP_RUNS
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.services import Services
    from okasie_tasks.store.records import Run

KINDS: Final = (
    "key_refused", "failed", "held", "stale", "sells_waiting", "ledger_behind", "paused", "rejected", "conflicts",
    "quarantine", "discarded",
)  # fmt: skip
"""In the order of urgency."""
_KEY_CODES: Final = ("unauthorized", "scope")
_RECENT: Final = 20
_RECENT_MS: Final = 24 * 3600 * 1000
"""Conflicts, malformed messages and discarded requests of a day are shown: nothing has to be done with them."""


def attention_document(services: Services, accounts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what waits for a person in these accounts, and in the fleet (``account`` None)."""
    found = [entry for account in accounts for entry in _of_account(services, account)]
    found += _of_fleet(services)
    return sorted(found, key=lambda entry: (KINDS.index(entry["kind"]), entry["account"] or "~"))


def _entry(
    kind: str,
    account: str | None,
    text: str,
    *,
    count: int = 1,
    since_ms: int = 0,
    run: str | None = None,
    code: str | None = None,
) -> dict[str, Any]:
    """Return one entry. ``code``: of the error of a run that failed."""
    since = iso(since_ms)
    return {"account": account, "kind": kind, "count": count, "text": text, "since": since, "run": run, "code": code}


def _of_account(services: Services, account: str) -> Iterator[dict[str, Any]]:
    ctx = services.context(account)
    runs = (run for name in ctx.runs.history(account, KEEP_RUNS) if (run := ctx.runs.get(name)) is not None)
    ended = next((run for run in runs if not (run.open or run.plan_only or run.state == "cancelled")), None)
    if ended is not None and ended.state in ("failed", "partial"):
        yield _failed(account, ended)
    if (plan := plan_review.held_plan(ctx)) is not None:
        reasons = "; ".join(f"{hold.count} {hold.what}: {hold.reason}" for hold in plan.holds)
        yield _entry("held", account, reasons, count=plan.count, since_ms=plan.created_ms, run=plan.run)
    if paused_ms := ctx.runs.controls.paused_ms(account):
        yield _entry("paused", account, "nothing is sent until it is resumed", since_ms=paused_ms)
    elif stale := _stale(services, ctx):
        yield stale
    yield from _of_listings(ctx)


def _failed(account: str, run: Run) -> dict[str, Any]:
    error = json.loads(run.facts.get("error", "{}"))
    kind = "key_refused" if error.get("code") in _KEY_CODES else "failed"
    where = f"{error['where']}: " if error.get("where") else ""
    text = f"{where}{error['message']}" if error else f"the last run ended {run.state}"
    return _entry(kind, account, text, since_ms=run.ended_ms, run=run.id, code=error.get("code"))


def _stale(services: Services, ctx: AccountContext) -> dict[str, Any] | None:
    """Return that no run has succeeded for too long, by the rules of the alerts; an account without a run is new."""
    account, now_ms = ctx.policy.account, ctx.runs.now_ms()
    seconds = stale_after(services.account(account), services.settings.alerts)
    success = max(services.counters.read(account).success_ms.values(), default=0)
    first, active = ctx.runs.history(account, KEEP_RUNS)[-1:], ctx.runs.active(account)
    since_ms = success or max((run.created_ms for name in first if (run := ctx.runs.get(name))), default=0)
    since_ms = max(since_ms, ctx.runs.controls.resumed_ms(account))
    if not seconds or not since_ms:
        return None
    run = ctx.runs.get(active) if active else None
    moved_ms = run.progress_ms if run is not None and run.state == "running" else 0
    if not is_stale(since_ms=since_ms, now_ms=now_ms, after_seconds=seconds, moved_ms=moved_ms):
        return None
    text = f"no run has succeeded for {duration((now_ms - since_ms) / 1000)}"
    return _entry("stale", account, text if success else f"{text}; none ever did", since_ms=since_ms)


def _of_listings(ctx: AccountContext) -> Iterator[dict[str, Any]]:
    account, ledger = ctx.policy.account, ctx.ledger
    _, waiting = ledger.waiting_sells()
    if waiting.count:
        yield _entry("sells_waiting", account, waiting.reason, count=waiting.count)
    if lost := ctx.runs.lost_writes(account, look=False):
        text = "a full run compares everything before listings that the source lacks are sold"
        yield _entry("ledger_behind", account, text, count=0, since_ms=lost.from_ms)
    if count := ledger.reject_count():
        yield _entry("rejected", account, f"{count} listings are rejected", count=count)
    since_ms = ctx.runs.now_ms() - _RECENT_MS
    conflicts = [(name, event) for name, event in ctx.history.conflicts(_RECENT) if event.at_ms >= since_ms]
    conflicts = [(name, event) for name, event in conflicts if event.kind == "conflict"]
    if conflicts:
        name, last = conflicts[0]
        text = f"both sides changed the same listing, last {name}: {last.reason}"
        yield _entry("conflicts", account, text, count=len(conflicts), since_ms=last.at_ms)


def _of_fleet(services: Services) -> Iterator[dict[str, Any]]:
    since_ms = services.runs.now_ms() - _RECENT_MS
    malformed = [one for one in services.quarantine.summary(_RECENT).last if one.at_ms >= since_ms]
    if malformed:
        text = f"malformed messages, the last one in {malformed[0].queue}: {malformed[0].reason}"
        yield _entry("quarantine", None, text, count=len(malformed), since_ms=malformed[-1].at_ms)
    discarded = [one for one in services.discarded.summary(_RECENT).last if one.at_ms >= since_ms]
    if discarded:
        text = f"discarded requests, the last one of {discarded[0].account or 'no account'}: {discarded[0].reason}"
        yield _entry("discarded", None, text, count=len(discarded), since_ms=discarded[-1].at_ms)
