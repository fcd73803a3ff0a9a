"""Adds events to the history of listings: what was sent, sold, refused or found changed.

Each call is one round trip to Redis for a whole chunk. A call that records changed values reads the previous snapshots
first, in another round trip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from logging import ERROR, INFO, WARNING
from typing import Any, NamedTuple

import msgspec

from okasie_tasks.core.decision import Decision
from okasie_tasks.core.fingerprint import COMPARED_FIELDS, decode_compared
from okasie_tasks.core.history import NOT_KEPT, Change, Event, both_versions, fit
from okasie_tasks.core.ledger_entry import Entry, Flag, answered_status
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import Local, Outgoing, Reject, Remote
from okasie_tasks.core.snapshot import Snapshot, diff, theirs
from okasie_tasks.errors import RetryLater
from okasie_tasks.logs import each, get_logger
from okasie_tasks.ports import ItemAnswer
from okasie_tasks.store.history import Row
from okasie_tasks.sync.approvals import approval_of
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
) -> list[Row]:
    """Return the events of listings that a run created or updated: reason, changed fields and who approved them."""
    approval, made = approval_of(ctx, run), dict[tuple[str, str, str], Event]()
    events = []
    for item, answer in accepted:
        kind, by = "created" if item.action == "create" else "updated", approval.of(item.reference, item.action)
        key = (kind, item.reason, by)
        if (event := made.get(key)) is None:  # the events of a first sync are all alike
            event = made[key] = Event(now_ms, kind, item.reason, run, request_id, by=by)
        events.append((item, event, answer))
    return _written(ctx, events, base, now_ms)


def record_pushed(
    ctx: AccountContext,
    accepted: Sequence[tuple[tuple[bytes, PendingChange], Outgoing, ItemAnswer]],
    base: Mapping[str, Entry],
    *,
    request_id: str,
    now_ms: int,
) -> None:
    """Record listings that the urgent lane created or updated."""
    events = []
    for (_, change), item, answer in accepted:
        outcome = "created" if answer.created else "updated"
        origin = "inline content" if change.inline else "from the source"
        reason = f"{outcome} by a push, {origin}"
        event = Event(now_ms, "pushed", reason, request_id=request_id, warnings=change.warnings, by=change.by)
        events.append((item, event, answer))
    ctx.history.sent(_written(ctx, events, base, now_ms))


def _written(
    ctx: AccountContext, events: Sequence[tuple[Outgoing, Event, ItemAnswer]], base: Mapping[str, Entry], now_ms: int
) -> list[Row]:
    known = [item.reference for item, _, _ in events if item.reference in base]
    before = ctx.history.snapshots(known, now_ms=now_ms)
    rows: list[Row] = []
    for item, event, answer in events:
        earlier, changes = before.get(item.reference), tuple[Change, ...]()
        if earlier is not None or not item.snapshot:
            body: dict[str, Any] = msgspec.json.decode(item.body)
            entry = base.get(item.reference)
            after = Snapshot.of(body)
            changes = diff(earlier, body, after=after, status=entry.status if entry else "")
        odd = f"answered with status {answer.status}" if not answered_status(answer.status, "active") else None
        warnings = (*(text for text in (odd, skipped_images(answer)) if text), *event.warnings)
        full = msgspec.structs.replace(event, changes=changes, warnings=warnings) if changes or warnings else event
        rows.append((item.reference, full, item.snapshot or after.pack()))
    return rows


def skipped_images(answer: ItemAnswer) -> str | None:
    """Return a text with the number of skipped images and the reason of the first; None if no image was skipped."""
    count = len(answer.skipped_images)
    return f"{count} of its images were skipped: {answer.skipped_images[0].reason}" if count else None


def record_sold(
    ctx: AccountContext, reference: str, event: Event, entry: Entry | None, *, status: str = "sold"
) -> None:
    """Record a listing that was marked sold. ``entry``: its ledger entry before."""
    changes = (("status", (entry and entry.status) or None, status),)
    ctx.history.add([(reference, msgspec.structs.replace(event, changes=changes))])


def record_refused(ctx: AccountContext, rejects: Sequence[tuple[Reject, str]], *, by: str = "") -> None:
    """Record listings that the marketplace refused, each with the run that sent it; "" for the urgent lane.

    ``by``: who pushed or sold them.
    """
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
                by=by,
            ),
        )
        for reject, run in rejects
    )


def record_failed(ctx: AccountContext, reference: str, reason: str, error: RetryLater, *, run: str) -> None:
    """Record that a listing could not be written in a run, with the message of the last try."""
    event = Event(ctx.runs.now_ms(), "failed", reason, run, code=error.code, message=error.message)
    ctx.history.add([(reference, event)])


def record_given_up(ctx: AccountContext, changes: Sequence[tuple[PendingChange, str]], *, now_ms: int) -> None:
    """Record and log changes that the urgent lane has given up, each with the message of its last try."""
    ctx.history.add(
        (change.reference, Event(now_ms, "failed", f"the {change.kind} was given up", message=message, by=change.by))
        for change, message in changes
    )
    account = ctx.policy.account
    lines = [
        {"account": account, "reference": change.reference, "kind": change.kind, "reason": message}
        for change, message in changes
    ]
    each(log, ERROR, "given up", lines)


# -- drifts and conflicts ------------------------------------------------------------------------------------------


class Finding(NamedTuple):
    """A drift or a conflict, with the records it was decided from."""

    reference: str
    decision: Decision
    local: Local | None
    remote: Remote | None
    base: Entry | None

    @property
    def values(self) -> bytes | None:
        """Our values: those of the source row. None while inline content replaces an unchanged row."""
        if self.local is None:
            return None
        inline = self.base is not None and self.base.has(Flag.INLINE_CONTENT) and self.local.content == self.base.row
        return None if inline else self.local.values


def is_finding(decision: Decision, base: Entry | None) -> bool:
    """Return whether the decision is a drift or a conflict. An ongoing conflict was recorded when it began."""
    if decision.count not in ("drifted", "conflicts"):
        return False
    ongoing = base is not None and base.has(Flag.DISPUTED) and decision.action == "none" and not decision.fields
    return not ongoing


def record_findings(ctx: AccountContext, findings: Sequence[Finding], *, run: str) -> None:
    """Record and log drifts and conflicts with both versions. Skip one that equals the listing's latest event."""
    if not findings:
        return
    now_ms = ctx.runs.now_ms()
    references = [finding.reference for finding in findings]
    newest = ctx.history.latest(references, now_ms=now_ms)
    ours = ctx.history.snapshots([f.reference for f in findings if _needs_our_snapshot(f)], now_ms=now_ms)
    fresh = []
    for finding in findings:
        kind = "drift" if finding.decision.count == "drifted" else "conflict"
        changes = _both(finding, ours.get(finding.reference))
        event = fit(Event(now_ms, kind, finding.decision.reason, run, changes=changes))
        if not event.same_as(newest.get(finding.reference)):
            fresh.append((finding.reference, event))
    # The conflict log first: if the part is repeated, a conflict may be recorded twice but is never lost.
    ctx.history.conflict(fresh)
    ctx.history.add(fresh)
    for kind in ("drift", "conflict"):
        context = {"account": ctx.policy.account, "run": run}
        lines = [{**context, "reference": name, "reason": event.reason} for name, event in fresh if event.kind == kind]
        each(log, INFO if kind == "drift" else WARNING, kind, lines)


