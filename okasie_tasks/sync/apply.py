"""Apply: bodies are spooled by a second stream of the source, packed, sent, and the ledger settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from okasie_tasks.core.entry import Entry, Flag
from okasie_tasks.core.fingerprint import (
    compared,
    compared_fingerprint,
    content_fingerprint,
    filled_fields,
    listing_dealer_fingerprint,
)
from okasie_tasks.core.listing import bulk_item
from okasie_tasks.core.packing import halves, pack
from okasie_tasks.core.records import Outgoing, Planned, Reject
from okasie_tasks.errors import SetAside
from okasie_tasks.ports import Call, ItemAnswer, SourceRow
from okasie_tasks.sync.tools import ATTEMPTS, SPOOL_ROWS, Part, Tools


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
    wanted = {
        change.reference: change
        for changes in tools.runs.fetch(part.run, f"sends:{place}", list[Planned])
        for change in changes
    }
    rest: Chunk | None = tools.runs.fetch_one(part.run, "rest", part.number, Chunk)
    items = rest.items if rest else []
    start = place * SPOOL_ROWS
    source = tools.source()
    stream = source.rows(start, start + SPOOL_ROWS) if source.sliceable else source.get(list(wanted))
    # Each reference once: equal rows count once, and rows that differ were never planned.
    fresh = {item.reference: item for row in stream if (item := _outgoing(row, wanted)) is not None}
    items += fresh.values()
    sizes = pack([len(item.body) for item in items], flush=last)
    first = tools.runs.extend(part.run, "upsert", f"spool:{part.number}", len(sizes)) if sizes else 0
    taken = 0
    for number, size in enumerate(sizes, start=first):
        tools.runs.put(part.run, "chunks", number, Chunk(items[taken : taken + size]))
        taken += size
    tools.runs.put(part.run, "rest", part.number + 1, Chunk(items[taken:]))
    return {"chunks": len(sizes), "spooled": len(fresh), "moved_on": len(wanted) - len(fresh)}


def _outgoing(row: SourceRow, wanted: dict[str, Planned]) -> Outgoing | None:
    change = wanted.get(row.reference or "")
    if change is None or row.listing is None:
        return None
    content = content_fingerprint(row.listing)
    if content != change.content:
        return None
    return Outgoing(
        reference=change.reference,
        action=change.action,
        reason=change.reason,
        body=bulk_item(row.listing),
        content=content,
        rendering=compared_fingerprint(compared(row.listing)),
        dealer=listing_dealer_fingerprint(row.listing),
        filled=filled_fields(row.listing),
        version=row.version,
        row=content,
        resent=bool(change.rendering_seen),
    )


# -- upserts -------------------------------------------------------------------------------------------------------


def upsert_chunk(tools: Tools, part: Part, call: Call) -> dict[str, int]:
    """Send one chunk and settle the ledger item by item. The part is claimed and the permit taken by the caller."""
    chunk: Chunk | None = tools.runs.fetch_one(part.run, "chunks", part.number, Chunk)
    if chunk is None or not chunk.items:
        return {}
    base = tools.ledger.get([item.reference for item in chunk.items])
    items = [item for item in chunk.items if not _older(item, base.get(item.reference))]
    if not items:
        return {"overtaken": len(chunk.items)}
    try:
        answer = call.bulk_upsert([(item.reference, item.body) for item in items])
    except SetAside as refused:
        return _refused_whole(tools, part, items, refused)
    counts = {"overtaken": len(chunk.items) - len(items), "sent": len(items)}
    counts |= _settle(tools, part, items, answer.items, base, request_id=answer.request_id, tries=chunk.tries)
    tools.runs.drop(part.run, "chunks", part.number)
    return counts


def _older(item: Outgoing, entry: Entry | None) -> bool:
    """An older version never overwrites a newer one that the urgent lane sent."""
    return entry is not None and bool(item.version) and item.version < entry.version


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
    now = int(tools.runs.now())
    swaps: list[tuple[str, Entry | None, Entry]] = []
    accepted: list[str] = []
    parked: list[Reject] = []
    again: list[Outgoing] = []
    counts = {"created": 0, "updated": 0, "skipped_images": 0}
    for item, answer in zip(items, answers, strict=True):
        if answer.outcome == "accepted":
            swaps.append((item.reference, base.get(item.reference), _sent(item, answer, now)))
            accepted.append(item.reference)
            counts["created" if item.action == "create" else "updated"] += 1
            counts["skipped_images"] += len(answer.skipped_images)
        elif answer.outcome == "unknown" or answer.http_status >= 500:
            again.append(item)
        else:
            parked.append(_reject(item, answer, part.run, request_id, now))
    tools.ledger.swap(swaps)
    tools.ledger.unpark(accepted)
    counts["new_rejects"] = _park(tools, parked, base)
    counts["unanswered"] = _again(tools, part, again, tries)
    return counts


def _sent(item: Outgoing, answer: ItemAnswer, now: int) -> Entry:
    flags = Flag.OWNED | Flag.IN_SOURCE | Flag.ECHO_DUE
    return Entry(
        content=item.content,
        rendering=item.rendering,
        row=item.row,
        dealer=item.dealer,
        filled=item.filled,
        status=answer.status or "active",
        flags=flags | Flag.RESENT if item.resent else flags,
        sent_at=now,
        version=item.version,
    )


def _again(tools: Tools, part: Part, items: list[Outgoing], tries: int) -> int:
    """Items the answer did not name are sent once more in a chunk of their own; returns those given up."""
    if not items:
        return 0
    if tries + 1 >= ATTEMPTS:
        return len(items)
    number = tools.runs.extend(part.run, "upsert", f"again:{part.number}", 1)
    tools.runs.put(part.run, "chunks", number, Chunk(items, tries=tries + 1))
    return 0


def _refused_whole(tools: Tools, part: Part, items: list[Outgoing], refused: SetAside) -> dict[str, int]:
    """A chunk refused as a whole is halved until the culprit stands alone."""
    if len(items) == 1:
        answer = ItemAnswer(
            reference=items[0].reference,
            outcome="refused",
            http_status=refused.status,
            code=refused.code,
            message=refused.message,
            issues=refused.issues,
        )
        now = int(tools.runs.now())
        base = tools.ledger.get([items[0].reference])
        return {"new_rejects": _park(tools, [_reject(items[0], answer, part.run, refused.request_id, now)], base)}
    first = tools.runs.extend(part.run, "upsert", f"halves:{part.number}", 2)
    left, _ = halves(len(items))
    tools.runs.put(part.run, "chunks", first, Chunk(items[:left]))
    tools.runs.put(part.run, "chunks", first + 1, Chunk(items[left:]))
    return {"halved": 1}


def _reject(item: Outgoing, answer: ItemAnswer, run: str, request_id: str | None, now: int) -> Reject:
    details = "; ".join(f"{field}: {message}" for field, message in answer.issues)
    return Reject(
        reference=item.reference,
        where=f"POST /listings/bulk-upsert, item {item.reference}",
        code=answer.code or f"http_{answer.http_status}",
        message=details or answer.message or "refused without a reason",
        fields=[field for field, _ in answer.issues],
        content=item.content.hex(),
        request_id=request_id,
        first_seen=now,
        last_seen=now,
        run=run,
    )


def _park(tools: Tools, rejects: list[Reject], base: dict[str, Entry]) -> int:
    known = tools.ledger.rejects([reject.reference for reject in rejects])
    for reject in rejects:
        if before := known.get(reject.reference):
            reject.attempts = before.attempts + 1
            reject.first_seen = before.first_seen
    tools.ledger.park(rejects)
    marks = (
        (r.reference, entry, entry.but(set_flags=Flag.PARKED)) for r in rejects if (entry := base.get(r.reference))
    )
    tools.ledger.swap(marks)
    return len(rejects)


# -- sells ---------------------------------------------------------------------------------------------------------


def mark_sold(tools: Tools, part: Part, call: Call) -> dict[str, int]:
    """Mark one listing sold. A reference that is not known there is settled: there is nothing left to sell."""
    change: Planned | None = tools.runs.fetch_one(part.run, "selling", part.number, Planned)
    if change is None:
        return {}
    entry = tools.ledger.get([change.reference]).get(change.reference)
    if entry is None or entry.status == "sold":
        return {"overtaken": 1}
    try:
        answer = call.delete(change.reference)
        status = answer.items[0].status or "sold"
    except SetAside as refused:
        if refused.status != 404:
            raise
        status = "sold"
    settled = entry.but(status=status, missed=0, sent_at=int(tools.runs.now()), clear=Flag.IN_SOURCE | Flag.ECHO_DUE)
    tools.ledger.swap([(change.reference, entry, settled)])
    return {"sold": 1}


def refused_sell(tools: Tools, part: Part, refused: SetAside) -> dict[str, int]:
    """Park a listing whose DELETE was refused."""
    change: Planned | None = tools.runs.fetch_one(part.run, "selling", part.number, Planned)
    if change is None:
        return {}
    now = int(tools.runs.now())
    reject = Reject(
        reference=change.reference,
        where=f"DELETE /listings/{change.reference}",
        code=refused.code,
        message=refused.message,
        request_id=refused.request_id,
        first_seen=now,
        last_seen=now,
        run=part.run,
    )
    return {"new_rejects": _park(tools, [reject], {})}


def changes_of(tools: Tools, run: str, slices: Sequence[int]) -> Iterator[Planned]:
    """Every planned change of a run, sends in the order of the source, then sells."""
    for place in slices:
        changes = [c for batch in tools.runs.fetch(run, f"sends:{place}", list[Planned]) for c in batch]
        yield from sorted(changes, key=lambda change: change.row)
    for batch in tools.runs.fetch(run, "sells", list[Planned]):
        yield from batch
