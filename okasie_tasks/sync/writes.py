"""Writes to the marketplace: sends the spooled chunks and sells, and updates the ledger from the answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from okasie_tasks.core.history import Event
from okasie_tasks.core.ledger_entry import Entry, Flag, Version, answer_mark, answered_status
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import Outgoing, Planned, merge_counts
from okasie_tasks.errors import ItemRejected, RetryLater, Unavailable
from okasie_tasks.ports import Call, ItemAnswer, WriteAnswer
from okasie_tasks.sync import audit, doubtful, failover, halving, rejects, skipped_images
from okasie_tasks.sync.approvals import approval_of
from okasie_tasks.sync.context import AccountContext, Part
from okasie_tasks.sync.sells import send_sell
from okasie_tasks.sync.spool import Chunk, source_began_ms

if TYPE_CHECKING:
    from okasie_tasks.store.chunk_steps import ReadBefore
    from okasie_tasks.store.records import Claim

# -- upserts -------------------------------------------------------------------------------------------------------


def upsert_chunk(ctx: AccountContext, part: Part, work: bytes | None, call: Call) -> dict[str, int]:
    """Send one chunk and update the ledger item by item. The caller has claimed the part and taken the permit.

    ``work``: the chunk as stored, None for one that is gone.
    """
    chunk: Chunk | None = None if work is None else msgspec.msgpack.decode(work, type=Chunk)
    if chunk is None or not chunk.items:
        return {}
    with ctx.chunks.locked(*part, [item.reference for item in chunk.items]) as before:
        if not before.is_claimed:
            return {}  # this worker was suspended and lost its claim; closing the part finds the same
        base, changes = before.entries, before.changes
        superseded = [item for item in chunk.items if _is_superseded(item, base.get(item.reference))]
        undoing = failover.may_undo_push(ctx, part, chunk.items)
        current = [item for item in chunk.items if item not in superseded and item not in undoing]
        items = [item for item in current if not _is_selling(changes.get(item.reference))]
        ctx.ledger.swap((i.reference, base[i.reference], _row_seen(i, base[i.reference])) for i in superseded)
        chunk.counts = merge_counts([chunk.counts, {"overtaken": len(chunk.items) - len(items)}])
        accepted = bool(items) and _send(ctx, part, chunk, items, before, call=call)
        if chunk.is_probe and not accepted:
            raise Unavailable("no listing could be sent to see whether the marketplace accepts any", seconds=0)
        if chunk.is_probe:
            counts, _ = halving.probed(ctx, part, chunk, accepted=True)
            chunk.counts = merge_counts([chunk.counts, counts])
    return chunk.counts


def _send(
    ctx: AccountContext,
    part: Part,
    chunk: Chunk,
    items: list[Outgoing],
    before: ReadBefore,
    *,
    call: Call,
) -> bool:
    """Send these items of the chunk, and add to its counts. Returns whether any was accepted.

    Raises `Unavailable` if the answer leaves some open.
    """
    creates = doubtful.creates_of(items, before.entries)
    if not ctx.ledger.note_creates(creates, before.locks):
        raise before.locks.lost()
    try:
        answer = call.bulk_upsert([(item.reference, item.body) for item in items])
    except ItemRejected as refused:
        ctx.ledger.forget_creates(creates)
        chunk.counts = merge_counts([chunk.counts, halving.refused_whole(ctx, part, items, refused)])
        return False
    unsettled = [pair for pair in zip(items, answer.items, strict=True) if not _is_settled(pair[1])]
    if unsettled and not chunk.failed_ms:
        chunk.failed_ms = ctx.runs.now_ms()  # before what the same answer accepts is recorded
    done = creates.difference(item.reference for item, _ in unsettled)
    settled = _record_answers(ctx, part, items, answer, before, created=done)
    if not chunk.resent:
        chunk.counts = merge_counts([chunk.counts, {"sent": len(items)}, settled])
    if unsettled and ctx.runs.parts.owns_claim(*part):
        raise halving.try_again(ctx, part, unsettled, chunk, answer.request_id)
    return any(item.outcome == "accepted" for item in answer.items)


def _is_superseded(item: Outgoing, entry: Entry | None) -> bool:
    """An older version never overwrites a newer one. A car sold manually stays sold while its row is in the source."""
    if entry is None:
        return False
    return entry.has(Flag.SOLD_BY_HAND) or Version(item.version, item.seen_ms).older_than(entry.stamp)


def _row_seen(item: Outgoing, entry: Entry) -> Entry:
    """Record the row as read, although it was not sent: it is sent after its next change.

    A newer read of the source has seen a newer row, which stays recorded.
    """
    newer_read = entry.has(Flag.URGENT) or entry.seen_ms > item.seen_ms
    newer_row = newer_read and not entry.flags & (Flag.INLINE_CONTENT | Flag.SOLD_BY_HAND)
    return entry if newer_row else entry.replace(set_flags=Flag.IN_SOURCE, row=item.row, missed=0)


def _is_selling(change: PendingChange | None) -> bool:
    """Return whether a sell is waiting for its permit: the listing would be sold right after being sent."""
    return change is not None and change.kind == "sell"


def _record_answers(
    ctx: AccountContext,
    part: Part,
    items: list[Outgoing],
    answer: WriteAnswer,
    before: ReadBefore,
    *,
    created: Collection[str],
) -> dict[str, int]:
    """Record what the answer settles, and return its counts. ``created``: listings whose creates are settled."""
    base, request_id, parts = before.entries, answer.request_id, ctx.runs.parts
    pairs = list(zip(items, answer.items, strict=True))
    accepted = [(item, one) for item, one in pairs if one.outcome == "accepted"]
    now_ms = parts.owns_claim(*part)
    if not now_ms:
        # The claim was lost. If another worker has written these entries, the swap fails and they stay.
        # Otherwise the ledger records what was sent.
        now_ms = ctx.runs.now_ms()
        ctx.ledger.swap(
            (i.reference, base.get(i.reference), _sent(i, one, base.get(i.reference), now_ms)) for i, one in accepted
        )
        ctx.ledger.forget_creates(created)
        return {}
    lacking = skipped_images.record(
        ctx,
        [(i.reference, i.content, one) for i, one in accepted],
        known=before.skipped,
        now=now_ms // 1000,
    )
    swaps: list[tuple[str, Entry | None, Entry]] = []
    counts = {"created": 0, "updated": 0, "skipped_images": 0, "warnings": 0}
    for item, one in accepted:
        entry = _sent(item, one, base.get(item.reference), now_ms)
        if item.reference in lacking:
            entry = entry.replace(set_flags=Flag.IMAGES)
        swaps.append((item.reference, base.get(item.reference), entry))
        counts["created" if item.action == "create" else "updated"] += 1
        counts["skipped_images"] += len(one.skipped_images)
        counts["warnings"] += not entry.status
    refused = [
        halving.reject_of(item, one, part.run, request_id, now_ms // 1000)
        for item, one in pairs
        if one.outcome != "accepted" and _is_settled(one)
    ]
    commands = [
        *ctx.ledger.forget_creates_commands(created),
        *ctx.ledger.remove_rejects_commands([item.reference for item, _ in accepted]),
    ]
    if accepted:
        commands.append(ctx.runs.accepted_command(ctx.policy.account, now_ms))
        commands += ctx.runs.data.put_commands(part.run, "witness", 0, accepted[-1][0])
    events = audit.sent(ctx, accepted, base, run=part.run, request_id=request_id, now_ms=now_ms)
    ctx.chunks.settle(swaps, events, commands)
    counts["new_rejects"] = rejects.record(ctx, refused, base, in_source=True)
    return counts


def _is_settled(answer: ItemAnswer) -> bool:
    return answer.outcome != "unknown" and answer.http_status < 500


def _sent(item: Outgoing, answer: ItemAnswer, base: Entry | None, now_ms: int) -> Entry:
    flags = Flag.OWNED | Flag.IN_SOURCE | Flag.ECHO_DUE
    return Entry(
        content=item.content,
        rendering=item.rendering,
        row=item.row,
        dealer=item.dealer,
        filled=item.filled,
        price=item.price,
        status=answered_status(answer.status, "active"),
        flags=flags | Flag.RESENT if item.answers else flags,
        sent_ms=now_ms,
        changed_at=answer_mark(item.answers) if item.answers else (base or Entry()).known_at,
        version=item.version,
        seen_ms=item.seen_ms,
    )


def mark_sold(ctx: AccountContext, part: Part, claim: Claim, call: Call) -> dict[str, int]:  # noqa: PLR0911
    """Mark one listing sold. A reference that the marketplace does not know (404) counts as sold."""
    if claim.work is None:
        return {}
    run, change = claim.record, msgspec.msgpack.decode(claim.work, type=Planned)
    # Over an unchanged row this repeats an earlier sell, and a pending push may be newer than that one.
    seen_ms = source_began_ms(run) if change.seen_ms is None else change.seen_ms
    with ctx.locks.all([change.reference]):
        if not ctx.runs.parts.owns_claim(*part):
            return {}
        entry = ctx.ledger.get([change.reference]).get(change.reference)
        if entry is None or not _still_to_sell(change, entry):
            return {"overtaken": 1}
        if entry.has(Flag.URGENT) and entry.seen_ms > seen_ms:
            row_gone = Flag.IN_SOURCE if change.row < 0 and entry.has(Flag.INLINE_CONTENT) else Flag(0)
            ctx.ledger.swap([(change.reference, entry, entry.replace(clear=row_gone))])
            return {"overtaken": 1}
        if _newer_waits(ctx, change, seen_ms):
            return {"overtaken": 1}
        if failover.is_planned_before(ctx, run):
            return {"unconfirmed": 1}  # a push since then may be lost
        answer = send_sell(ctx, call, change.reference, entry, run=part.run)
        if answer.status != "sold":
            return {"warnings": 1}  # not known to be sold: the next run decides again
        now_ms = ctx.runs.now_ms()
        settled = _sold(entry, change, now_ms=now_ms, seen_ms=seen_ms)
        if not ctx.ledger.swap([(change.reference, entry, settled)]):
            by = approval_of(ctx, part.run).of(change.reference, "sell")
            event = Event(now_ms, "sold", change.reason, run=part.run, request_id=answer.request_id, by=by)
            audit.record_sold(ctx, change.reference, event, entry)
    return {"sold": 1}


def _sold(entry: Entry, change: Planned, *, now_ms: int, seen_ms: int) -> Entry:
    """Return the entry after its sell. ``seen_ms``: when the source was read."""
    # A row with status sold stays in the source, and its next change is compared with it.
    has_row = change.row >= 0
    set_flags = Flag.IN_SOURCE if has_row else Flag(0)
    clear = Flag.ECHO_DUE | Flag.URGENT | Flag.INLINE_CONTENT | Flag.REVIVED | Flag.SELL_IN_DOUBT
    return entry.replace(
        status="sold",
        missed=0,
        row=change.content if has_row else entry.row,
        sent_ms=now_ms,
        changed_at=change.changed_at or entry.known_at,
        # A sell has no version: a push from before this read of the source is older than the sell.
        version=0,
        seen_ms=seen_ms,
        set_flags=set_flags | (Flag.RESENT if change.rendering_seen else Flag(0)),
        clear=clear if has_row else clear | Flag.IN_SOURCE | Flag.SOLD_BY_HAND,
    )


def _still_to_sell(change: Planned, entry: Entry) -> bool:
    """Return whether the ledger entry still justifies the planned sell."""
    if change.rendering_seen:  # relisted on the marketplace; a push since then has relisted it for us
        return entry.has(Flag.REVIVED)
    # Not in the source: it was pushed since the decision, and the missing row has already been accounted for.
    return entry.status != "sold" and (change.row >= 0 or entry.has(Flag.IN_SOURCE))


def _newer_waits(ctx: AccountContext, change: Planned, seen_ms: int) -> bool:
    """Return whether the urgent lane has a pending change that this sell must not precede."""
    waiting = ctx.urgent_queue.waiting([change.reference]).get(change.reference)
    if waiting is None:
        return False
    if waiting.row_gone or not waiting.stamp.older_than(Version(0, seen_ms)):
        if change.row < 0:
            ctx.urgent_queue.row_gone(waiting)
        return True
    # That push may have relisted it, with its answer lost.
    return bool(change.rendering_seen) and waiting.kind == "push"


def failed_sell(ctx: AccountContext, part: Part, error: RetryLater) -> None:
    """Record in the listing's history that its sell was given up for this run."""
    change: Planned | None = ctx.runs.data.fetch_one(part.run, "selling", part.number, Planned)
    if change is not None:
        audit.record_failed(ctx, change.reference, "the sell failed; the next run sends it again", error, run=part.run)


def refused_sell(ctx: AccountContext, part: Part, refused: ItemRejected) -> dict[str, int]:
    """Reject a listing whose DELETE was refused."""
    change: Planned | None = ctx.runs.data.fetch_one(part.run, "selling", part.number, Planned)
    if change is None:
        return {}
    reject = rejects.reject_of(
        rejects.answer_of(change.reference, refused),
        None,
        where=f"DELETE /listings/{change.reference}",
        run=part.run,
        request_id=refused.request_id,
        now=int(ctx.runs.now()),
    )
    return {"new_rejects": rejects.record(ctx, [reject], ctx.ledger.get([change.reference]))}
