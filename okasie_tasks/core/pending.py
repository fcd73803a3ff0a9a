"""A wish of the urgent lane: one listing to be sent, or marked sold, as soon as there is a permit."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from okasie_tasks.core.ledger_entry import Entry, Flag, Version
from okasie_tasks.core.records import Outgoing

MOST_REFERENCES: Final = 1_000
"""Per message: more than that is a run's work."""


class PendingChange(msgspec.Struct, frozen=True, array_like=True):
    """``item`` is what to send, None for a sell. Times in ms since the epoch, Redis time."""

    reference: str
    own: int
    seen_ms: int
    waiters: tuple[str, ...]
    """The pushes that are to be told what became of it."""
    item: Outgoing | None = None
    status: str = ""
    """The status that the listing is to have."""
    inline: bool = False
    """The content was handed in, not read from the source."""
    tries: int = 0
    """Requests that brought no answer for it."""
    not_before_ms: int = 0
    row_gone: bool = False
    """A read of the source from before it was accepted lacked the row: that absence is spent once this was sent."""

    @property
    def kind(self) -> Literal["push", "sell"]:
        return "sell" if self.item is None else "push"

    @property
    def stamp(self) -> Version:
        return Version(self.own, self.seen_ms)


class PushOutcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of one reference of a push. Told again when it changes: a ``waiting`` one is not over."""

    outcome: str
    """``created``, ``updated``, ``sold``, ``rejected``, ``not_found``, ``overtaken``, ``failed`` or ``waiting``."""
    at_ms: int
    message: str | None = None
    fields: tuple[str, ...] = ()


class Push(msgspec.Struct, kw_only=True):
    """A push as its caller sees it. ``at_ms``: when it was accepted, 0 for not yet."""

    at_ms: int = 0
    error: str | None = None
    outcomes: dict[str, PushOutcome] = {}


def merged(held: PendingChange | None, new: PendingChange) -> PendingChange:
    """What stands of two wishes for one reference: the newer one, and both sets of waiters are told of it."""
    if held is None:
        return new
    last = held if new.stamp.older_than(held.stamp) else new
    waiters = tuple(dict.fromkeys((*held.waiters, *new.waiters)))
    return msgspec.structs.replace(last, waiters=waiters, row_gone=held.row_gone or new.row_gone)


def is_superseded(change: PendingChange, entry: Entry | None) -> bool:
    """Whether the ledger tells of something newer that was sent.

    For a sell only a later push counts: a run that still finds the row in the source says nothing against it.
    """
    if entry is None or (change.kind == "sell" and not entry.has(Flag.URGENT)):
        return False
    return change.stamp.older_than(entry.stamp)


def pushed(change: PendingChange, item: Outgoing, base: Entry | None, *, status: str, now_ms: int) -> Entry:
    """The ledger's entry once a push was accepted by the marketplace."""
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
        status=status,
        flags=flags,
        missed=known.missed if change.inline else 0,
        sent_ms=now_ms,
        version=change.own,
        seen_ms=change.seen_ms,
    )


def sold(change: PendingChange, base: Entry | None, *, now_ms: int) -> Entry:
    """The ledger's entry once a sell was accepted, or there was nothing to sell.

    Also for a reference that the ledger did not know: a run that is under way may be about to create it.
    """
    return (base or Entry()).replace(
        status="sold",
        set_flags=Flag.SOLD_BY_HAND | Flag.URGENT,
        clear=Flag.ECHO_DUE | Flag.RESENT | Flag.REJECTED | Flag.INLINE_CONTENT | Flag.DISPUTED | Flag.REVIVED,
        sent_ms=now_ms,
        version=change.own,
        seen_ms=change.seen_ms,
    )
