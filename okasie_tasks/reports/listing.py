"""What is known about one listing and what happens to it next, as documents that commands print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from okasie_tasks.core.catalog import Titled
from okasie_tasks.core.history import NOT_KEPT, Event
from okasie_tasks.core.ledger_entry import LIVE, Entry, Flag
from okasie_tasks.core.listing import parse_reference
from okasie_tasks.core.pending import PendingChange
from okasie_tasks.core.records import Reject, SkippedImages
from okasie_tasks.sync import plan_review
from okasie_tasks.sync.context import AccountContext, AccountPolicy
from okasie_tasks.sync.rejects import is_free

FLAG_NAMES: Final = {
    Flag.OWNED: "owned",
    Flag.IN_SOURCE: "in_source",
    Flag.ECHO_DUE: "echo_due",
    Flag.RESENT: "resent",
    Flag.REJECTED: "parked",
    Flag.SOLD_BY_HAND: "sold_by_hand",
    Flag.DISPUTED: "disputed",
    Flag.URGENT: "urgent",
    Flag.INLINE_CONTENT: "given",
    Flag.IMAGES: "images",
    Flag.REVIVED: "revived",
    Flag.SELL_IN_DOUBT: "sell_in_doubt",
}
"""The permanent names of a ledger entry's flags in JSON documents."""


def iso(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def why_document(ctx: AccountContext, reference: str) -> dict[str, Any]:
    """Return everything known about one listing. An unknown reference has nulls and no events."""
    entry, reject, change, skipped, link, events = None, None, None, None, None, list[Event]()
    known, plan = Titled(), plan_review.held_plan(ctx)
    held = plan.run if plan and plan.holds_reference(reference) else None
    if parse_reference(reference) == reference:
        entry = ctx.ledger.get([reference]).get(reference)
        reject = ctx.ledger.rejects([reference]).get(reference)
        change = ctx.urgent_queue.waiting([reference]).get(reference)
        skipped = ctx.ledger.skipped([reference]).get(reference)
        link = ctx.history.links([reference]).get(reference)
        events = ctx.history.get(reference)
        known = ctx.ledger.catalog.get([reference]).get(reference, known)
    elif reference:
        rows = ctx.ledger.unreadable_rows().rejects
        reject = next((row for row in rows if row.reference == reference), None)
    _, waiting = ctx.ledger.waiting_sells()
    sell_waits = waiting.reason if reference in waiting.references else None
    return {
        "reference": reference,
        "account": ctx.policy.account,
        "title": known.title or None,
        "vin": known.vin or None,
        "state": _state(entry, reject, change, held),
        "online": is_online(entry),
        "listing_url": link,
        "ledger": _ledger(entry) if entry else None,
        "reject": reject_document(reject, known, online=is_online(entry)) if reject else None,
        "waiting": _waiting(change) if change else None,
        "held_run": held,
        "sell_waits_for": sell_waits,
        "skipped_images": _skipped(skipped) if skipped else None,
        "events": [event_document(event) for event in events],
        "next": _next(ctx, held, change)
        or (f"the source lacks it, but its sell waits: {sell_waits}" if sell_waits and not change else "")
        or next_step(entry, reject, change, events, ctx.policy),
    }


def _state(entry: Entry | None, reject: Reject | None, change: PendingChange | None, held: str | None) -> str:
    """Return the listing's state as in `okasie_tasks.reports.listings`."""
    if change or reject or held:
        return "waiting" if change else "rejected" if reject else "held"
    return "unknown" if entry is None else state_of(entry.status)


def state_of(status: str) -> str:
    """Return the state that a status of the ledger stands for: ``live``, ``sold`` or ``unknown``."""
    return "live" if status in LIVE else status or "unknown"


def _next(ctx: AccountContext, held: str | None, change: PendingChange | None) -> str:
    """Return what an operator must do first; "" if nothing."""
    account = ctx.policy.account
    if change and ctx.runs.controls.paused_ms(account):
        return f"a {change.kind} waits because the account is paused; `okasie resume {account}` resumes it"
    return f"it is held: `okasie approve {held}` sends it" if held and not change else ""


def rejects_document(ctx: AccountContext) -> list[dict[str, Any]]:
    """Return every reject: rows without a readable reference, then listings by reference."""
    listings = sorted(ctx.ledger.all_rejects(), key=lambda reject: reject.reference)
    names = [reject.reference for reject in listings]
    titles, entries = ctx.ledger.catalog.get(names), ctx.ledger.get(names)
    return [reject_document(reject) for reject in ctx.ledger.unreadable_rows().rejects] + [
        reject_document(one, titles.get(one.reference), online=is_online(entries.get(one.reference)))
        for one in listings
    ]


def is_online(entry: Entry | None) -> bool:
    """Return whether the listing has an advert, though its newest content may be rejected or held."""
    return entry is not None and entry.live


def reject_document(reject: Reject, known: Titled | None = None, *, online: bool = False) -> dict[str, Any]:
    """Return one reject. ``state``: ``invalid`` (never sent), ``refused`` or ``free`` (the next run sends it).

    ``online``: its last accepted version still is. ``issues``: what is wrong with an invalid row, with its values.
    ``holds_sells``: its row has no readable reference, so no listing that disappears from the source is sold.
    """
    return {
        "reference": reject.reference,
        "state": "invalid" if not reject.attempts else "free" if is_free(reject) else "refused",
        "where": reject.where,
        "code": reject.code,
        "fields": reject.fields,
        "title": (known.title if known else "") or None,
        "online": online,
        "issues": issues_document(reject),
        "message": reject.message,
        "request_id": reject.request_id,
        "attempts": reject.attempts,
        "first_seen": iso(reject.first_seen * 1000),
        "last_seen": iso(reject.last_seen * 1000),
        "contract": reject.contract or None,
        "holds_sells": reject.unreadable,
    }


def issues_document(reject: Reject) -> list[dict[str, str]]:
    return [dict(zip(("field", "code", "value"), issue, strict=True)) for issue in reject.issues]


def event_document(event: Event) -> dict[str, Any]:
    """Return one event. A value that was not kept is left out; drifts and conflicts have ``ours`` and ``theirs``."""
    names = ("ours", "theirs") if event.kind in ("drift", "conflict") else ("before", "after")
    changes = []
    for field, *values in event.changes:
        kept = {name: value for name, value in zip(names, values, strict=True) if value != NOT_KEPT}
        changes.append({"field": field, **kept})
    return {
        "at": iso(event.at_ms),
        "kind": event.kind,
        "reason": event.reason,
        "by": event.by or None,
        "run": event.run or None,
        "request_id": event.request_id or None,
        "changes": changes,
        "changes_left_out": event.left_out,
        "code": event.code or None,
        "message": event.message or None,
        "warnings": list(event.warnings),
    }


def _ledger(entry: Entry) -> dict[str, Any]:
    flags = {name: entry.has(flag) for flag, name in FLAG_NAMES.items()}
    return {
        "status": entry.status or None,
        **flags,
        "missed_reads": entry.missed,
        "last_sent": iso(entry.sent_ms),
        "changed_there": None if entry.has(Flag.ECHO_DUE) else iso(entry.changed_at * 1000),
    }


def _skipped(skipped: SkippedImages) -> dict[str, Any]:
    return {
        "count": skipped.count,
        "images": [{"source": source, "reason": reason} for source, reason in skipped.images],
        "tries": skipped.tries,
        "next_try": iso(skipped.next_try * 1000),
        "given_up": skipped.given_up,
    }


def _waiting(change: PendingChange) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "status": change.status or None,
        "accepted": iso(change.seen_ms),
        "tries": change.tries,
        "not_before": iso(change.not_before_ms),
    }


