"""Finds the listings that make a bulk call fail: halves it until they stand alone, and rejects them.

A call that the API refuses as a whole is halved at once. One that fails otherwise is halved after its tries, if other
upserts have been accepted since it failed. If none was, a probe shows whether the marketplace accepts any. If it does
not, it is down: nothing is rejected, and the next run sends all of it. Only a 5xx can reject a listing so; the page of
a proxy never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from okasie_tasks.core.estimates import halves
from okasie_tasks.core.records import Outgoing, Reject, merge_counts
from okasie_tasks.errors import ItemRejected, RetryLater, Unavailable
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.sync import rejects
from okasie_tasks.sync.context import ATTEMPTS, AccountContext, Part
from okasie_tasks.sync.spool import Chunk

_DATA_FAULTS: Final = frozenset({"IMAGES_FAILED", "FEATURES_FAILED"})
"""The codes of a 500 that name the listing's data (API docs, errors)."""
Ended = tuple[dict[str, int], bool]
"""The counts of a part that ends after a failure, and whether it failed."""


# -- refused as a whole --------------------------------------------------------------------------------------------


def refused_whole(ctx: AccountContext, part: Part, items: list[Outgoing], refused: ItemRejected) -> dict[str, int]:
    """Halve a chunk that was refused as a whole, until the culprit is alone and is rejected."""
    if len(items) == 1:
        answer = rejects.answer_of(items[0].reference, refused)
        reject = reject_of(items[0], answer, part.run, refused.request_id, int(ctx.runs.now()))
        return _record(ctx, [reject])
    left, _ = halves(len(items))
    return _add(ctx, part, "halves", [Chunk(items[:left]), Chunk(items[left:])])


def reject_of(item: Outgoing, answer: ItemAnswer, run: str, request_id: str | None, now: int) -> Reject:
    where = f"POST /listings/bulk-upsert, item {item.reference}"
    return rejects.reject_of(answer, item, where=where, run=run, request_id=request_id, now=now)


# -- failed --------------------------------------------------------------------------------------------------------


def try_again(
    ctx: AccountContext, part: Part, items: Sequence[tuple[Outgoing, ItemAnswer]], chunk: Chunk, request_id: str
) -> Unavailable:
    """Reduce the chunk to these items, which the answer does not settle. Returns the error of this try.

    ``chunk``: as it was sent, with the counts of what is settled.
    """
    answers = {item.reference: answer for item, answer in items}
    if not chunk.is_probe:
        left = Chunk([item for item, _ in items], counts=chunk.counts, failed_ms=chunk.failed_ms, answers=answers)
        ctx.runs.data.put(part.run, "chunks", part.number, left)
    worst = max(answers.values(), key=lambda answer: answer.http_status)
    return rejects.item_error(worst, request_id, more=f" and {len(items) - 1} more" if len(items) > 1 else "")


