"""Control totals: compares the marketplace's count of active listings with the expected count.

This happens at the end of a full run, at most once a day, if the key may read locations. A push during the run can
cause one difference. Two in a row are a fault, and another full run is requested.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from okasie_tasks.core.records import BUCKETS
from okasie_tasks.errors import RunAborted
from okasie_tasks.logs import get_logger
from okasie_tasks.ports import Call
from okasie_tasks.sync.compare import PartitionResult
from okasie_tasks.sync.context import AccountContext, Part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

EVERY_MS: Final = 20 * 3600 * 1000
"""Shorter than the day between two scheduled full runs; full runs requested in between are not counted."""
_BUCKETS_PER_TRIP: Final = 64


def is_due(ctx: AccountContext, run: Run) -> bool:
    """Return whether this full run is to count. The first one only starts the interval: it has just read everything."""
    counted_ms = ctx.runs.account(run.account).counted_ms
    if not counted_ms:
        ctx.runs.note_account(run.account, counted_ms=ctx.runs.now_ms())
        return False
    return run.fact("walk_complete") == 1 and ctx.runs.now_ms() - counted_ms >= EVERY_MS


def count_listings(ctx: AccountContext, part: Part, call: Call) -> dict[str, int]:
    """Request the counts of the locations, compare them, and record the result in the run and the account.

    Returns both totals, or nothing when the marketplace does not report them.
    """
    account = ctx.policy.account
    ctx.runs.note_account(account, counted_ms=ctx.runs.now_ms())
    try:
        locations = call.locations()
    except RunAborted as refused:
        if refused.code != "scope":
            raise
        log.info("the key may not read locations, so its counts are not compared", account=account)
        return {}
    counts = [location.active_listings for location in locations if location.active_listings is not None]
    if not counts:
        return {}
    ours, theirs = _expected_active(ctx, part.run), sum(counts)
    miscounts = 0 if ours == theirs else ctx.runs.account(account).miscounts + 1
    ctx.runs.note_account(account, miscounts=miscounts)
    ctx.runs.note(part.run, control=json.dumps({"ours": ours, "theirs": theirs}))
    if miscounts:
        log.warning("the marketplace's count of active listings differs", account=account, theirs=theirs, ours=ours)
    if miscounts >= 2:
        ctx.runs.note_account(account, miscounts=0)
        ctx.runs.request(account, "full")
    return {"ours": ours, "theirs": theirs}


def _expected_active(ctx: AccountContext, run: str) -> int:
    """Count the active listings that the key can reach: those of the ledger now, and the others that this run read."""
    ours = 0
    for start in range(0, BUCKETS, _BUCKETS_PER_TRIP):
        entries = ctx.ledger.buckets(range(start, start + _BUCKETS_PER_TRIP))
        ours += sum(entry.status == "active" for entry in entries.values())
    pages = [*ctx.runs.parts.results(run, "first"), *ctx.runs.parts.results(run, "walk")]
    results = [msgspec.convert(result, PartitionResult) for result in ctx.runs.parts.results(run, "diff")]
    foreign = sum(result.counts.get("foreign_active", 0) for result in results)
    nameless: int = sum(page.get("nameless_active", 0) for page in pages)
    return ours + foreign + nameless