class Warned(NamedTuple):
    """The warnings of one listing. ``ours``: what was left out of its source row or cut; ``theirs``: "" for none."""

    reference: str
    ours: tuple[str, ...] = ()
    theirs: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        return (*self.ours, self.theirs) if self.theirs else self.ours


def record_warnings(ctx: AccountContext, warnings: Sequence[Warned], *, run: str) -> None:
    """Record and log the warnings of listings, one event per listing. Skip one that the latest event reports."""
    if not warnings:
        return
    now_ms = ctx.runs.now_ms()
    newest = ctx.history.latest([warned.reference for warned in warnings], now_ms=now_ms)
    fresh = []
    for warned in warnings:
        texts = warned.texts
        alone = len(texts) == 1
        reason = texts[0] if alone else f"{len(texts)} warnings"
        event = fit(Event(now_ms, "warning", reason, run, warnings=() if alone else texts))
        if not event.same_as(newest.get(warned.reference)):
            fresh.append((warned, event))
    ctx.history.add((warned.reference, event) for warned, event in fresh)
    context = {"account": ctx.policy.account, "run": run}
    ours = [{**context, "reference": one.reference, "reason": "; ".join(one.ours)} for one, _ in fresh if one.ours]
    theirs = [{**context, "reference": one.reference, "reason": one.theirs} for one, _ in fresh if one.theirs]
    each(log, WARNING, "value left out", ours)
    each(log, WARNING, "odd row of the marketplace", theirs)


def _needs_our_snapshot(finding: Finding) -> bool:
    """Return whether our values must be read from the history: the record of an unchanged row has none."""
    return finding.remote is not None and finding.remote.values is not None and finding.values is None


def _both(finding: Finding, ours: Snapshot | None) -> tuple[Change, ...]:
    """Return (field, ours, theirs) for each field that differs."""
    local, remote, fields = finding.local, finding.remote, finding.decision.fields
    other: list[Change] = [(name, NOT_KEPT, NOT_KEPT) for name in fields if name not in (*COMPARED_FIELDS, "unknown")]
    if local is not None and fields == ("status",):
        return (("status", local.status or None, remote.status if remote else "sold"),)
    if remote is None or remote.values is None:
        return tuple(other)
    row = decode_compared(remote.values)
    if finding.values is not None:
        return (*both_versions(decode_compared(finding.values), row), *other)
    return (*theirs(ours, row), *other)
