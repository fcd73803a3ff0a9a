"""Runs, plans and accounts as documents that commands, the API and the console show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.core.estimates import Forecast, forecast
from okasie_tasks.core.guards import Held, HeldPlan, is_held
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.core.records import Planned
from okasie_tasks.reports.held import is_of_run, items_document, plan_of_run
from okasie_tasks.reports.listing import event_document, iso
from okasie_tasks.reports.progress import (
    STAGES,
    before_run,
    during_run,
    progress,
    progress_by_kind,
    progress_document,
    progress_text,
    requests_sent,
)
from okasie_tasks.reports.rejects import incomplete_source, new_rejects, rejects_of_plan
from okasie_tasks.reports.run_page import page_document
from okasie_tasks.reports.run_record import outcome_text, run_document
from okasie_tasks.store.records import KEEP_RUNS, Run
from okasie_tasks.store.request_stats import Traces
from okasie_tasks.sync import held_changes, plan_review
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.spool import changes_of

if TYPE_CHECKING:
    from okasie_tasks.services import Services

__all__ = [
    "STAGES", "account_document", "before_run", "during_run", "outcome_text", "pause_hint", "plan_document", "progress",
    "progress_by_kind", "progress_document", "progress_text", "requests_sent", "run_details", "run_document",
    "runs_document",
]  # fmt: skip

_CONFLICTS: Final = 10
_MODES: Final = ("incremental", "full")


_UNKNOWN_LIMIT: Final = 120
"""Requests a minute of a run whose account is no longer configured."""


def run_details(services: Services, record: Run) -> dict[str, Any]:
    """Return one run with its phases, requests, progress, new rejects and held changes, as ``okasie run`` prints it."""
    account = services.settings.accounts.get(record.account)
    limit = account.requests_per_minute if account else _UNKNOWN_LIMIT
    document = page_document(services.runs, record, Traces(services.runs).read(record.id), limit=limit)
    document["stages"] = {
        stage: {"closed": closed, "parts": total} for stage, (closed, total) in progress(services.runs, record).items()
    }
    document["rejects"] = new_rejects(services.ledger(record.account), record)
    ctx = services.context(record.account) if account else None
    plan = plan_of_run(ctx, record) if ctx is not None else None
    document["waits_for_approval"] = record.state == "held" and plan is not None
    if plan is not None:
        document |= items_document(services.plans.changes(record.account), plan.count)
    return document


def runs_document(services: Services, account: str, limit: int = 20, after: str = "") -> dict[str, Any]:
    """Return a page of the account's runs, newest first. ``after``: ``next`` of the page before.

    ``waits_for_approval``: what a held run held back still waits; a newer plan, or a decision, may have ended that.
    """
    plan = plan_review.held_plan(services.context(account))
    names = services.runs.history(account, KEEP_RUNS)
    names = names[names.index(after) + 1 :] if after in names else names
    records = [services.runs.get(name) for name in names[:limit]]
    return {
        "account": account,
        "runs": [
            run_document(services.runs, record)
            | {"waits_for_approval": record.state == "held" and is_of_run(plan, record)}
            for record in records
            if record is not None
        ],
        "next": names[limit - 1] if len(names) > limit else None,
    }


def plan_document(ctx: AccountContext, run: Run, quota: LimiterStatus) -> dict[str, Any]:
    """Return a plan: the run's document, every change with its reason, and how long sending would take."""
    blocks, holds = json.loads(run.facts.get("blocks", "[]")), plan_review.holds_of(run)
    rekeyed = plan_review.rekeyed_of(run)
    held_items = json.loads(run.facts.get("held_items", "[]"))
    return {
        **run_document(ctx.runs, run),
        "changes": [_change(change, holds, rekeyed) for change in changes_of(ctx, run.id, blocks)],
        **items_document(held_changes.collect(ctx, run.id, held_items), run.fact("held_count")),
        "planned": {"upserts": run.fact("planned_upserts"), "sells": run.fact("planned_sells")},
        "rejects": rejects_of_plan(ctx, run.id),
        "forecast": _built(forecast(run.fact("minimum"), per_minute=quota.limit)),
    }


