"""Ends a run: its final state, its report, and the facts that the account keeps."""

from __future__ import annotations

import json
from logging import ERROR, INFO, WARNING
from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.core.estimates import minimum_requests
from okasie_tasks.core.records import merge_counts
from okasie_tasks.logs import get_logger
from okasie_tasks.sync import failover, fetch, held_changes, plan_review, waiting_sells
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.telemetry import tracing

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

_SENDING: Final = ("first", "walk", "upsert", "sell", "count")
"""Stages whose parts send requests."""
_APPLIED: Final = ("upsert", "confirm", "sell")
"""Stages whose results add up to what was done with the plan."""
_CAN_FAIL: Final = ("walk", "diff", "spool", *_APPLIED)


def note_error(ctx: AccountContext, run_id: str, code: str, message: str, where: str) -> None:
    """Record the first error of a run. It is the cause; later errors are its consequences."""
    error = {"code": code, "message": message, "where": where or None}
    ctx.runs.note_once(run_id, "error", json.dumps(error))


def stop(ctx: AccountContext, run_id: str, code: str, message: str, where: str) -> None:
    """End a run at once as failed, with the reason. Parts in progress find it ended."""
    run = ctx.runs.get(run_id)
    if run is not None and run.open:
        note_error(ctx, run_id, code, message, where)
        end(ctx, run, "failed")


def cancelled(ctx: AccountContext, run_id: str) -> Run | None:
    """End a run that an operator has cancelled, once none of its requests is in progress.

    Returns the run if it has ended, else None. Requests in progress update the ledger first, so that it contains
    everything that was sent. The cursor does not change.
    """
    run = ctx.runs.get(run_id)
    if run is not None and run.open:
        if ctx.runs.controls.in_flight(run_id, _SENDING):
            return None
        end(ctx, run, "cancelled")
        run = ctx.runs.get(run_id)
    return run


def end(ctx: AccountContext, run: Run, state: str) -> None:
    """End a run that is finished or must stop. ``done`` may become ``partial`` or ``held``."""
    run = ctx.runs.get(run.id) or run
    if not run.open:
        return  # another worker has ended it, and its held plan may be outdated by now
    outcomes = [msgspec.convert(result, PartitionResult) for result in ctx.runs.parts.results(run.id, "diff")]
    applied = merge_counts(result for stage in _APPLIED for result in ctx.runs.parts.results(run.id, stage))
    if state == "done" and not run.plan_only:
        state = _state(ctx, run, outcomes, applied)
    account: dict[str, str] = {}
    if state in ("done", "held") and not run.plan_only:
        account = failover.healed(ctx, run)
        _forget_vanished_rejects(ctx, run)
        # A held run is no baseline for the next read: a feed that stays truncated must trip the guard again.
        if not run.fact("outdated"):
            account |= _ownership_facts(ctx, run, outcomes) | (_baseline(run) if state == "done" else {})
        ctx.runs.note(run.id, held_run=plan_review.store_held_plan(ctx, run))
    report, waiting = _report(ctx, run, outcomes, applied)
    ctx.runs.note(run.id, **report)
    if not run.plan_only:
        waiting_sells.note(ctx, run, waiting if state in ("done", "held", "partial") else None)
    moves = state in ("done", "held") and not run.plan_only and not run.fact("outdated")
    cursor = run.facts.get("cursor_next", "") if moves else ""
    if run.fact("outdated") and run.fact("folded"):
        ctx.runs.request(run.account, run.mode)
    before = ctx.runs.account(run.account).cursor if cursor else ""
    ctx.runs.end(run, state, cursor=cursor, account_facts=account)
    if run.fact("walked_all") and not run.plan_only and state in ("done", "held"):
        ctx.ledger.known.prune(run.fact("number"), entries=ctx.ledger.count())
    _record_span(run, state, ctx.runs.now_ms())
    # The plan of a dry run is read after its end; other runs keep only their record.
    ctx.runs.data.clear(run.id, but=held_changes.KEPT_FOR_PLANS if run.plan_only else ())
    ctx.runs.blocks.clear(run.account, run.id)
    _log_end(ctx, run.id, before)


def _record_span(run: Run, state: str, now_ms: int) -> None:
    """Record the whole run as one span of its trace."""
    about = {"okasie.account": run.account, "okasie.run": run.id, "okasie.state": state}
    parent, began_ms = run.facts.get("traceparent", ""), run.started_ms or run.created_ms
    tracing.record(f"{run.mode} run", about, parent=parent, began_ms=began_ms, ended_ms=now_ms)


def _log_end(ctx: AccountContext, run_id: str, cursor_before: str) -> None:
    """Log how a run ended, which changes need approval, and the new cursor."""
    run = ctx.runs.get(run_id)
    if run is None:
        return
    context = {"account": run.account, "run": run.id}
    level = {"failed": ERROR, "partial": WARNING}.get(run.state, INFO)
    error = json.loads(run.facts.get("error", "{}"))
    log.log(
        level,
        "run ended",
        **context,
        state=run.state,
        mode=run.mode,
        seconds=round((run.ended_ms - run.created_ms) / 1000, 3),
        listings=json.loads(run.facts.get("listings", "{}")),
        requests=run.counts,
        **({"code": error["code"], "reason": error["message"], "where": error["where"]} if error else {}),
    )
    if run.state == "held":
        for hold in plan_review.holds_of(run):
            facts = {"guard": hold.guard, "dealer": hold.dealer, "what": hold.what, "count": hold.count}
            log.warning("plan held", **context, held_run=run.facts.get("held_run"), **facts, reason=hold.reason)
    if run.facts.get("cursor"):
        log.info("cursor moved", **context, before=cursor_before or None, cursor=run.facts["cursor"])


