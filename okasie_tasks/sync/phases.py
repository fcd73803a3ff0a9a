"""Moves a run from phase to phase, and chooses the parts to publish next.

Phases: ``first`` (page 1) -> ``walk`` (the other pages) -> ``load`` (the source) -> ``diff`` -> ``apply`` (spool,
upsert, confirm and sell parts) -> ended. A full run may ``count`` before it ends. The source is read after the walk, so
that its rows are as fresh as possible and the load knows which of them to compare by value. Exactly one caller moves a
run to the next phase.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.decision import ReadEvidence
from okasie_tasks.core.estimates import ROWS_PER_PAGE
from okasie_tasks.errors import ConfigurationError
from okasie_tasks.ports import Page
from okasie_tasks.sync import absences, confirm, control_totals, fetch, plan_review, settling, unreadable_rows
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.finish import cancelled, end, note_error
from okasie_tasks.sync.load import BlockResult, keep_firsts
from okasie_tasks.sync.lost_fields import review_fields
from okasie_tasks.sync.reading import ReadResult, first_block, reading_part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Claim, Run

WINDOWS: Final = {
    # stage: (parts per window, publish the next window when this many parts are still open)
    "first": (1, 0),
    "walk": (2, 0),
    "load": (8, 4),
    "diff": (200, 40),
    "spool": (1, 0),
    "upsert": (12, 10),
    "confirm": (1, 0),
    "sell": (12, 10),
    "count": (1, 0),
}
"""Writes: 22 messages, of both kinds together, wait 11 s at most, within the longest countdown and the limiter's
longest answer: a longer wait costs more messages. If one of two workers dies with half of the messages, the other
half still uses the whole quota.
Each message of a walk continues with the following parts, so a new window is due only when no part is open."""
PACED_STAGES: Final = ("upsert", "sell")
"""The stages of writes: each message is published for the moment at which the quota should allow its request."""
DRAINED_STAGES: Final = frozenset({"walk"})
"""Stages whose slot batches continue with the following parts, and wait for their permits."""
_MOST_DRAINED: Final = 20
"""Open parts of such a stage at a time, over all workers: 20 tickets wait 10 s at most."""
CONTINUED_STAGES: Final = frozenset({"upsert"})
"""Stages whose slot batches continue with parts that have no message yet, as long as permits come without a wait."""
_MOST_CONTINUED: Final = 64
"""Open parts of such a stage at a time: those that have messages, and one for each slot."""
WORK_OF: Final = {"upsert": "chunks", "sell": "selling"}
"""Stage -> the collection of the run that has the work of its parts."""
APPLY: Final = ("spool", "upsert", "confirm", "sell")
"""The stages that share the phase ``apply``: the next parts depend on all of them."""
_SPOOL_AHEAD: Final = 30
"""Spool the next block when no more upsert chunks than this are open: 15 s of quota, half if a worker died."""

Step = Callable[[AccountContext, "Run"], None]


def check_mode(mode: str) -> None:
    """Raise `ConfigurationError` for an unknown mode: messages come from other applications and are validated."""
    if mode not in ("incremental", "full"):
        raise ConfigurationError(f"got mode {mode!r:.40}, expected 'incremental' or 'full'", where="okasie.sync")


def is_known(phase: str) -> bool:
    """Whether this release has the phase. A newer one, whose workers run beside this one, may have others."""
    return phase in _AFTER


def windows(ctx: AccountContext, run_id: str, phase: str) -> list[tuple[str, range]]:
    """Return what to publish now, as ``(stage, parts)``. Each part is returned once; extra calls return nothing."""
    if not is_known(phase) or ctx.runs.controls.is_stopped(run_id, ctx.policy.account):
        return []
    stages, others_open = [phase], {}
    if phase == "apply":
        spooling, upserts = ctx.runs.parts.stage(run_id, "spool"), ctx.runs.parts.stage(run_id, "upsert")
        stages = ["upsert"]
        if upserts.total - upserts.closed <= _SPOOL_AHEAD:
            stages.append("spool")
        if spooling.finished and upserts.published >= upserts.total:
            stages += ["confirm", "sell"]
            others_open["sell"] = upserts.published - upserts.closed
    published = []
    for stage in stages:
        size, when_open = WINDOWS[stage]
        when_open -= others_open.get(stage, 0)
        published.append((stage, ctx.runs.parts.window(run_id, stage, size=size, when_open=when_open)))
    return [(stage, parts) for stage, parts in published if parts]


def claim_next(ctx: AccountContext, part: Part) -> tuple[int, Claim]:
    """Claim the next part of the stage by the token of ``part``; -1 and the reason where there is none."""
    most_open = _MOST_CONTINUED if part.stage in CONTINUED_STAGES else _MOST_DRAINED
    return ctx.runs.parts.claim_next(
        part.run, part.stage, part.token, most_open=most_open, work=WORK_OF.get(part.stage, "")
    )


def next_to_publish(ctx: AccountContext, run_id: str, stage: str, *, alone: bool = False) -> int | None:
    """Return the next part of a stage that needs a message; None when there is none, or enough parts are open.

    ``alone``: only if no other part is open, so that no other worker continues the stage.
    """
    parts = ctx.runs.parts.window(run_id, stage, size=1, when_open=0 if alone else _MOST_DRAINED - 1)
    return parts[0] if parts else None


def advance(ctx: AccountContext, run_id: str) -> Run | None:
    """Move the run to its next phase if this one is finished. Returns the run when it has ended, else None."""
    run = ctx.runs.get(run_id)
    if run is None or run.state != "running":
        return run
    if run.cancelling:
        return cancelled(ctx, run_id)
    if not is_finished(ctx, run):
        return None
    _AFTER[run.stage](ctx, run)
    after = ctx.runs.get(run_id)
    return after if after is not None and not after.open else None


def is_finished(ctx: AccountContext, run: Run) -> bool:
    """Whether all parts of the run's phase are closed, and this release knows what follows."""
    stages = APPLY if run.stage == "apply" else (run.stage,)
    return is_known(run.stage) and all(ctx.runs.parts.stage(run.id, stage).finished for stage in stages)


