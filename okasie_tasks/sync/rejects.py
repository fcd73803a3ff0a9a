"""Rejects: a listing that the marketplace refused is kept with the reason, and not sent until its content changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import WARNING
from typing import Final, NamedTuple

import msgspec

from okasie_tasks.core.fields import CONTRACT
from okasie_tasks.core.fingerprint import fingerprint
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.listing import Issue
from okasie_tasks.core.records import Local, Outgoing, Reject
from okasie_tasks.errors import ItemRejected, Unavailable
from okasie_tasks.logs import each, get_logger
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.sync import audit
from okasie_tasks.sync.context import ATTEMPTS, AccountContext

log = get_logger(__name__)

PUSHED_ROW: Final = "push"
"""Stands for the run in the reject of a pushed row. The next run that reads the row replaces it with its id."""
COLLECTION: Final = "rejected"
"""A collection of a dry run: the rejects of each partition."""
EVIDENCE: Final = f"; failed {ATTEMPTS} times while other listings were accepted"
_PER_TRIP: Final = 500


def answer_of(reference: str, refused: ItemRejected) -> ItemAnswer:
    """Convert the refusal of a single-listing request to the answer of its item."""
    return ItemAnswer(
        reference=reference,
        outcome="refused",
        http_status=refused.status,
        code=refused.code,
        message=refused.message,
        issues=refused.issues,
    )


def failure_of(reference: str, error: Unavailable) -> ItemAnswer:
    """Convert the failure of a request with a single listing to the answer of its item."""
    return ItemAnswer(reference, "unknown", http_status=error.status, code=error.reported_code, message=error.message)


def item_error(answer: ItemAnswer, request_id: str, *, more: str = "") -> Unavailable:
    """The error of an item that an answer does not settle."""
    message = "the answer does not name it, or contradicts itself"
    if answer.http_status:
        message = f"HTTP {answer.http_status}" + (f" {answer.code}" if answer.code else "")
        message += f": {answer.message}" if answer.message else ""
    where = f"POST /listings/bulk-upsert, item {answer.reference}{more} (request {request_id})"
    error = Unavailable(message, seconds=0, where=where)
    error.status, error.reported_code, error.request_id = answer.http_status, answer.code, request_id
    return error


def may_be_data(status: int) -> bool:
    """Whether a failure with this status can be due to the listing's content, if it comes back for it alone."""
    return status >= 500 or status == 413


def persistent(answer: ItemAnswer) -> ItemAnswer:
    """The answer of a listing that is given up, with the evidence against it."""
    text = answer.message or f"HTTP {answer.http_status}"
    return msgspec.structs.replace(answer, outcome="refused", message=f"{text}{EVIDENCE}")


def reject_of(
    answer: ItemAnswer, item: Outgoing | None, *, where: str, run: str, request_id: str | None, now: int
) -> Reject:
    """Return the reject for a refused item. ``item`` is None for a sell. ``now``: whole seconds, Redis time."""
    details = "; ".join(f"{field}: {message}" for field, message in answer.issues)
    return Reject(
        reference=answer.reference,
        where=where,
        code=answer.code or f"http_{answer.http_status}",
        message=details or answer.message or "refused without a reason",
        fields=[field for field, _ in answer.issues],
        content=item.content.hex() if item else "",
        contract=CONTRACT,
        request_id=request_id,
        first_seen=now,
        last_seen=now,
        run=run,
    )


def invalid(reference: str, issues: Sequence[Issue], *, where: str, run: str, now: int) -> Reject:
    """Return the reject for an invalid row or listing, of which nothing was sent.

    Its ``content`` is the fingerprint of the issues.
    """
    return Reject(
        reference=reference,
        where=where,
        code=issues[0].code,
        message="; ".join(f"{issue.field}: {issue.message}" for issue in issues),
        fields=[issue.field for issue in issues],
        content=fingerprint([[issue.field, issue.code, issue.message] for issue in issues]).hex(),
        issues=[(issue.field, issue.code, issue.value) for issue in issues],
        contract=CONTRACT,
        attempts=0,
        first_seen=now,
        last_seen=now,
        run=run,
    )


def record(
    ctx: AccountContext, rejects: Sequence[Reject], base: Mapping[str, Entry], *, in_source: bool = False, by: str = ""
) -> int:
    """Store rejects, mark their ledger entries, and return how many there are.

    ``in_source``: source rows were refused, so when they disappear, the cars are gone.
    ``by``: who pushed or sold them.
    """
    known = ctx.ledger.rejects([reject.reference for reject in rejects])
    for reject in rejects:
        if before := known.get(reject.reference):
            reject.attempts = before.attempts + 1
            reject.first_seen = before.first_seen
    ctx.ledger.put_rejects(rejects)
    marks = [(r.reference, entry) for r in rejects if (entry := base.get(r.reference))]
    ctx.ledger.swap((name, entry, _refused(entry, in_source=in_source)) for name, entry in marks)
    audit.record_refused(ctx, [(r, "" if r.run == PUSHED_ROW else r.run) for r in rejects], by=by)
    log_new(ctx, rejects)
    return len(rejects)


def _refused(entry: Entry, *, in_source: bool) -> Entry:
    if in_source and entry.live:  # a sold listing is relisted with its next row
        return entry.replace(set_flags=Flag.REJECTED | Flag.IN_SOURCE, missed=0)
    return entry.replace(set_flags=Flag.REJECTED)


def log_new(ctx: AccountContext, rejects: Sequence[Reject]) -> None:
    """Log each listing that is newly rejected."""
    lines = [
        {
            "account": ctx.policy.account,
            "reference": reject.reference,
            "where": reject.where,
            "code": reject.code,
            "reason": reject.message,
            "request_id": reject.request_id,
            **({"run": reject.run} if reject.run not in ("", PUSHED_ROW) else {}),
        }
        for reject in rejects
    ]
    each(log, WARNING, "listing rejected", lines)


def sent_as(action: str, local: Local | None) -> bytes:
    """Return the content by which a reject of this change is identified; empty for a sell."""
    return local.content if local is not None and action != "sell" else b""


def is_still_rejected(reject: Reject, content: bytes) -> bool:
    """Return whether exactly this content was refused and has not been freed since."""
    return reject.content == content.hex() and not is_free(reject)


def is_free(reject: Reject) -> bool:
    """Return whether it may be sent again: the contract has changed since, or `free` has freed it."""
    return reject.contract != CONTRACT


class FreedRejects(NamedTuple):
    """References by result: refused and now free, invalid (validated again by each run), not rejected."""

    freed: list[str]
    invalid: list[str]
    not_rejected: list[str]


def free(ctx: AccountContext, references: Sequence[str] = ()) -> FreedRejects:
    """Let the next run send refused listings again: these, or all. One that is refused again keeps its attempts."""
    rejected = ctx.ledger.rejects(references) if references else {r.reference: r for r in ctx.ledger.all_rejects()}
    refused = [reject for reject in rejected.values() if reject.attempts]
    for start in range(0, len(refused), _PER_TRIP):
        batch = refused[start : start + _PER_TRIP]
        ctx.ledger.put_rejects([msgspec.structs.replace(reject, contract="") for reject in batch])
    return FreedRejects(
        [reject.reference for reject in refused],
        [reject.reference for reject in rejected.values() if not reject.attempts],
        [reference for reference in references if reference not in rejected],
    )
