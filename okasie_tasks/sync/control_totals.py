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
from okasie_tasks.sync.compare import Outcome
from okasie_tasks.sync.context import Part, Tools

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run

log = get_logger(__name__)

EVERY_MS: Final = 20 * 3600 * 1000
"""Less than the day between two full runs, more than any that a person asks for in between."""
_BUCKETS_PER_TRIP: Final = 64


def is_due(tools: Tools, run: Run) -> bool:
    """Whether this full run is to count. The first one only starts the clock: what it believes it has just read."""
    counted_ms = tools.runs.account(run.account).counted_ms
    if not counted_ms:
        tools.runs.note_account(run.account, counted_ms=tools.runs.now_ms())
        return False
    return run.fact("walk_complete") == 1 and tools.runs.now_ms() - counted_ms >= EVERY_MS


def count_listings(tools: Tools, part: Part, call: Call) -> dict[str, int]:
    """Ask for the locations' counts and compare; the answer is noted in the run and in the account."""
    account = tools.rules.account
    tools.runs.note_account(account, counted_ms=tools.runs.now_ms())
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
    ours, theirs = _believed(tools, part.run), sum(told)
    miscounts = 0 if ours == theirs else tools.runs.account(account).miscounts + 1
    tools.runs.note_account(account, miscounts=miscounts)
    tools.runs.note(part.run, control=json.dumps({"ours": ours, "theirs": theirs}))
    if miscounts:
        log.warning(
            "the marketplace counts other active listings than we do", account=account, theirs=theirs, ours=ours
        )
    if miscounts >= 2:
        tools.runs.note_account(account, miscounts=0)
        tools.runs.request(account, "full")
    return {"ours": ours, "theirs": theirs}


def _believed(tools: Tools, run: str) -> int:
    """Active listings in reach: those of the ledger as it is now, and the others that this run met."""
    ours = 0
    for start in range(0, BUCKETS, _BUCKETS_PER_TRIP):
        entries = tools.ledger.buckets(range(start, start + _BUCKETS_PER_TRIP))
        ours += sum(entry.status == "active" for entry in entries.values())
    pages = [*tools.runs.parts.results(run, "first"), *tools.runs.parts.results(run, "walk")]
    outcomes = [msgspec.convert(result, Outcome) for result in tools.runs.parts.results(run, "diff")]
    foreign = sum(outcome.counts.get("foreign_active", 0) for outcome in outcomes)
    nameless: int = sum(page.get("nameless_active", 0) for page in pages)
    return ours + foreign + nameless