def _state(ctx: AccountContext, run: Run, outcomes: list[PartitionResult], applied: dict[str, int]) -> str:
    failed = sum(ctx.runs.parts.stage(run.id, stage).failed for stage in _CAN_FAIL)
    if unread := sum(outcome.counts.get("unread", 0) for outcome in outcomes):
        message = (
            f"the list changed during all {fetch.MOST_ROUNDS} reads: {unread} new listings wait for a complete read"
        )
        note_error(ctx, run.id, "walk_incomplete", message, "GET /listings")
    waiting = run.fact("unsettled") or applied.get("unconfirmed")
    if failed or unread or waiting:
        return "partial"
    return "held" if plan_review.holds_of(run) else "done"


def _ownership_facts(ctx: AccountContext, run: Run, outcomes: list[PartitionResult]) -> dict[str, str]:
    """Return the account facts about our provider and pre-existing listings. They do not depend on held changes."""
    facts: dict[str, str] = {}
    if provider := plan_review.own_provider(ctx, run, outcomes):
        facts["provider"] = provider
    waiting = any(hold.what == "take-over" for hold in plan_review.holds_of(run))
    # Whether rows missing from the source are ours is known only once other rows have shown our provider.
    known = provider or not any(outcome.preexisting for outcome in outcomes)
    if run.fact("taking_over"):
        # A row without a readable reference may be one of them: they are decided once the source is readable.
        decided = run.fact("walk_complete") and known and not waiting and not run.fact("nameless")
        facts["take_over"] = "decided" if decided else "open"
    return facts


def _baseline(run: Run) -> dict[str, str]:
    """Return the account facts that the guards compare the next run with."""
    facts = {"rows": run.facts.get("rows", "0")}
    if "profiles" in run.facts:
        facts["profiles"] = run.facts["profiles"]
    return facts


def _forget_vanished_rejects(ctx: AccountContext, run: Run) -> None:
    """Remove rejects of rows that this complete read no longer contains."""
    gone = [r.reference for r in ctx.ledger.all_rejects() if r.run and r.run != run.id]
    ctx.ledger.remove_rejects(gone)


def _rejected(ctx: AccountContext, run: Run, outcomes: list[PartitionResult]) -> int:
    """Count what is rejected now; for a dry run, what would be after it."""
    if not run.plan_only:
        return ctx.ledger.reject_count()
    pushed = sum(not reject.run for reject in ctx.ledger.all_rejects())
    return run.fact("nameless") + pushed + sum(outcome.rejected for outcome in outcomes)


def _report(
    ctx: AccountContext, run: Run, outcomes: list[PartitionResult], applied: dict[str, int]
) -> tuple[dict[str, Any], int]:
    """Return the facts of the report, and how many sells wait."""
    decided = merge_counts(outcome.counts for outcome in outcomes)
    pages = fetch.last_round(ctx, run)
    taken, unconfirmed = run.fact("preexisting"), applied.get("unconfirmed", 0)
    listings = {
        "local": run.fact("rows"),
        "remote": sum(page.get("rows", 0) for page in pages),
        "unchanged": decided.get("unchanged", 0),
        "created": applied.get("created", 0),
        "updated": applied.get("updated", 0),
        "sold": applied.get("sold", 0),
        "rejected": _rejected(ctx, run, outcomes),
        "held": run.fact("held_count"),
        "drifted": decided.get("drifted", 0),
        "conflicts": decided.get("conflicts", 0),
        "warnings": decided.get("warnings", 0) + applied.get("warnings", 0),
        "foreign": decided.get("foreign", 0) - taken + sum(page.get("nameless", 0) for page in pages),
        "skipped": run.fact("skipped"),
        "already_sold": decided.get("already_sold", 0),
        "sells_waiting": decided.get("sells_waiting", 0) + unconfirmed + run.fact("preexisting_waiting"),
    }
    sent, sold = run.fact("planned_upserts"), run.fact("planned_sells")
    minimum = minimum_requests(rows_listed=run.fact("total_items"), upserts=sent, sells=sold)
    rejects = sum(outcome.new_rejects for outcome in outcomes) + applied.get("new_rejects", 0)
    report = {
        "lacking": decided.get("lacking", 0),
        "unoffered": decided.get("unoffered", 0),
        "listings": json.dumps(listings),
        "minimum": minimum,
        "new_rejects": rejects + run.fact("nameless_new"),
        "skipped_images": applied.get("skipped_images", 0),
        "unconfirmed": unconfirmed,
    }
    run.facts |= {name: str(value) for name, value in report.items()}
    return report, listings["sells_waiting"]