# -- from phase to phase -------------------------------------------------------------------------------------------


def _after_first(ctx: AccountContext, run: Run) -> None:
    if ctx.runs.parts.stage(run.id, "first").failed:
        end(ctx, run, "failed")
        return
    pages = run.fact("pages", 1)
    if pages > 1:
        ctx.runs.advance(run.id, "first", "walk", parts=pages - 1)
    else:
        _to_load(ctx, run, "first")


def _after_walk(ctx: AccountContext, run: Run) -> None:
    _to_load(ctx, run, "walk")


def _to_load(ctx: AccountContext, run: Run, phase: str) -> None:
    complete = fetch.is_complete(ctx, run)
    if not complete and fetch.repeat(ctx, run):
        if phase == "first":
            ctx.runs.advance(run.id, "first", "walk", parts=0)
        return
    missing = absences.missing_listings(ctx, run) if complete and run.fact("walked_all") else set()
    if missing and fetch.read_on(ctx, run):
        if phase == "first":
            ctx.runs.advance(run.id, "first", "walk", parts=0)
        return
    unproven = bool(missing) and not absences.is_proof(ctx, run, missing)
    lost = _lost_profiles(ctx, run)
    facts: dict[str, str | int] = {
        **review_fields(ctx, run),
        # Rows of a profile that the key can no longer reach are not missing.
        "walk_complete": int(complete and not lost and not unproven),
        "walk_moved": int(not complete),
        "unproven": len(missing) if unproven else 0,
        "profiles_lost": json.dumps(lost),
        "source_began_ms": ctx.runs.now_ms(),
    }
    ctx.runs.advance(run.id, phase, "load", parts=1, facts=facts)


def _lost_profiles(ctx: AccountContext, run: Run) -> list[str]:
    """Return dealer profiles that only the last run could reach; none if the answer contains no profiles."""
    now = json.loads(run.facts.get("profiles", "[]"))
    return sorted(set(ctx.runs.account(run.account).profiles).difference(now)) if now else []


def _after_load(ctx: AccountContext, run: Run) -> None:
    if ctx.runs.parts.stage(run.id, "load").failed:
        end(ctx, run, "failed")
        return
    parts = ctx.runs.parts.results(run.id, "load")
    read = msgspec.convert(parts[reading_part(run)], ReadResult)
    if read.changed:
        _load_again(ctx, run, len(parts))
        return
    blocks = [msgspec.convert(part, BlockResult) for part in parts[first_block(run) :]]
    keep_firsts(ctx, run, blocks)
    if run.fact("walked_all"):
        absences.assign_new(ctx, run)
    read_rows = sum(block.rows for block in blocks)
    skipped = sum(block.skipped for block in blocks)
    rows = read_rows - skipped - sum(block.blank for block in blocks)
    ctx.ledger.known.forget_blocks(len(blocks))
    open_end = blocks[-1].open_end if blocks else ""
    if open_end and (read.unsettled or plan_review.has_shrunk(ctx, run, rows)):
        # Many feeds lack the final line end. One that also lacks a third of its rows was truncated, with its last cell.
        before = run.fact("rows_before")
        message = f"the file appears truncated: it ends without a line end and has {rows} rows, {before} before"
        note_error(ctx, run.id, "cut", message, open_end)
        end(ctx, run, "failed")
        return
    nameless = sum(block.nameless for block in blocks)
    facts: dict[str, str | int] = {
        "rows": rows, "skipped": skipped, "nameless": nameless, "source_version": read.version,
    }  # fmt: skip
    unreadable = [row for block in blocks for row in block.unreadable]
    unreadable_rows.record(ctx, run, unreadable, count=nameless, complete=not read.unsettled)
    if read.unsettled:
        facts["unsettled"] = 1
        note_error(ctx, run.id, "unsettled", settling.STILL_CHANGING, "source")
    else:
        ctx.runs.note_account(run.account, source=read.version)
    ctx.runs.advance(run.id, "load", "diff", parts=run.fact("partitions", 1), facts=facts)


