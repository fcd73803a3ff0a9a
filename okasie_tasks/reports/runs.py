"""Run records as documents that commands print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.core.estimates import Forecast, forecast, to_read, to_send
from okasie_tasks.core.guards import Held, HeldPlan, is_held
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.core.records import Planned
from okasie_tasks.reports.held import items_document
from okasie_tasks.reports.listing import event_document, iso
from okasie_tasks.reports.rejects import incomplete_source, rejects_of_plan
from okasie_tasks.store.records import Run
from okasie_tasks.sync import held_changes, plan_review, waiting_sells
from okasie_tasks.sync.context import AccountContext
from okasie_tasks.sync.lost_fields import lost_reasons
from okasie_tasks.sync.spool import changes_of

if TYPE_CHECKING:
    from okasie_tasks.store.runs import Runs

_LISTINGS: Final = (
    "local", "remote", "unchanged", "created", "updated", "sold", "rejected", "held", "drifted", "conflicts", "foreign",
    "skipped", "warnings", "sells_waiting",
)  # fmt: skip
_KINDS: Final = ("list", "bulk", "put", "delete")
_CONFLICTS: Final = 10
_MODES: Final = ("incremental", "full")
STAGES: Final = {
    "first": "pages", "walk": "pages", "load": "blocks read", "diff": "diffed", "spool": "spooled",
    "upsert": "upserted", "confirm": "sells confirmed", "sell": "sold",
}  # fmt: skip
"""The label of each stage's parts when progress is shown."""


def run_document(runs: Runs, run: Run) -> dict[str, Any]:
    """Return one run as ``okasie sync --json`` prints it. Keys may be added; none is renamed."""
    listings = json.loads(run.facts.get("listings", "{}"))
    ended = run.ended_ms or runs.now_ms()
    document = {
        "run": run.id,
        "account": run.account,
        "mode": run.mode,
        "state": run.state,
        "listings": {name: listings.get(name, 0) for name in _LISTINGS},
        "requests": {
            **{kind: run.counts.get(f"requests.{kind}", 0) for kind in _KINDS},
            "retried": run.counts.get("retried", 0),
            "rate_limited": run.counts.get("rate_limited", 0),
            "minimum": run.fact("minimum"),
        },
        "seconds": round((ended - run.created_ms) / 1000, 3),
        "cursor": run.facts.get("cursor") or runs.account(run.account).cursor or None,
        "created_at": iso(run.created_ms),
        "started_at": iso(run.started_ms),
        "ended_at": iso(run.ended_ms),
        "new_rejects": run.fact("new_rejects"),
        "skipped_images": run.fact("skipped_images"),
        "held": json.loads(run.facts.get("held", "[]")),
        "held_run": run.facts.get("held_run") or None,
        "approved": run.facts.get("released") or None,
        "replaced_by": run.facts.get("replaced_by") or None,
        "control": json.loads(run.facts["control"]) if "control" in run.facts else None,
        "notes": list(_notes(run)),
        "error": json.loads(run.facts["error"]) if "error" in run.facts else None,
    }
    if "nameless_where" in run.facts:
        document["unreadable_references"] = json.loads(run.facts["nameless_where"])
    return document


def _notes(run: Run) -> Iterator[str]:
    """Yield what an operator should know about a run that is not an error."""
    if run.cancelling:
        yield f"cancelled by an operator at {iso(run.fact('cancel_ms'))}; the cursor was not moved"
    if waiting := waiting_sells.sentence(run):
        yield waiting
    if run.fact("walk_moved"):
        yield "the marketplace's list changed while it was read: listings it did not return are not treated as missing"
    if unproven := run.fact("unproven"):
        yield f"{unproven} listings were not returned, but rows without a reference were: not treated as missing"
    yield from lost_reasons(run)
    if lacking := run.fact("lacking"):
        yield f"{lacking} rows of the list lack fields that we fill: these fields are not compared"
    if unoffered := run.fact("unoffered"):
        yield f"{unoffered} marketplace edits could not be offered to the source; they will be offered again"
    if "control" in run.facts:
        totals = json.loads(run.facts["control"])
        if totals["ours"] != totals["theirs"]:
            yield f"the marketplace counts {totals['theirs']} active listings, we count {totals['ours']}"
    if run.fact("outdated"):
        follows = "; an ordinary run follows" if run.fact("folded") else ""
        yield f"nothing was sent: the approved plan of run {run.facts.get('approves')} was outdated{follows}"
    if replacing := run.facts.get("replaced_by"):
        yield f"its held plan was replaced when run {replacing} planned again"
    if released := run.facts.get("released_by"):
        yield f"approved by an operator, sent with run {released}"


