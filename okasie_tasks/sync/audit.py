"""Remember: what the steps add to the history of the listings they have written, refused or found changed.

Each call is one more trip to Redis for a whole chunk, and one before it where something was written over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import ERROR, INFO, WARNING
from typing import Any, NamedTuple

import msgspec

from okasie_tasks.core.decision import Decision
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, decode_compared
from okasie_tasks.core.history import NOT_KEPT, Change, Event, both_versions, fit
from okasie_tasks.core.ledger_entry import Entry, Flag
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import Local, Outgoing, Reject, Remote
from okasie_tasks.core.snapshot import Snapshot, diff, theirs
from okasie_tasks.logs import each, get_logger
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.sync.context import AccountContext

log = get_logger(__name__)

# -- what was written ----------------------------------------------------------------------------------------------


def sent(
    ctx: AccountContext,
    accepted: Sequence[tuple[Outgoing, ItemAnswer]],
    base: Mapping[str, Entry],
    *,
    run: str,
    request_id: str,
    now_ms: int,
) -> None:
    """What a run has created or updated, each with its reason and what changed."""
    events = [
        (item, Event(now_ms, "created" if item.action == "create" else "updated", item.reason, run, request_id), answer)
        for item, answer in accepted
    ]
    _written(ctx, events, base, now_ms)


def pushed(
    ctx: AccountContext,
    accepted: Sequence[tuple[tuple[bytes, PendingChange], Outgoing, ItemAnswer]],
    base: Mapping[str, Entry],
    *,
    request_id: str,
    now_ms: int,
) -> None:
    """What the urgent lane has created or updated."""
    events = []
    for (_, change), item, answer in accepted:
        outcome, origin = (
            "created" if answer.created else "updated",
            "handed in" if change.inline else "from the source",
        )
        event = Event(now_ms, "pushed", f"{outcome} by a push, {origin}", request_id=request_id)
        events.append((item, event, answer))
    _written(ctx, events, base, now_ms)


def _written(
    ctx: AccountContext, events: Sequence[tuple[Outgoing, Event, ItemAnswer]], base: Mapping[str, Entry], now_ms: int
) -> None:
    known = [item.reference for item, _, _ in events if item.reference in base]
    before = ctx.history.snapshots(known, now_ms=now_ms)
    rows = []
    for item, event, answer in events:
        body: dict[str, Any] = msgspec.json.decode(item.body)
        entry = base.get(item.reference)
        after = Snapshot.of(body)
        changes = diff(before.get(item.reference), body, after=after, status=entry.status if entry else "")
        warnings = (said,) if (said := skipped_images(answer)) else ()
        full = msgspec.structs.replace(event, changes=changes, warnings=warnings)
        rows.append((item.reference, full, after.pack()))
    ctx.history.sent(rows)


def skipped_images(answer: ItemAnswer) -> str | None:
    """How many images the marketplace did not take, and why not the first of them."""
    count = len(answer.skipped_images)
    return f"{count} of its images were skipped: {answer.skipped_images[0].reason}" if count else None


def sold(ctx: AccountContext, reference: str, event: Event, entry: Entry | None, *, status: str = "sold") -> None:
    """A listing that was marked sold. ``entry``: the ledger's, before."""
    changes = (("status", (entry and entry.status) or None, status),)
    ctx.history.add([(reference, msgspec.structs.replace(event, changes=changes))])


def refused(ctx: AccountContext, rejects: Sequence[tuple[Reject, str]]) -> None:
    """What the marketplace refused, each with its code and message, and the run that had sent it."""
    ctx.history.add(
        (
            reject.reference,
            Event(
                reject.last_seen * 1000,
                "refused",
                "refused by the marketplace",
                run,
                reject.request_id or "",
                code=reject.code,
                message=reject.message,
            ),
        )
        for reject, run in rejects
    )


def given_up(ctx: AccountContext, changes: Sequence[tuple[PendingChange, str]], *, now_ms: int) -> None:
    """What the urgent lane has tried for too long, each with what was said last."""
    ctx.history.add(
        (change.reference, Event(now_ms, "failed", f"the {change.kind} was given up", message=said))
        for change, said in changes
    )
    whose = {"account": ctx.policy.account}
    lines = [{**whose, "reference": change.reference, "kind": change.kind, "reason": said} for change, said in changes]
    each(log, ERROR, "given up", lines)


# -- what was found changed ----------------------------------------------------------------------------------------


class Noted(NamedTuple):
    """A drift or a conflict, with what it was decided from."""

    reference: str
    decision: Decision
    local: Local | None
    remote: Remote | None
    base: Entry | None

    @property
    def values(self) -> bytes | None:
        """The values of ours: the row's, unless something else was handed in and stands over a row that is the same."""
        if self.local is None:
            return None
        given = self.base is not None and self.base.has(Flag.INLINE_CONTENT) and self.local.content == self.base.row
        return None if given else self.local.values


def worth_noting(decision: Decision, base: Entry | None) -> bool:
    """Drifts and conflicts; not a conflict that merely goes on, which was told when it began."""
    if decision.count not in ("drifted", "conflicts"):
        return False
    goes_on = base is not None and base.has(Flag.DISPUTED) and decision.action == "none" and not decision.fields
    return not goes_on


def decided(ctx: AccountContext, noted: Sequence[Noted], *, run: str) -> None:
    """Keep each drift and conflict, with both versions, unless it is the newest thing known of its listing."""
    if not noted:
        return
    now_ms = ctx.runs.now_ms()
    references = [found.reference for found in noted]
    newest = ctx.history.latest(references, now_ms=now_ms)
    ours = ctx.history.snapshots([found.reference for found in noted if _needs_ours(found)], now_ms=now_ms)
    fresh = []
    for found in noted:
        kind = "drift" if found.decision.count == "drifted" else "conflict"
        changes = _both(found, ours.get(found.reference))
        event = fit(Event(now_ms, kind, found.decision.reason, run, changes=changes))
        if not event.same_as(newest.get(found.reference)):
            fresh.append((found.reference, event))
    # The log first: a part that is done once more may tell a thing twice, and never not at all.
    ctx.history.conflict(fresh)
    ctx.history.add(fresh)
    for kind in ("drift", "conflict"):
        whose = {"account": ctx.policy.account, "run": run}
        lines = [{**whose, "reference": name, "reason": event.reason} for name, event in fresh if event.kind == kind]
        each(log, INFO if kind == "drift" else WARNING, kind, lines)


def _needs_ours(found: Noted) -> bool:
    """Whether our values are not at hand: a row that did not change travels without them."""
    return found.remote is not None and found.remote.values is not None and found.values is None


def _both(found: Noted, ours: Snapshot | None) -> tuple[Change, ...]:
    """(field, ours, theirs) of what differs."""
    local, remote, fields = found.local, found.remote, found.decision.fields
    other: list[Change] = [(name, NOT_KEPT, NOT_KEPT) for name in fields if name not in (*COMPARED_FIELDS, "unknown")]
    if local is not None and fields == ("status",):
        return (("status", local.status or None, remote.status if remote else "sold"),)
    if remote is None or remote.values is None:
        return tuple(other)
    row = decode_compared(remote.values)
    if found.values is not None:
        return (*both_versions(decode_compared(found.values), row), *other)
    return (*theirs(ours, row), *other)
