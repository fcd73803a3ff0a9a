"""The spool: packs the bodies of planned listings into chunks; those that the load did not keep, from their blocks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.core.estimates import pack
from okasie_tasks.core.fingerprint import encoded_form
from okasie_tasks.core.guards import is_held
from okasie_tasks.core.held_change import MOST_SHOWN
from okasie_tasks.core.records import Outgoing, Planned, Reject, encoded, hash8
from okasie_tasks.core.row_cache import RowCache
from okasie_tasks.ports import ItemAnswer, SourceRow
from okasie_tasks.sync import held_changes, plan_review
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.load import local_record
from okasie_tasks.sync.reading import first_block, lost_block

if TYPE_CHECKING:
    from okasie_tasks.store.records import Run


class Chunk(msgspec.Struct):
    """One bulk call."""

    items: list[Outgoing]
    counts: dict[str, int] = {}
    """What earlier tries of this chunk have settled."""
    failed_ms: int = 0
    """When it first failed, or was halved after failing, Redis time; 0 for neither."""
    answers: dict[str, ItemAnswer] = {}
    """By reference: the last answer that did not settle the item."""
    suspect: bool = False
    """The items are among those of a call that failed: if this one fails too, it is halved at its first try."""
    is_probe: bool = False
    """Sent to see whether the marketplace accepts upserts. It has one try, and decides how a search continues."""
    resent: bool = False
    """A probe with a listing that was accepted before: it is not counted again."""
    then: list[Chunk] = []
    """What is sent once the probe is accepted."""
    culprits: list[Reject] = []
    """What is rejected once the probe is accepted."""
    otherwise: list[Chunk] = []
    """What is sent if it is not; without this, the marketplace is down."""


# -- the spool -----------------------------------------------------------------------------------------------------


def spool(ctx: AccountContext, part: Part, run: Run, *, block: int, last: bool) -> dict[str, int]:
    """Pack the bodies of the planned rows of one block into chunks.

    The rows of held changes are read as well, but only to show what they would change. A row that no longer equals the
    plan is left to the next run, which decides again. Items that do not fill a chunk pass to the next part, so that
    only the last chunk may be short. ``last``: this is the last block.
    """
    holds, rekeyed = plan_review.holds_of(run), plan_review.rekeyed_of(run)
    planned = {
        change.reference: change
        for changes in ctx.runs.data.fetch(part.run, f"sends:{block}", list[Planned])
        for change in changes
    }
    held = {name for name, change in planned.items() if is_held(change, holds, rekeyed)}
    sent = set() if run.plan_only or run.fact("outdated") else planned.keys() - held
    wanted = {name: planned[name] for name in (*sent, *sorted(held)[:MOST_SHOWN])}
    seen_ms = source_began_ms(run)
    # Each reference once: equal rows count as one, and rows that differ are never planned.
    fresh = {
        item.reference: _planned(item, change, seen_ms)
        for item in ctx.runs.blocks.bodies(run.id, first_block(run) + block)
        if (change := wanted.get(item.reference)) is not None and item.content == change.content
    }
    left = {name: change for name, change in wanted.items() if name not in fresh}
    for row in _rows(ctx, run, block, left):
        if (item := _outgoing(row, left, seen_ms)) is not None:
            fresh[item.reference] = item
    shown = [(planned[name], fresh.pop(name).body) for name in held & fresh.keys()]
    held_changes.keep(ctx, part.run, part.number, shown)
    in_order = sorted(fresh.values(), key=lambda item: wanted[item.reference].row)
    rest: Chunk | None = ctx.runs.data.fetch_one(part.run, "rest", part.number, Chunk)
    items = [*(rest.items if rest else []), *in_order]
    sizes = pack([len(item.body) for item in items], flush=last)
    ends = list(accumulate(sizes, initial=0))
    chunks = [Chunk(items[begin:end]) for begin, end in pairwise(ends)]
    # Of a retry after the worker died nothing is kept: the chunks and rest of the first try count.
    left_over = ("rest", part.number + 1, Chunk(items[ends[-1] :]))
    ctx.runs.parts.add(part.run, "upsert", f"spool:{part.number}", "chunks", chunks, rest=left_over)
    return {"chunks": len(sizes), "spooled": len(fresh), "moved_on": len(sent) - len(fresh)}


def _rows(ctx: AccountContext, run: Run, number: int, wanted: Collection[str]) -> Iterator[SourceRow]:
    """Yield the wanted rows of one block."""
    if not wanted:
        return
    block = ctx.runs.blocks.get(run.id, first_block(run) + number)
    if block is None:
        raise lost_block()
    # The load has just cached the fingerprints of these rows: only those that are wanted must be mapped again.
    keys = {hash8(reference) for reference in wanted}
    known = RowCache(
        ctx.ledger.known.block(number),
        trust=lambda same, _: {raw: key for raw, key in same.items() if key not in keys},
    )
    for row in ctx.source().decode(block, known=known, only=wanted):
        if row.reference in wanted:
            yield row if row.read is None else row.read()


def source_began_ms(run: Run) -> int:
    """Return when this run began to read the source, in ms, Redis time."""
    return run.fact("source_began_ms", run.started_ms)


def _outgoing(row: SourceRow, wanted: dict[str, Planned], seen_ms: int) -> Outgoing | None:
    change = wanted.get(row.reference or "")
    if change is None or row.listing is None:
        return None
    form = encoded_form(row.listing)
    record = local_record(row, form, None)
    if record is None or record.content != change.content:
        return None
    return _planned(encoded(row.listing, form, record), change, seen_ms)


def _planned(item: Outgoing, change: Planned, seen_ms: int) -> Outgoing:
    return msgspec.structs.replace(
        item,
        action=change.action,
        reason=change.reason,
        seen_ms=seen_ms if change.seen_ms is None else change.seen_ms,
        answers=change.rendering_seen,
    )


# -- the plan ------------------------------------------------------------------------------------------------------


def changes_of(ctx: AccountContext, run: str, blocks: Sequence[int]) -> Iterator[Planned]:
    """Yield every planned change of a run: sends in source order, then sells."""
    for number in blocks:
        changes = [c for batch in ctx.runs.data.fetch(run, f"sends:{number}", list[Planned]) for c in batch]
        yield from sorted(changes, key=lambda change: change.row)
    for batch in ctx.runs.data.fetch(run, "sells", list[Planned]):
        yield from batch
