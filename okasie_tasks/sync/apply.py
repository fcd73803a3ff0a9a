"""Apply: bodies are spooled by a second stream of the source, packed, sent, and the ledger settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import msgspec

from okasie_tasks.core.entry import Entry, Flag, Version, answer_mark
from okasie_tasks.core.fingerprint import (
    Compared,
    compared,
    compared_fingerprint,
    content_fingerprint,
    filled_fields,
    listing_dealer_fingerprint,
)
from okasie_tasks.core.listing import Listing, bulk_item
from okasie_tasks.core.packing import halves, pack
from okasie_tasks.core.records import Outgoing, Planned, Reject
from okasie_tasks.core.rows import KnownRows
from okasie_tasks.core.wish import Wish
from okasie_tasks.errors import SetAside
from okasie_tasks.ports import Call, ItemAnswer, RemembersRows, SourceRow
from okasie_tasks.sync import hold, images, rejects, remember
from okasie_tasks.sync.tools import ATTEMPTS, LOAD_ROWS, SPOOL_ROWS, Part, Tools


class Chunk(msgspec.Struct):
    """One bulk call. ``tries``: how often these items came back without an answer of their own."""

    items: list[Outgoing]
    tries: int = 0


# -- the spool -----------------------------------------------------------------------------------------------------


def spool(tools: Tools, part: Part, *, place: int, last: bool) -> dict[str, int]:
    """Read the planned rows of one slice again and pack their bodies into chunks.

    A row that no longer equals the plan is left for the next run, which decides anew. What does not fill a chunk is
    handed to the next part, so that only the very last chunk may be short.
    """
    run = tools.runs.get(part.run)
    holds = hold.holds_of(run) if run else []
    wanted = {
        change.reference: change
        for changes in tools.runs.data.fetch(part.run, f"sends:{place}", list[Planned])
        for change in changes
        if not any(kept.holds(change) for kept in holds)
    }
    rest: Chunk | None = tools.runs.data.fetch_one(part.run, "rest", part.number, Chunk)
    items = rest.items if rest else []
    start = place * SPOOL_ROWS
    source = tools.source()
    stream: Iterator[SourceRow]
    if source.sliceable and isinstance(source, RemembersRows):
        # The load has just noted what these rows come to: only those that are sent need to be read again.
        known = KnownRows(tools.ledger.known_rows(start // LOAD_ROWS), tools.ledger.place(source.version(), start))
        found = source.rows(start, start + SPOOL_ROWS, known=known)
        stream = (row if row.read is None else row.read() for row in found if row.reference in wanted)
    else:
        stream = source.rows(start, start + SPOOL_ROWS) if source.sliceable else source.get(list(wanted))
    seen_ms = source_began_ms(tools, part.run)
    # Each reference once: equal rows count once, and rows that differ were never planned.
    fresh = {item.reference: item for row in stream if (item := _outgoing(row, wanted, seen_ms)) is not None}
    items += fresh.values()
    sizes = pack([len(item.body) for item in items], flush=last)
    ends = list(accumulate(sizes, initial=0))
    chunks = [Chunk(items[begin:end]) for begin, end in pairwise(ends)]
    # Who does this part again after its worker died may find other rows: chunks and rest are those of the first time.
    left_over = ("rest", part.number + 1, Chunk(items[ends[-1] :]))
    tools.runs.parts.add(part.run, "upsert", f"spool:{part.number}", "chunks", chunks, rest=left_over)
    return {"chunks": len(sizes), "spooled": len(fresh), "moved_on": len(wanted) - len(fresh)}


def source_began_ms(tools: Tools, run_id: str) -> int:
    """When this run began to read the source, Redis time: how new its rows are."""
    run = tools.runs.get(run_id)
    return run.fact("source_began_ms", run.started_ms) if run else 0


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


def outgoing(
    listing: Listing,
    *,
    action: str,
    reason: str,
    version: int,
    seen_ms: int,
    answers: bytes = b"",
    values: Compared | None = None,
) -> Outgoing:
    """A listing with its body and all that the ledger must know of it once it is accepted.

    ``values``: its compared form, where that was made already.
    """
    values = values or compared(listing)
    content = content_fingerprint(listing, values)
    return Outgoing(
        reference=listing.external_reference,
        action=action,
        reason=reason,
        body=bulk_item(listing),
        content=content,
        rendering=compared_fingerprint(values),
        dealer=listing_dealer_fingerprint(listing),
        filled=filled_fields(listing),
        version=version,
        row=content,
        answers=answers,
        seen_ms=seen_ms,
    )


# -- upserts -------------------------------------------------------------------------------------------------------


def upsert_chunk(tools: Tools, part: Part, call: Call) -> dict[str, int]:
    """Send one chunk and settle the ledger item by item. The part is claimed and the permit taken by the caller."""
    chunk: Chunk | None = tools.runs.data.fetch_one(part.run, "chunks", part.number, Chunk)
    if chunk is None or not chunk.items:
        return {}
    references = [item.reference for item in chunk.items]
    with tools.locks.all(references):
        if not tools.runs.parts.holds(*part):
            return {}  # it stood still for so long that others did it; closing the part will tell the same
        base = tools.ledger.get(references)
        wishes = tools.inbox.waiting(references)
        late = [item for item in chunk.items if _overtaken(item, base.get(item.reference))]
        items = [item for item in chunk.items if item not in late and not _is_selling(wishes.get(item.reference))]
        tools.ledger.swap((i.reference, base[i.reference], _row_seen(i, base[i.reference])) for i in late)
        counts = {"overtaken": len(chunk.items) - len(items)}
        if not items:
            return counts
        try:
            answer = call.bulk_upsert([(item.reference, item.body) for item in items])
        except SetAside as refused:
            return counts | _refused_whole(tools, part, items, refused)
        counts["sent"] = len(items)
        counts |= _settle(tools, part, items, answer.items, base, request_id=answer.request_id, tries=chunk.tries)
    return counts


def sent(tools: Tools, part: Part) -> None:
    """Forget the bodies of a chunk whose part is closed; not sooner, or who does it again would find nothing to do."""
    tools.runs.data.drop(part.run, "chunks", part.number)


def _overtaken(item: Outgoing, entry: Entry | None) -> bool:
    """An older version never overwrites a newer one, and a car sold by hand stays sold while its row stands."""
    if entry is None:
        return False
    return entry.having(Flag.SOLD_BY_HAND) or Version(item.version, item.seen_ms).older_than(entry.stamp)


def _row_seen(item: Outgoing, entry: Entry) -> Entry:
    """The row was read, though not sent: only its next change counts. Who read the source since saw a newer one."""
    newer_read = entry.having(Flag.URGENT) or entry.seen_ms > item.seen_ms
    newer_row = newer_read and not entry.flags & (Flag.GIVEN | Flag.SOLD_BY_HAND)
    return entry if newer_row else entry.but(set_flags=Flag.IN_SOURCE, row=item.row, missed=0)


def _is_selling(wish: Wish | None) -> bool:
    """A sell that waits for its permit: what would be sent now would be sold at once."""
    return wish is not None and wish.kind == "sell"


def _settle(
    tools: Tools,
    part: Part,
    items: list[Outgoing],
    answers: Sequence[ItemAnswer],
    base: dict[str, Entry],
    *,
    request_id: str,
    tries: int,
) -> dict[str, int]:
    now_ms = tools.runs.now_ms()
    pairs = list(zip(items, answers, strict=True))
    accepted = [(item, answer) for item, answer in pairs if answer.outcome == "accepted"]
    if not tools.runs.parts.holds(*part):
        # Others did it meanwhile, and perhaps more: what they left stands. If nobody did, what was sent is known.
        tools.ledger.swap((i.reference, base.get(i.reference), _sent(i, answer, now_ms)) for i, answer in accepted)
        return {}
    lacking = images.settle(tools, [(i.reference, i.content, answer) for i, answer in accepted], now=now_ms // 1000)
    swaps: list[tuple[str, Entry | None, Entry]] = []
    counts = {"created": 0, "updated": 0, "skipped_images": 0}
    for item, answer in accepted:
        entry = _sent(item, answer, now_ms)
        if item.reference in lacking:
            entry = entry.but(set_flags=Flag.IMAGES)
        swaps.append((item.reference, base.get(item.reference), entry))
        counts["created" if item.action == "create" else "updated"] += 1
        counts["skipped_images"] += len(answer.skipped_images)
    parked: list[Reject] = []
    again: list[Outgoing] = []
    for item, answer in (pair for pair in pairs if pair[1].outcome != "accepted"):
        if answer.outcome == "unknown" or answer.http_status >= 500:
            again.append(item)
        else:
            parked.append(_reject(item, answer, part.run, request_id, now_ms // 1000))
    tools.ledger.swap(swaps)
    tools.ledger.unpark([item.reference for item, _ in accepted])
    remember.sent(tools, accepted, base, run=part.run, request_id=request_id, now_ms=now_ms)
    counts["new_rejects"] = rejects.park(tools, parked, base, in_source=True)
    counts["unanswered"] = _again(tools, part, again, tries)
    return counts


def _sent(item: Outgoing, answer: ItemAnswer, now_ms: int) -> Entry:
    flags = Flag.OWNED | Flag.IN_SOURCE | Flag.ECHO_DUE
    return Entry(
        content=item.content,
        rendering=item.rendering,
        row=item.row,
        dealer=item.dealer,
        filled=item.filled,
        status=answer.status or "active",
        flags=flags | Flag.RESENT if item.answers else flags,
        sent_ms=now_ms,
        changed_at=answer_mark(item.answers),
        version=item.version,
        seen_ms=item.seen_ms,
    )


def _again(tools: Tools, part: Part, items: list[Outgoing], tries: int) -> int:
    """Items the answer did not name are sent once more in a chunk of their own; returns those given up."""
    if not items:
        return 0
    if tries + 1 >= ATTEMPTS:
        return len(items)
    tools.runs.parts.add(part.run, "upsert", f"again:{part.number}", "chunks", [Chunk(items, tries=tries + 1)])
    return 0


def _refused_whole(tools: Tools, part: Part, items: list[Outgoing], refused: SetAside) -> dict[str, int]:
    """A chunk refused as a whole is halved until the culprit stands alone."""
    if len(items) == 1:
        answer = rejects.answer_of(items[0].reference, refused)
        base = tools.ledger.get([items[0].reference])
        reject = _reject(items[0], answer, part.run, refused.request_id, int(tools.runs.now()))
        return {"new_rejects": rejects.park(tools, [reject], base, in_source=True)}
    left, _ = halves(len(items))
    tools.runs.parts.add(
        part.run, "upsert", f"halves:{part.number}", "chunks", [Chunk(items[:left]), Chunk(items[left:])]
    )
    return {"halved": 1}


def _reject(item: Outgoing, answer: ItemAnswer, run: str, request_id: str | None, now: int) -> Reject:
    where = f"POST /listings/bulk-upsert, item {item.reference}"
    return rejects.reject_of(answer, item, where=where, run=run, request_id=request_id, now=now)


# -- the plan ------------------------------------------------------------------------------------------------------


def changes_of(tools: Tools, run: str, slices: Sequence[int]) -> Iterator[Planned]:
    """Every planned change of a run, sends in the order of the source, then sells."""
    for place in slices:
        changes = [c for batch in tools.runs.data.fetch(run, f"sends:{place}", list[Planned]) for c in batch]
        yield from sorted(changes, key=lambda change: change.row)
    for batch in tools.runs.data.fetch(run, "sells", list[Planned]):
        yield from batch
