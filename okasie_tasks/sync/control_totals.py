"""Control totals: what the marketplace counts against what we believe.

Once a day at the most, at the end of a full run, if the key may read locations. One difference may be a push that came
between; two in a row are not, and a full run of its own is asked for.
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
"""Less than the day between two full runs, more than any that a person asks for in between."""
_BUCKETS_PER_TRIP: Final = 64


def is_due(ctx: AccountContext, run: Run) -> bool:
    """Whether this full run is to count. The first one only starts the clock: what it believes it has just read."""
    counted_ms = ctx.runs.account(run.account).counted_ms
    if not counted_ms:
        ctx.runs.note_account(run.account, counted_ms=ctx.runs.now_ms())
        return False
    return run.fact("walk_complete") == 1 and ctx.runs.now_ms() - counted_ms >= EVERY_MS


def count_listings(ctx: AccountContext, part: Part, call: Call) -> dict[str, int]:
    """Ask for the locations' counts and compare; the answer is noted in the run and in the account."""
    account = ctx.policy.account
    ctx.runs.note_account(account, counted_ms=ctx.runs.now_ms())
    try:
        places = call.locations()
    except RunAborted as refused:
        if refused.code != "scope":
            raise
        log.info("the key may not read locations, so its counts are not compared", account=account)
        return {}
    told = [place.active_listings for place in places if place.active_listings is not None]
    if not told:
        return {}
    ours, theirs = _believed(ctx, part.run), sum(told)
    miscounts = 0 if ours == theirs else ctx.runs.account(account).miscounts + 1
    ctx.runs.note_account(account, miscounts=miscounts)
    ctx.runs.note(part.run, control=json.dumps({"ours": ours, "theirs": theirs}))
    if miscounts:
        log.warning(
            "the marketplace counts other active listings than we do", account=account, theirs=theirs, ours=ours
        )
    if miscounts >= 2:
        ctx.runs.note_account(account, miscounts=0)
        ctx.runs.request(account, "full")
    return {"ours": ours, "theirs": theirs}


def _believed(ctx: AccountContext, run: str) -> int:
    """Active listings in reach: those of the ledger as it is now, and the others that this run met."""
    ours = 0
    for start in range(0, BUCKETS, _BUCKETS_PER_TRIP):
        entries = ctx.ledger.buckets(range(start, start + _BUCKETS_PER_TRIP))
        ours += sum(entry.status == "active" for entry in entries.values())
    pages = [*ctx.runs.parts.results(run, "first"), *ctx.runs.parts.results(run, "walk")]
    outcomes = [msgspec.convert(result, PartitionResult) for result in ctx.runs.parts.results(run, "diff")]
    foreign = sum(outcome.counts.get("foreign_active", 0) for outcome in outcomes)
    nameless: int = sum(page.get("nameless_active", 0) for page in pages)
    return ours + foreign + nameless
