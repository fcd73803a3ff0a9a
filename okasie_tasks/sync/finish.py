"""Ending: how a run is closed, what its record tells, and what the account keeps of it."""

from __future__ import annotations

import json
from logging import ERROR, INFO, WARNING
from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.core.estimates import minimum_requests
from okasie_tasks.core.records import merge_counts
from okasie_tasks.logs import get_logger
from okasie_tasks.sync import fetch, plan_review
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

_SENDING: Final = ("first", "walk", "upsert", "sell", "count")
"""Stages whose parts send requests."""


def note_error(ctx: AccountContext, run_id: str, code: str, message: str, where: str) -> None:
    """Keep the first error of a run: it tells the cause, the others follow from it."""
    error = {"code": code, "message": message, "where": where or None}
    ctx.runs.note_once(run_id, "error", json.dumps(error))


def stop(ctx: AccountContext, run_id: str, code: str, message: str, where: str) -> None:
    """End a run at once, with the reason; parts that are under way find it ended."""
    run = ctx.runs.get(run_id)
    if run is not None and run.open:
        note_error(ctx, run_id, code, message, where)
        end(ctx, run, "failed")


def cancelled(ctx: AccountContext, run_id: str) -> Run | None:
    """End a run that a person has cancelled, once no request of it is under way; the run if it is over, else None.

    What is under way settles the ledger first, so that nothing that was sent is forgotten. The cursor stays.
    """
    run = ctx.runs.get(run_id)
    if run is not None and run.open:
        if ctx.runs.controls.in_flight(run_id, _SENDING):
            return None
        end(ctx, run, "cancelled")
        run = ctx.runs.get(run_id)
    return run


def end(ctx: AccountContext, run: Run, state: str) -> None:
    """End a run that has nothing left to do, or must not go on; ``done`` may become ``partial`` or ``held``."""
    run = ctx.runs.get(run.id) or run
    if not run.open:
        return  # by somebody else, and what it held may be of the past by now
    outcomes = [msgspec.convert(result, PartitionResult) for result in ctx.runs.parts.results(run.id, "diff")]
    applied = merge_counts(result for stage in ("upsert", "sell") for result in ctx.runs.parts.results(run.id, stage))
    if state == "done" and not run.plan_only:
        state = _state(ctx, run, outcomes, applied)
    account: dict[str, str] = {}
    if state in ("done", "held") and not run.plan_only:
        _forget_vanished_rejects(ctx, run)
        # What a guard held back is no measure for the next read: a feed that stays cut must stay suspicious.
        account = _learned(ctx, run, outcomes) | (_accepted(run) if state == "done" else {})
        ctx.runs.note(run.id, held_run=plan_review.settle(ctx, run))
    ctx.runs.note(run.id, **_report(ctx, run, outcomes, applied))
    cursor = run.facts.get("cursor_next", "") if state in ("done", "held") and not run.plan_only else ""
    before = ctx.runs.account(run.account).cursor if cursor else ""
    ctx.runs.end(run, state, cursor=cursor, account_facts=account)
    # A plan is read after its end; of other runs only the record stays.
    ctx.runs.data.clear(run.id, but=("sends:", "sells") if run.plan_only else ())
    _tell(ctx, run.id, before)


def _tell(ctx: AccountContext, run_id: str, cursor_before: str) -> None:
    """The lines of an end: what came of it, what waits for a person, where the cursor stands."""
    run = ctx.runs.get(run_id)
    if run is None:
        return
    whose = {"account": run.account, "run": run.id}
    level = {"failed": ERROR, "partial": WARNING}.get(run.state, INFO)
    error = json.loads(run.facts.get("error", "{}"))
    log.log(
        level,
        "run ended",
        **whose,
        state=run.state,
        mode=run.mode,
        seconds=round((run.ended_ms - run.created_ms) / 1000, 3),
        listings=json.loads(run.facts.get("listings", "{}")),
        requests=run.counts,
        **({"code": error["code"], "reason": error["message"], "where": error["where"]} if error else {}),
    )
    if run.state == "held":
        for held in plan_review.holds_of(run):
            facts = {"guard": held.guard, "dealer": held.dealer, "what": held.what, "count": held.count}
            log.warning("plan held", **whose, held_run=run.facts.get("held_run"), **facts, reason=held.reason)
    if run.facts.get("cursor"):
        log.info("cursor moved", **whose, before=cursor_before or None, cursor=run.facts["cursor"])


