"""The spool: the bodies of planned listings are read once more from the source and packed into chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.core.estimates import pack
from okasie_tasks.core.fingerprint import (
    compared,
    content_fingerprint,
)
from okasie_tasks.core.records import Outgoing, Planned, outgoing
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import CachingSource, SourceRow
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import LOAD_ROWS, SPOOL_ROWS, AccountContext, Part

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run


class Chunk(msgspec.Struct):
    """One bulk call. ``tries``: how often these items came back without an answer of their own."""

    items: list[Outgoing]
    tries: int = 0


# -- the spool -----------------------------------------------------------------------------------------------------


def spool(ctx: AccountContext, part: Part, run: Run, *, place: int, last: bool) -> dict[str, int]:
    """Read the planned rows of one slice again and pack their bodies into chunks.

    A row that no longer equals the plan is left for the next run, which decides anew. What does not fill a chunk is
    handed to the next part, so that only the very last chunk may be short.
    """
    holds = plan_review.holds_of(run)
    wanted = {
        change.reference: change
        for changes in ctx.runs.data.fetch(part.run, f"sends:{place}", list[Planned])
        for change in changes
        if not any(kept.holds(change) for kept in holds)
    }
    rest: Chunk | None = ctx.runs.data.fetch_one(part.run, "rest", part.number, Chunk)
    items = rest.items if rest else []
    start = place * SPOOL_ROWS
    source = ctx.source()
    stream: Iterator[SourceRow]
    if source.sliceable and isinstance(source, CachingSource):
        # The load has just noted what these rows come to: only those that are sent need to be read again.
        known = RowCache(ctx.ledger.known_rows(start // LOAD_ROWS), ctx.ledger.row_offset(source.version(), start))
        found = source.rows(start, start + SPOOL_ROWS, known=known)
        stream = (row if row.read is None else row.read() for row in found if row.reference in wanted)
    else:
        stream = source.rows(start, start + SPOOL_ROWS) if source.sliceable else source.get(list(wanted))
    seen_ms = source_began_ms(run)
    # Each reference once: equal rows count once, and rows that differ were never planned.
    fresh = {item.reference: item for row in stream if (item := _outgoing(row, wanted, seen_ms)) is not None}
    items += fresh.values()
    sizes = pack([len(item.body) for item in items], flush=last)
    ends = list(accumulate(sizes, initial=0))
    chunks = [Chunk(items[begin:end]) for begin, end in pairwise(ends)]
    # Who does this part again after its worker died may find other rows: chunks and rest are those of the first time.
    left_over = ("rest", part.number + 1, Chunk(items[ends[-1] :]))
    ctx.runs.parts.add(part.run, "upsert", f"spool:{part.number}", "chunks", chunks, rest=left_over)
    return {"chunks": len(sizes), "spooled": len(fresh), "moved_on": len(wanted) - len(fresh)}


def source_began_ms(run: Run) -> int:
    """When this run began to read the source, Redis time: how new its rows are."""
    return run.fact("source_began_ms", run.started_ms)


def _outgoing(row: SourceRow, wanted: dict[str, Planned], seen_ms: int) -> Outgoing | None:
    change = wanted.get(row.reference or "")
    if change is None or row.listing is None:
        return None
    values = compared(row.listing)
    if content_fingerprint(row.listing, values) != change.content:
        return None
    return outgoing(
        row.listing,
        values=values,
        action=change.action,
        reason=change.reason,
        version=row.version,
        seen_ms=seen_ms if change.seen_ms is None else change.seen_ms,
        answers=change.rendering_seen,
    )


# -- the plan ------------------------------------------------------------------------------------------------------


def changes_of(ctx: AccountContext, run: str, slices: Sequence[int]) -> Iterator[Planned]:
    """Every planned change of a run, sends in the order of the source, then sells."""
    for place in slices:
        changes = [c for batch in ctx.runs.data.fetch(run, f"sends:{place}", list[Planned]) for c in batch]
        yield from sorted(changes, key=lambda change: change.row)
    for batch in ctx.runs.data.fetch(run, "sells", list[Planned]):
        yield from batch