def progress(runs: Runs, run: Run) -> dict[str, tuple[int, int]]:
    """Return a run's progress: ``stage -> (closed parts, all parts known so far)``, for stages that have started."""
    states = {name: runs.parts.stage(run.id, name) for name in STAGES}
    return {name: (stage.closed, stage.total) for name, stage in states.items() if stage.total}


def progress_by_kind(stages: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return `progress` by label: ``pages`` adds up both stages that read pages."""
    shown: dict[str, tuple[int, int]] = {}
    for stage, (closed, total) in stages.items():
        before = shown.get(STAGES[stage], (0, 0))
        shown[STAGES[stage]] = (before[0] + closed, before[1] + total)
    return shown


def progress_text(stages: dict[str, tuple[int, int]], run: Run) -> str:
    """Return a run's progress in one line, the latest stage first: ``diffed 3/8, pages 17/17; 18 requests``."""
    parts = [f"{name} {closed}/{total}" for name, (closed, total) in progress_by_kind(stages).items()]
    return f"{', '.join(reversed(parts)) or 'starting'}; {requests_sent(run)} requests"


def requests_sent(run: Run) -> int:
    return sum(count for name, count in run.counts.items() if name.startswith("requests."))


def outcome_text(document: dict[str, Any]) -> str:
    """Return how a run ended, in one line: errors and what is held come first, then the counts."""
    state, error = document["state"], document["error"]
    counts = ", ".join(f"{count} {name}" for name, count in document["listings"].items() if count)
    sent = sum(document["requests"][kind] for kind in _KINDS)
    requests = f"{sent} requests, fewest possible {document['requests']['minimum']}"
    reasons = [f"{error['where'] + ': ' if error['where'] else ''}{error['message']}"] if error else []
    reasons += [f"{hold['count']} {hold['what']} held: {hold['reason']}" for hold in document["held"]]
    return "; ".join([*reasons, f"{state}: {counts or 'no listings'}", requests])


def before_run(mode: str, *, listings: int, quota: LimiterStatus) -> Forecast:
    """Return the least that a run will take, before it starts. ``listings``: the size of the ledger."""
    requests = to_read(listings, full=mode == "full")
    return forecast(requests, per_minute=quota.limit, pause_seconds=quota.pause_seconds, at_least=True)


def during_run(stages: dict[str, tuple[int, int]], run: Run, quota: LimiterStatus) -> Forecast:
    """Return what is left of a run, from its `progress` and its plan."""
    open_parts = {name: total - closed for name, (closed, total) in stages.items()}
    decided = run.stage == "apply"
    if decided:
        requests = to_send(
            upserts=run.fact("planned_upserts"),
            sells=run.fact("planned_sells"),
            chunks_done=stages.get("upsert", (0, 0))[0],
            chunks_open=open_parts.get("upsert", 0),
            sells_done=stages.get("sell", (0, 0))[0],
        )
    else:
        requests = open_parts.get("first", 0) + open_parts.get("walk", 0)
    pause = quota.pause_seconds
    return forecast(requests, per_minute=quota.limit, pause_seconds=pause, at_least=not decided)


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
    return {
        "account": account,
        "active": active,
        "waiting": runs.waiting(account),
        "paused_since": iso(runs.controls.paused_ms(account)),
        "cursor": runs.account(account).cursor or None,
        "last_run": run_document(runs, history[0]) if history else None,
        "last_success_run": good.id if good else None,
        "stale_seconds": round(now - good.ended_ms / 1000, 1) if good else None,
        "rejects": ledger.reject_count(),
        **incomplete_source(ledger),
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