def _load_again(ctx: AccountContext, run: Run, parts: int) -> None:
    """Read a source again that changed during the read. ``parts``: of the load so far."""
    if settling.is_too_late(ctx, run, "load", ctx.runs.now_ms()):
        message = f"the source changed during every read for {settling.MOST_SECONDS:.0f} s; the next run reads it again"
        note_error(ctx, run.id, "changed", message, "source")
        end(ctx, run, "failed")
        return
    ctx.runs.blocks.clear(run.account, run.id)
    ctx.runs.parts.extend(run.id, "load", f"again:{parts}", 1, fact=("load_reads", "{first}"))


def evidence_of(ctx: AccountContext, run: Run) -> ReadEvidence:
    """Return what the reads of this run prove."""
    lost, compared = ctx.runs.lost_writes(run.account), run.fact("walked_all") == 1
    return ReadEvidence(
        full=compared,
        walk_complete=run.fact("walk_complete") == 1,
        # Until a full run has compared every row with it, an older ledger proves no sell.
        source_complete=not run.fact("nameless") and not run.fact("unsettled") and (compared or not lost),
        began_ms=run.started_ms,
        source_began_ms=run.fact("source_began_ms", run.started_ms),
        policy=ctx.policy.conflict,
        missing_reads=ctx.policy.missing_reads,
        lost_fields=tuple(json.loads(run.facts.get("lost_fields", "{}"))),
        sells=ctx.policy.sells,
        taking_over=run.fact("taking_over") == 1,
        lost_from_ms=lost.from_ms if lost else 0,
        lost_until_ms=lost.until_ms if lost else 0,
    )


def _after_diff(ctx: AccountContext, run: Run) -> None:
    if not run.plan_only and not ctx.runs.parts.stage(run.id, "diff").failed:
        ctx.ledger.catalog.mark_whole()
    outcomes = [msgspec.convert(result, PartitionResult) for result in ctx.runs.parts.results(run.id, "diff")]
    blocks = sorted({number for outcome in outcomes for number in outcome.blocks})
    run.facts["blocks"] = json.dumps(blocks)
    review = plan_review.review_plan(ctx, run, outcomes)
    planned = sum(count for outcome in outcomes for count in outcome.blocks.values())
    facts: dict[str, str | int] = {
        "blocks": run.facts["blocks"],
        "planned_upserts": 0 if review.outdated else planned - review.held_updates,
        "planned_sells": len(review.sells),
        "held": json.dumps([msgspec.to_builtins(hold) for hold in review.holds]),
        "rekeyed": json.dumps(sorted(review.rekeyed)),
        "held_items": json.dumps(review.items),
        "held_count": review.held,
        "released": review.released,
        "outdated": int(review.outdated),
        "preexisting": review.preexisting,
        "preexisting_waiting": review.waiting,
    }
    if run.plan_only:
        plan_review.show_preexisting(ctx, run, review)
        # Only a dry run that holds updates reads their rows again, to show what they change.
        blocks = blocks if review.held_updates else []
        review.sells = []
    else:
        plan_review.claim_preexisting(ctx, review)
    for stage, parts in (("spool", len(blocks)), ("upsert", 0)):
        ctx.runs.parts.prepare(run.id, stage, parts)
    confirm.prepare(ctx, run, review.sells)
    ctx.runs.advance(run.id, "diff", "apply", parts=0, facts=facts)
    if not blocks and not review.sells:
        advance(ctx, run.id)


def _after_apply(ctx: AccountContext, run: Run) -> None:
    if run.fact("walked_all") and not run.plan_only and control_totals.is_due(ctx, run):
        ctx.runs.advance(run.id, "apply", "count", parts=1)
    else:
        end(ctx, run, "done")


def _after_count(ctx: AccountContext, run: Run) -> None:
    end(ctx, run, "done")


_AFTER: Final[dict[str, Step]] = {
    "first": _after_first,
    "walk": _after_walk,
    "load": _after_load,
    "diff": _after_diff,
    "apply": _after_apply,
    "count": _after_count,
}


# -- facts for parts ----------------------------------------------------------------------------------------------


def blocks_of(run: Run) -> list[int]:
    """Return the blocks of the source with planned sends, in order: part ``i`` of the spool decodes the ``i``-th."""
    return list(json.loads(run.facts.get("blocks", "[]")))


def pages_of(page: Page) -> int:
    """Return the number of pages to read, from the first page.

    This is the answer's count, but at least what its item count requires, and at most what it requires if every page
    has as many rows as the first.
    """
    rows = page.count + page.unreadable
    if not page.total_items or not rows:
        return 1
    return min(max(page.total_pages, -(-page.total_items // ROWS_PER_PAGE)), -(-page.total_items // rows))
