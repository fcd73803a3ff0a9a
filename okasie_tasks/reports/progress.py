"""The progress of a run, in parts and in cars, and how long it will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from okasie_tasks.core.estimates import ROWS_PER_PAGE, Forecast, forecast, to_read, to_send
from okasie_tasks.core.quota import LimiterStatus
from okasie_tasks.core.records import merge_counts
from okasie_tasks.store.records import Run
from okasie_tasks.sync.context import AccountContext

if TYPE_CHECKING:
    from okasie_tasks.store.runs import Runs

STAGES: Final = {
    "first": "pages", "walk": "pages", "load": "blocks read", "diff": "diffed", "spool": "spooled",
    "upsert": "upserted", "confirm": "sells confirmed", "sell": "sold",
}  # fmt: skip
"""The label of each stage's parts when progress is shown."""


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


def before_run(mode: str, *, listings: int, quota: LimiterStatus) -> Forecast:
    """Return the least that a run will take, before it starts. ``listings``: the size of the ledger."""
    requests = to_read(listings, full=mode == "full")
    return forecast(requests, per_minute=quota.limit, pause_seconds=quota.pause_seconds, at_least=True)


def during_run(stages: dict[str, tuple[int, int]], run: Run, quota: LimiterStatus) -> Forecast:
    """Return what is left of a run, from its `progress` and its plan."""
    return _left(stages, run, per_minute=quota.limit, pause_seconds=quota.pause_seconds)


def _left(stages: dict[str, tuple[int, int]], run: Run, *, per_minute: int, pause_seconds: float = 0.0) -> Forecast:
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
    return forecast(requests, per_minute=per_minute, pause_seconds=pause_seconds, at_least=not decided)


# -- in cars -------------------------------------------------------------------------------------------------------

_WHAT: Final = {
    "queued": "waiting",
    "first": "reading the marketplace",
    "walk": "reading the marketplace",
    "load": "reading the source",
    "diff": "comparing",
    "apply": "sending",
    "count": "counting the marketplace",
}
_SETTLED: Final = ("created", "updated", "sold", "new_rejects")
"""Counts of the parts that send: each is a car that is done."""


def progress_document(ctx: AccountContext, record: Run) -> dict[str, Any]:
    """Return how far a run is, in cars of its present stage.

    ``cars_total`` and ``percent`` are None while the total is not known. ``waits_for``: the run that goes first, or
    ``resume`` while the account is paused.
    """
    stages = progress(ctx.runs, record)
    stage = record.stage if record.state == "running" else record.state
    done, total = _cars(ctx, record, stages) if record.state == "running" else (0, None)
    left = _left(stages, record, per_minute=ctx.policy.per_minute) if record.open else None
    percent = min(100, round(100 * done / total)) if total else None
    waits_for = _waits_for(ctx, record)
    what = _WHAT.get(stage, stage)
    cars = f": {done:,} of {total:,} cars" if total else f": {done:,} cars" if done else ""
    if waits_for:
        cars = " until the account is resumed" if waits_for == "resume" else f" for run {waits_for}"
    return {
        "run": record.id,
        "account": record.account,
        "mode": record.mode,
        "state": record.state,
        "stage": stage,
        "cars_done": done,
        "cars_total": total,
        "percent": percent,
        "seconds_left": left.seconds if left else None,
        "text": f"{what}{cars}" + (f", {left.text}" if left and left.requests else ""),
        "requests": requests_sent(record),
        "rejected": ctx.ledger.reject_count(),
        "waits_for": waits_for,
    }


def _waits_for(ctx: AccountContext, record: Run) -> str | None:
    if not record.open:
        return None
    if ctx.runs.controls.paused_ms(record.account):
        return "resume"
    active = ctx.runs.active(record.account)
    return active if record.state == "queued" and active != record.id else None


def _cars(ctx: AccountContext, record: Run, stages: dict[str, tuple[int, int]]) -> tuple[int, int | None]:
    """Return how many cars of the present stage are done, and of how many."""
    if record.stage in ("first", "walk"):
        pages = sum(stages.get(name, (0, 0))[0] for name in ("first", "walk"))
        total = record.fact("total_items")
        return (min(pages * ROWS_PER_PAGE, total) if total else 0), total or None
    if record.stage == "load":
        rows = sum(part.get("rows", 0) for part in ctx.runs.parts.results(record.id, "load"))
        before = record.fact("rows_before")
        return rows, max(before, rows) if before else None
    if record.stage == "diff":
        closed, parts = stages.get("diff", (0, 0))
        return record.fact("rows") * closed // max(1, parts), record.fact("rows") or None
    if record.stage == "apply":
        total = record.fact("planned_upserts") + record.fact("planned_sells")
        results = (part for name in ("upsert", "sell") for part in ctx.runs.parts.results(record.id, name))
        counts = merge_counts(results)
        return min(total, sum(counts.get(name, 0) for name in _SETTLED)), total or None
    return 0, None