# -- what happens next ---------------------------------------------------------------------------------------------


def next_step(
    entry: Entry | None,
    reject: Reject | None,
    change: PendingChange | None,
    events: Sequence[Event],
    policy: AccountPolicy,
) -> str:
    """Return one sentence: what happens next, unless an operator acts."""
    if change is not None:
        again = f" again, after {change.tries} failed attempts" if change.tries else ""
        return f"a {change.kind} waits and is sent{again} as soon as a permit is available"
    if reject is not None:
        return _while_rejected(reject, policy, is_known=entry is not None)
    if entry is None:
        return "the next run decides" if events else "unknown reference; a run that finds it decides"
    if entry.status == "sold":
        return _after_a_sale(entry, events)
    return _while_listed(entry, policy)


def _while_rejected(reject: Reject, policy: AccountPolicy, *, is_known: bool) -> str:
    if reject.unreadable:
        return "its row has no readable reference: until it is fixed or removed, no listing that disappears is sold"
    if not reject.attempts and not is_known:
        return "its row is invalid and it was never sent: it is sent once the row is fixed"
    if not reject.attempts:
        return "its row is invalid: nothing is sent until the row is fixed; the marketplace keeps its version"
    if is_free(reject):
        return "it was refused and released for a retry: the next run sends it"
    command = f"`okasie retry {policy.account} {reject.reference}`"
    return f"it is rejected: nothing is sent until its content changes, or {command}"


def _after_a_sale(entry: Entry, events: Sequence[Event]) -> str:
    if entry.has(Flag.SOLD_BY_HAND) and entry.has(Flag.IN_SOURCE):
        return "sold manually: stays sold while its row is in the source; push it to list it again"
    if entry.has(Flag.IN_SOURCE) and events and events[0].kind == "conflict":
        return "sold on the marketplace: stays sold until its row changes or it is pushed"
    return "sold: nothing is sent unless its row reappears or it is pushed"


def _while_listed(entry: Entry, policy: AccountPolicy) -> str:
    if entry.has(Flag.DISPUTED):
        return (
            "the marketplace keeps a price, status or mileage that differs from ours: an operator must check it there"
        )
    if entry.has(Flag.INLINE_CONTENT):
        return "the pushed content stays until its row changes or it is pushed again"
    if not entry.has(Flag.IN_SOURCE):
        return "it is not in the source: it stays listed until it is pushed or sold, or its row appears"
    if entry.missed:
        return (
            f"{entry.missed} complete reads of the source did not contain it: after {policy.missing_reads} it is marked"
            " sold, if sells are allowed and not held"
        )
    if entry.has(Flag.ECHO_DUE):
        return "the next run reads back how the marketplace stored it; the next change of its row is sent"
    return "nothing is sent until its row changes or it is edited on the marketplace"