def _change(change: Planned, holds: Sequence[Held], rekeyed: frozenset[str]) -> dict[str, Any]:
    return {
        "reference": change.reference,
        "action": change.action,
        "reason": change.why,
        "fields": list(change.fields),
        "row": change.row if change.row > 0 else None,
        "held": is_held(change, holds, rekeyed),
    }


def account_document(ctx: AccountContext, limiter: LimiterStatus) -> dict[str, Any]:
    """Return one account as ``okasie status`` prints it. ``stale_seconds``: since the last successful run, or None."""
    runs, ledger, account = ctx.runs, ctx.ledger, ctx.policy.account
    history = [run for name in runs.history(account, 20) if (run := runs.get(name)) is not None]
    now = runs.now()
    good = next((run for run in history if run.state in ("done", "held") and not run.plan_only), None)
    plan = plan_review.held_plan(ctx)
    active, listings = runs.active(account), ledger.count()
    working = next((run for run in history if run.id == active and run.open), None)
    queued = next((run for run in history if run.state == "queued"), None)
    paused_ms = runs.controls.paused_ms(account)
    lost = runs.lost_writes(account, look=False)
    return {
        "account": account,
        "active": active,
        "waiting": runs.waiting(account),
        "progress": progress_document(ctx, working) if working else None,
        "waiting_progress": progress_document(ctx, queued) if queued else None,
        "paused_since": iso(paused_ms),
        "paused_by": (runs.controls.paused_by(account) or None) if paused_ms else None,
        "cursor": runs.account(account).cursor or None,
        "last_run": run_document(runs, history[0]) if history else None,
        "last_success_run": good.id if good else None,
        "stale_seconds": round(now - good.ended_ms / 1000, 1) if good else None,
        "rejects": ledger.reject_count(),
        **incomplete_source(ledger),
        "ledger_behind_since": iso(lost.from_ms) if lost else None,
        "skipped_images": ledger.skipped_count(),
        **_held(plan),
        "quota": _quota(limiter),
        "lanes": {"urgent": limiter.waiting_urgent, "bulk": limiter.waiting_bulk},
        "pushes_waiting": ctx.urgent_queue.count(),
        "conflicts": [
            {"reference": name, **event_document(event)} for name, event in ctx.history.conflicts(_CONFLICTS)
        ],
        "forecast": {
            "active": _built(during_run(progress(runs, working), working, limiter)) if working else None,
            **{mode: _built(before_run(mode, listings=listings, quota=limiter)) for mode in _MODES},
        },
    }


def _quota(limiter: LimiterStatus) -> dict[str, Any]:
    return {
        "limit": limiter.limit,
        "used_last_minute": limiter.used_last_minute,
        "remaining": limiter.remaining,
        "learned_limit": limiter.learned_limit,
        "foreign": limiter.foreign,
        "caution": limiter.caution,
        "probing": limiter.probing,
        "pause_seconds": limiter.pause_seconds,
        "pause_reason": limiter.pause_reason or None,
    }


def pause_hint(ctx: AccountContext) -> str:
    """Return that the account is paused and how to resume it, for a caller who waits; "" when it is not paused."""
    account = ctx.policy.account
    since = ctx.runs.controls.paused_ms(account)
    if not since:
        return ""
    return f"account {account} is paused since {iso(since)}; `okasie resume {account}` resumes it"


def _held(plan: HeldPlan | None) -> dict[str, Any]:
    if plan is None:
        return {"held": [], "held_plan": None}
    return {
        "held": [msgspec.to_builtins(hold) for hold in plan.holds],
        "held_plan": {
            "run": plan.run,
            "hash": plan.hash,
            "count": plan.count,
            "created_at": iso(plan.created_ms),
            "expires_at": iso(plan.expires_ms),
        },
    }


def _built(prediction: Forecast) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(prediction)
    return built
