"""A pending change of the urgent lane: one listing to send, or mark sold, once a permit is granted."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from okasie_tasks.core.ledger_entry import Entry, Flag, Version
from okasie_tasks.core.records import Outgoing

MOST_REFERENCES: Final = 1_000
"""Per message; larger changes are left to a run."""


class PendingChange(msgspec.Struct, frozen=True, array_like=True):
    """One change waiting to be sent. ``item``: what to send, None for a sell. Times in ms, Redis time."""

    reference: str
    own: int
    seen_ms: int
    waiters: tuple[str, ...]
    """The ids of the pushes that receive its outcome."""
    item: Outgoing | None = None
    status: str = ""
    """The status that the listing will have."""
    inline: bool = False
    """The content was pushed inline, not read from the source."""
    tries: int = 0
    """Requests that brought no response for it."""
    not_before_ms: int = 0
    row_gone: bool = False
    """A source read that began before it was accepted lacked the row; sending it uses up that absence."""
    failed_ms: int = 0
    """When a request for it first failed; 0 if none has."""
    warnings: tuple[str, ...] = ()
    """What was left out of the listing or cut."""
    by: str = ""
    """Who pushed or sold it."""
    asked_ms: int = 0
    """When its producer stored the request. The content of a push by reference is newer: as new as the read."""

    @property
    def kind(self) -> Literal["push", "sell"]:
        return "sell" if self.item is None else "push"

    @property
    def stamp(self) -> Version:
        return Version(self.own, self.seen_ms)


class PushOutcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The outcome of one reference of a push. Recorded again when it changes; ``waiting`` is not final."""

    outcome: str
    """``created``, ``updated``, ``sold``, ``rejected``, ``not_found``, ``overtaken``, ``failed`` or ``waiting``."""
    at_ms: int
    message: str | None = None
    fields: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What was left out of the listing or cut."""


class Push(msgspec.Struct, kw_only=True):
    """A push as its caller sees it. ``at_ms``: when it was accepted; 0 if it was not yet."""

    at_ms: int = 0
    error: str | None = None
    outcomes: dict[str, PushOutcome] = {}


def merged(held: PendingChange | None, new: PendingChange) -> PendingChange:
    """Merge two changes of one reference: the newer one is kept, and the waiters of both receive its outcome."""
    if held is None:
        return new
    last = held if _is_older(new, held) else new
    waiters = tuple(dict.fromkeys((*held.waiters, *new.waiters)))
    return msgspec.structs.replace(last, waiters=waiters, row_gone=held.row_gone or new.row_gone)


def _is_older(change: PendingChange, other: PendingChange) -> bool:
    """Return whether ``other`` is the newer one. Between a push and a sell, the order of the requests decides."""
    if change.kind != other.kind and change.asked_ms and other.asked_ms:
        return change.asked_ms < other.asked_ms
    return change.stamp.older_than(other.stamp)


def is_superseded(change: PendingChange, entry: Entry | None, *, pushed_ms: int = 0) -> bool:
    """Return whether the ledger shows that something newer was sent.

    Only a later push supersedes a sell; a run that still finds the row in the source does not. ``pushed_ms``: when the
    push by reference that was sent last was requested; 0 if that is not known.
    """
    if entry is None or (change.kind == "sell" and not entry.has(Flag.URGENT)):
        return False
    if change.asked_ms and change.kind == "sell" and pushed_ms:
        return change.asked_ms < pushed_ms
    if change.asked_ms and change.kind == "push" and entry.has(Flag.SOLD_BY_HAND):
        return change.asked_ms < entry.seen_ms
    return change.stamp.older_than(entry.stamp)


def pushed(change: PendingChange, item: Outgoing, base: Entry | None, *, status: str, now_ms: int) -> Entry:
    """Return the ledger entry after the marketplace accepted a push."""
    flags = Flag.OWNED | Flag.ECHO_DUE | Flag.URGENT
    if change.inline:
        flags |= Flag.INLINE_CONTENT | (base.flags & Flag.IN_SOURCE if base and not change.row_gone else Flag(0))
    else:
        flags |= Flag.IN_SOURCE
    known = base or Entry()
    return Entry(
        content=item.content,
        rendering=item.rendering,
        row=known.row if change.inline else item.row,
        dealer=item.dealer,
        filled=item.filled,
        price=item.price,
        status=status,
        changed_at=known.known_at,
        flags=flags,
        missed=known.missed if change.inline else 0,
        sent_ms=now_ms,
        version=change.own,
        seen_ms=change.seen_ms,
    )


def sold(change: PendingChange, base: Entry | None, *, now_ms: int) -> Entry:
    """Return the ledger entry after a sell was accepted, or there was nothing to sell.

    A reference unknown to the ledger gets an entry too, because a run in progress may be about to create it.
    """
    known = base or Entry()
    return known.replace(
        status="sold",
        changed_at=known.known_at,
        set_flags=Flag.SOLD_BY_HAND | Flag.URGENT,
        clear=Flag.ECHO_DUE
        | Flag.RESENT
        | Flag.REJECTED
        | Flag.INLINE_CONTENT
        | Flag.DISPUTED
        | Flag.REVIVED
        | Flag.SELL_IN_DOUBT,
        sent_ms=now_ms,
        version=change.own,
        seen_ms=change.seen_ms,
    )
