"""Conduct: how a run goes from phase to phase, and which parts are to be published next.

Phases: ``first`` (page 1) -> ``walk`` (the other pages) -> ``load`` (the source) -> ``diff`` -> ``apply`` (spool,
upsert and sell parts) -> ended. The source is read after the walk: what is written is as fresh as it can be, and the
load knows which rows must be compared by value. Exactly one caller moves a run from a phase to the next.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from okasie_tasks.core.diff import World
from okasie_tasks.core.packing import ROWS_PER_PAGE, minimum_requests
from okasie_tasks.core.plan import DealerTotals, Held, held_sells
from okasie_tasks.core.records import Planned, merge_counts
from okasie_tasks.errors import FixConfiguration
from okasie_tasks.sync.decide import Outcome
from okasie_tasks.sync.tools import LOAD_ROWS, Tools

if TYPE_CHECKING:
    from okasie_tasks.adapters.runs import Run

log = logging.getLogger(__name__)

WINDOWS: Final = {
    # stage: (parts per window, publish the next when so many are still open)
    "first": (1, 0),
    "walk": (5, 15),
    "load": (4, 1),
    "diff": (200, 40),
    "spool": (1, 0),
    "upsert": (5, 15),
    "sell": (5, 15),
}
"""Parts that need a permit: 20 tickets wait 10 s at most, within the limiter's longest answer; and when a worker dies
with its share of the messages, half of them where there are two, what is left still uses up the quota."""
_SPOOL_AHEAD: Final = 30
"""Upsert chunks that are still to be done when the next slice is spooled: 15 s of quota, half if a worker died."""

Step = Callable[[Tools, "Run"], None]


def check_mode(mode: str) -> None:
    """Raises `FixConfiguration` for a mode that does not exist: a message from outside is hostile until checked."""
    if mode not in ("incremental", "full"):
        raise FixConfiguration(f"got mode {mode!r:.40}, expected 'incremental' or 'full'", where="okasie.sync")


def windows(tools: Tools, run_id: str, phase: str) -> list[tuple[str, range]]:
    """What to publish now: ``(stage, parts)``. Each part is handed out once; calling it too often costs nothing."""
    if phase != "apply":
        found = [(phase, tools.runs.window(run_id, phase, size=WINDOWS[phase][0], when_open=WINDOWS[phase][1]))]
        return [(stage, parts) for stage, parts in found if parts]
    spooling, upserts = tools.runs.stage(run_id, "spool"), tools.runs.stage(run_id, "upsert")
    stages = ["upsert"]
    if upserts.total - upserts.closed <= _SPOOL_AHEAD:
        stages.append("spool")
    if spooling.finished and upserts.published >= upserts.total:
        stages.append("sell")
    found = [
        (stage, tools.runs.window(run_id, stage, size=WINDOWS[stage][0], when_open=WINDOWS[stage][1]))
        for stage in stages
    ]
    return [(stage, parts) for stage, parts in found if parts]


def advance(tools: Tools, run_id: str) -> Run | None:
    """Move the run on if its phase is finished. Returns the run when it is over, else None."""
    run = tools.runs.get(run_id)
    if run is None or run.state != "running":
        return run
    stages = ("spool", "upsert", "sell") if run.stage == "apply" else (run.stage,)
    if not all(tools.runs.stage(run_id, stage).finished for stage in stages):
        return None
    _AFTER[run.stage](tools, run)
    after = tools.runs.get(run_id)
    return after if after is not None and not after.open else None


# -- from phase to phase -------------------------------------------------------------------------------------------


def _after_first(tools: Tools, run: Run) -> None:
    if tools.runs.stage(run.id, "first").failed:
        _end(tools, run, "failed")
        return
    pages = run.fact("pages", 1)
    if pages > 1:
        tools.runs.advance(run.id, "first", "walk", parts=pages - 1)
    else:
        _to_load(tools, run, "first")


def _after_walk(tools: Tools, run: Run) -> None:
    _to_load(tools, run, "walk")


def _to_load(tools: Tools, run: Run, phase: str) -> None:
    pages = [*tools.runs.results(run.id, "first"), *tools.runs.results(run.id, "walk")]
    failed = tools.runs.stage(run.id, "walk").failed
    read = sum(page.get("rows", 0) for page in pages)
    totals = {page["total"] for page in pages if "total" in page}
    # Only a walk of every page with a total that stood still, and reached, proves that a row is missing.
    complete = not failed and len(totals) == 1 and read >= max(totals)
    rows_before = run.fact("rows_before")
    parts = max(1, -(-rows_before // LOAD_ROWS))
    facts = {
        "walk_complete": int(complete),
        "remote_rows": read,
        "source_began_ms": tools.runs.now_ms(),
    }
    tools.runs.advance(run.id, phase, "load", parts=parts, facts=facts)


def _after_load(tools: Tools, run: Run) -> None:
    slices = tools.runs.results(run.id, "load")
    if tools.runs.stage(run.id, "load").failed:
        _end(tools, run, "failed")
        return
    if not any(part["ended"] for part in slices):
        tools.runs.extend(run.id, "load", f"more:{len(slices)}", 4)
        return
    if len({part["version"] for part in slices if part["version"]}) > 1:
        note_error(
            tools, run.id, "changed", "the source changed while it was being read; the next run reads it anew", ""
        )
        _end(tools, run, "failed")
        return
    nameless = sum(part["nameless"] for part in slices)
    facts: dict[str, str | int] = {"rows": sum(part["rows"] for part in slices), "nameless": nameless}
    if nameless:
        facts["nameless_where"] = json.dumps([where for part in slices for where in part["where"]][:20])
    tools.runs.advance(run.id, "load", "diff", parts=run.fact("partitions", 1), facts=facts)


def world_of(tools: Tools, run: Run) -> World:
    """What the decisions of this run may rely on."""
    return World(
        full=run.fact("walked_all") == 1,
        walk_complete=run.fact("walk_complete") == 1,
        source_complete=run.fact("nameless") == 0,
        began_ms=run.started_ms,
        source_began_ms=run.fact("source_began_ms", run.started_ms),
        policy=tools.rules.policy,
        missing_reads=tools.rules.missing_reads,
        sells=tools.rules.sells,
    )


def _after_diff(tools: Tools, run: Run) -> None:
    outcomes = [msgspec.convert(result, Outcome) for result in tools.runs.results(run.id, "diff")]
    slices = sorted({place for outcome in outcomes for place in outcome.slices})
    upserts = sum(count for outcome in outcomes for count in outcome.slices.values())
    held = _held(tools, run, outcomes)
    selling = _release_sells(tools, run, held)
    facts: dict[str, str | int] = {
        "slices": json.dumps(slices),
        "planned_upserts": upserts,
        "planned_sells": len(selling),
        "held": json.dumps([msgspec.to_builtins(hold) for hold in held]),
    }
    if run.plan_only:
        tools.runs.note(run.id, **facts)
        _end(tools, run, "done")
        return
    for number, change in enumerate(selling):
        tools.runs.put(run.id, "selling", number, change)
    for stage, parts in (("spool", len(slices)), ("upsert", 0), ("sell", len(selling))):
        tools.runs.prepare(run.id, stage, parts)
    tools.runs.advance(run.id, "diff", "apply", parts=0, facts=facts)
    if not slices and not selling:
        advance(tools, run.id)


def _held(tools: Tools, run: Run, outcomes: list[Outcome]) -> list[Held]:
    dealers: dict[str, DealerTotals] = {}
    for outcome in outcomes:
        for name, totals in outcome.dealers.items():
            mine = dealers.setdefault(name, DealerTotals())
            mine.live += totals.live
            mine.sells += totals.sells
    limits = tools.rules.limits
    return held_sells(dealers, rows=run.fact("rows"), rows_before=run.fact("rows_before"), limits=limits)


def _release_sells(tools: Tools, run: Run, held: list[Held]) -> list[Planned]:
    if any(hold.dealer is None for hold in held):
        return []
    waiting = {hold.dealer for hold in held}
    return [
        change
        for changes in tools.runs.fetch(run.id, "sells", list[Planned])
        for change in changes
        if change.dealer.hex() not in waiting
    ]


def _after_apply(tools: Tools, run: Run) -> None:
    _end(tools, run, "done")


_AFTER: Final[dict[str, Step]] = {
    "first": _after_first,
    "walk": _after_walk,
    "load": _after_load,
    "diff": _after_diff,
    "apply": _after_apply,
}


# -- the end -------------------------------------------------------------------------------------------------------


def slices_of(tools: Tools, run_id: str) -> list[int]:
    """The slices of the source that hold planned sends, in order: part ``i`` of the spool reads the ``i``-th."""
    run = tools.runs.get(run_id)
    return list(json.loads(run.facts.get("slices", "[]"))) if run else []


def note_error(tools: Tools, run_id: str, code: str, message: str, where: str) -> None:
    """Keep the first error of a run: it tells the cause, the others follow from it."""
    error = {"code": code, "message": message, "where": where or None}
    tools.runs.note_once(run_id, "error", json.dumps(error))


def stop(tools: Tools, run_id: str, code: str, message: str, where: str) -> None:
    """End a run at once, with the reason; parts that are under way find it ended."""
    run = tools.runs.get(run_id)
    if run is not None and run.open:
        note_error(tools, run_id, code, message, where)
        _end(tools, run, "failed")


def _end(tools: Tools, run: Run, state: str) -> None:
    run = tools.runs.get(run.id) or run
    failed = sum(tools.runs.stage(run.id, stage).failed for stage in ("walk", "diff", "spool", "upsert", "sell"))
    applied = merge_counts(result for stage in ("upsert", "sell") for result in tools.runs.results(run.id, stage))
    held = sum(hold["count"] for hold in json.loads(run.facts.get("held", "[]")))
    if state == "done" and (failed or applied.get("unanswered")):
        state = "partial"
    elif state == "done" and held and not run.plan_only:
        state = "held"
    if state in ("done", "held") and not run.plan_only:
        _forget_vanished_rejects(tools, run)
    tools.runs.note(run.id, **_report(tools, run, applied, held))
    cursor = run.facts.get("cursor_next", "") if state in ("done", "held") and not run.plan_only else ""
    # A read that was held back is no measure for the next one: a feed that stays cut must stay suspicious.
    facts = {"rows": run.facts.get("rows", "0")} if state == "done" else {}
    tools.runs.end(run, state, cursor=cursor, account_facts=facts)
    # A plan is read after its end; of other runs only the record stays.
    tools.runs.clear(run.id, but=("sends:", "sells") if run.plan_only else ())
    log.info("run %s of %s ended: %s", run.id, run.account, state)


def _forget_vanished_rejects(tools: Tools, run: Run) -> None:
    """A parked row that this complete read did not meet again is no longer a reject."""
    gone = [r.reference for r in tools.ledger.all_rejects() if r.run and r.run != run.id]
    tools.ledger.unpark(gone)


def _report(tools: Tools, run: Run, applied: dict[str, int], held: int) -> dict[str, Any]:
    outcomes = [msgspec.convert(result, Outcome) for result in tools.runs.results(run.id, "diff")]
    decided = merge_counts(outcome.counts for outcome in outcomes)
    pages = [*tools.runs.results(run.id, "first"), *tools.runs.results(run.id, "walk")]
    listings = {
        "local": run.fact("rows"),
        "remote": sum(page.get("rows", 0) for page in pages),
        "unchanged": decided.get("unchanged", 0),
        "created": applied.get("created", 0),
        "updated": applied.get("updated", 0),
        "sold": applied.get("sold", 0),
        "rejected": tools.ledger.reject_count(),
        "held": held,
        "drifted": decided.get("drifted", 0),
        "conflicts": decided.get("conflicts", 0),
        "foreign": decided.get("foreign", 0) + sum(page.get("nameless", 0) for page in pages),
    }
    sent, sold = run.fact("planned_upserts"), run.fact("planned_sells")
    minimum = minimum_requests(rows_listed=run.fact("total_items"), upserts=sent, sells=sold)
    rejects = sum(outcome.new_rejects for outcome in outcomes) + applied.get("new_rejects", 0)
    return {"listings": json.dumps(listings), "minimum": minimum, "new_rejects": rejects}


def pages_of(total_items: int, total_pages: int) -> int:
    """Pages to read; the answer's own count, unless it is silly."""
    return max(1, total_pages, -(-total_items // ROWS_PER_PAGE)) if total_items else 1