def _state(ctx: AccountContext, run: Run, outcomes: list[PartitionResult], applied: dict[str, int]) -> str:
    failed = sum(ctx.runs.parts.stage(run.id, stage).failed for stage in ("walk", "diff", "spool", "upsert", "sell"))
    if unread := sum(outcome.counts.get("unread", 0) for outcome in outcomes):
        told = (
            f"the list moved while it was read, {fetch.MOST_ROUNDS} times: {unread} new listings wait for a whole read"
        )
        note_error(ctx, run.id, "walk_incomplete", told, "GET /listings")
    if failed or applied.get("unanswered") or unread:
        return "partial"
    return "held" if plan_review.holds_of(run) else "done"


def _learned(ctx: AccountContext, run: Run, outcomes: list[PartitionResult]) -> dict[str, str]:
    """What this run taught about the account, whether or not something is held."""
    facts: dict[str, str] = {}
    if provider := plan_review.own_provider(ctx, run, outcomes):
        facts["provider"] = provider
    waiting = any(found.what == "take-over" for found in plan_review.holds_of(run))
    # Whose the rows are that the source lacks may only be known once there are rows of ours beside them.
    known = provider or not any(outcome.preexisting for outcome in outcomes)
    if run.fact("taking_over"):
        decided = run.fact("walk_complete") and known and not waiting
        facts["take_over"] = "decided" if decided else "open"
    return facts


def _accepted(run: Run) -> dict[str, str]:
    """What the next run is measured by."""
    facts = {"rows": run.facts.get("rows", "0")}
    if "profiles" in run.facts:
        facts["profiles"] = run.facts["profiles"]
    return facts


def _forget_vanished_rejects(ctx: AccountContext, run: Run) -> None:
    """A parked row that this complete read did not meet again is no longer a reject."""
    gone = [r.reference for r in ctx.ledger.all_rejects() if r.run and r.run != run.id]
    ctx.ledger.remove_rejects(gone)


def _report(ctx: AccountContext, run: Run, outcomes: list[PartitionResult], applied: dict[str, int]) -> dict[str, Any]:
    decided = merge_counts(outcome.counts for outcome in outcomes)
    pages = fetch.last_round(ctx, run)
    taken = run.fact("preexisting")
    listings = {
        "local": run.fact("rows"),
        "remote": sum(page.get("rows", 0) for page in pages),
        "unchanged": decided.get("unchanged", 0),
        "created": applied.get("created", 0),
        "updated": applied.get("updated", 0),
        "sold": applied.get("sold", 0),
        "rejected": ctx.ledger.reject_count(),
        "held": run.fact("held_count"),
        "drifted": decided.get("drifted", 0),
        "conflicts": decided.get("conflicts", 0),
        "foreign": decided.get("foreign", 0) - taken + sum(page.get("nameless", 0) for page in pages),
    }
    sent, sold = run.fact("planned_upserts"), run.fact("planned_sells")
    minimum = minimum_requests(rows_listed=run.fact("total_items"), upserts=sent, sells=sold)
    rejects = sum(outcome.new_rejects for outcome in outcomes) + applied.get("new_rejects", 0)
    return {
        "unoffered": decided.get("unoffered", 0),
        "listings": json.dumps(listings),
        "minimum": minimum,
        "new_rejects": rejects,
        "skipped_images": applied.get("skipped_images", 0),
    }