def after_failure(ctx: AccountContext, part: Part, error: RetryLater, *, attempts: int) -> Ended | None:
    """Decide about a chunk after a failure that counts. Returns how its part ends, or None: it is tried again."""
    chunk: Chunk | None = ctx.runs.data.fetch_one(part.run, "chunks", part.number, Chunk)
    last = attempts >= ATTEMPTS
    if chunk is not None and chunk.is_probe:
        return probed(ctx, part, chunk, accepted=False)
    if chunk is None or not isinstance(error, Unavailable) or error.status < 400:
        return (chunk.counts if chunk else {}, True) if last else None
    if not ctx.runs.parts.owns_claim(*part):
        return None
    now_ms = ctx.runs.now_ms()
    if not chunk.failed_ms:
        chunk.failed_ms = now_ms
        ctx.runs.data.put(part.run, "chunks", part.number, chunk)
    together = len(chunk.items) > 1 and not chunk.answers
    if not last and not (together and chunk.suspect):
        return None
    found = Chunk([], then=_halves(chunk.items, now_ms)) if together else Chunk([])
    if not together:
        found.culprits = _culprits(chunk, error, part, now_ms // 1000)
    if ctx.runs.accepted_since(ctx.policy.account, chunk.failed_ms):
        counts, _ = probed(ctx, part, found, accepted=True)
    elif (together or found.culprits) and (probe := _probe(ctx, part, chunk.items, found, now_ms)):
        counts = _add(ctx, part, "probe", [probe])
    elif len(chunk.items) == 1 and found.culprits and found.culprits[0].code in _DATA_FAULTS:
        counts = _record(ctx, _unproven(ctx, found.culprits))
    else:
        return chunk.counts, True
    return merge_counts([chunk.counts, counts]), not together and len(found.culprits) < len(chunk.items)


def probed(ctx: AccountContext, part: Part, probe: Chunk, *, accepted: bool) -> Ended:
    """Continue a search with what a probe has shown: whether the marketplace accepts upserts now."""
    if accepted:
        return merge_counts([_add(ctx, part, "then", probe.then), _record(ctx, probe.culprits)]), False
    if probe.otherwise:
        return _add(ctx, part, "otherwise", probe.otherwise), False
    ctx.runs.note(part.run, writes_down=1)
    return {}, True


def _halves(items: list[Outgoing], now_ms: int) -> list[Chunk]:
    """The halves of items that fail together. A single one must fail anew, and others be accepted after that."""
    left, _ = halves(len(items))
    return [
        Chunk(half, suspect=True, failed_ms=now_ms if len(half) > 1 else 0) for half in (items[:left], items[left:])
    ]


def _probe(ctx: AccountContext, part: Part, items: list[Outgoing], found: Chunk, now_ms: int) -> Chunk | None:
    """A request that shows whether the marketplace accepts upserts: a listing that it has accepted in this run.

    Without one, two of the items on their own. None when there is none, or when an earlier probe of the run failed.
    """
    run = ctx.runs.get(part.run)
    if run is None or run.fact("writes_down"):
        return None
    witness: Outgoing | None = ctx.runs.data.fetch_one(part.run, "witness", 0, Outgoing)
    if witness is not None:
        item = msgspec.structs.replace(witness, reason="sent again to see whether the marketplace accepts listings")
        return msgspec.structs.replace(found, items=[item], is_probe=True, resent=True)
    otherwise: list[Chunk] = []
    for place in (len(items) // 4, len(items) // 2) if len(items) > 1 else ():
        rest = Chunk(items[:place] + items[place + 1 :], suspect=True, failed_ms=now_ms)
        otherwise = [Chunk([items[place]], is_probe=True, then=[rest], otherwise=otherwise)]
    return otherwise[0] if otherwise else None


def _culprits(chunk: Chunk, error: Unavailable, part: Part, now: int) -> list[Reject]:
    """The rejects of the items that fail on their own, with a status that may be about the data."""
    answers = chunk.answers
    if not answers and len(chunk.items) == 1:
        reference = chunk.items[0].reference
        answers = {reference: rejects.failure_of(reference, error)}
    return [
        reject_of(item, rejects.persistent(answers[item.reference]), part.run, error.request_id, now)
        for item in chunk.items
        if item.reference in answers and rejects.may_be_data(answers[item.reference].http_status)
    ]


def _unproven(ctx: AccountContext, culprits: list[Reject]) -> list[Reject]:
    """Rejects of a single listing whose code names its data, without evidence that other upserts are accepted.

    The first time, the next run sends it again.
    """
    known = ctx.ledger.rejects([reject.reference for reject in culprits])
    for reject in culprits:
        before = known.get(reject.reference)
        reject.message = reject.message.removesuffix(rejects.EVIDENCE)
        if before is None or before.content != reject.content:
            reject.contract = ""
            reject.message += "; the next run sends it again"
    return culprits


def _record(ctx: AccountContext, culprits: list[Reject]) -> dict[str, int]:
    if not culprits:
        return {}
    base = ctx.ledger.get([reject.reference for reject in culprits])
    return {"new_rejects": rejects.record(ctx, culprits, base, in_source=True)}


def _add(ctx: AccountContext, part: Part, name: str, chunks: list[Chunk]) -> dict[str, int]:
    if not chunks:
        return {}
    ctx.runs.parts.add(part.run, "upsert", f"{name}:{part.number}", "chunks", chunks)
    return {"halved": 1}
